"""`genmoji stickers`: pictures in, files for messengers, phones and web pages out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError, quoted

from ..generating import sticker_file_name, targets_named


def stickers(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES...",
            show_default=False,
            help="Pictures: figures on white or another single colour, or with transparency, which is kept.",
        ),
    ] = None,
    targets: Annotated[
        list[str],
        typer.Option(
            "--for",
            metavar="TARGET",
            help="What the stickers are for, such as slack; repeatable. `list` lists all targets.",
        ),
    ] = [],  # noqa: B006
    animate: Annotated[
        str | None,
        typer.Option(
            metavar="<wiggle|bounce|float|blink>", help="Write animated stickers: the whole figure moves, and loops."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write to; created if missing.")
    ] = Path(),
) -> None:
    """Turn pictures into stickers for Slack, Discord, Telegram, WhatsApp, Signal, iMessage, iOS or a web page.

    For example: genmoji stickers flying-pig.png --for slack --for telegram -o stickers
    """
    from mlx_genmoji.files import write_bytes
    from mlx_genmoji.pictures import has_transparency
    from mlx_genmoji.sticker import Sticker

    if "list" in targets:
        for line in table():
            typer.echo(line)
        return
    if not targets or not images:
        missing = "the pictures to turn into stickers" if targets else "what they are for: --for slack, or --for list"
        raise UserError(f"Give {missing}.")
    chosen = targets_named(targets, animate)
    planned = plan(images, chosen, animate)
    if output.exists() and not output.is_dir():
        raise UserError(f"{quoted(output)} is not a folder; give --output another name.")
    output.mkdir(parents=True, exist_ok=True)
    for image, files in planned.items():
        sticker = Sticker.open(image)
        if not has_transparency(sticker.cutout()):
            why = "its background is neither white nor of one colour, so nothing was cut out"
            print(f"genmoji: {quoted(image)}: {why}.", file=sys.stderr)
        for target, file in files.items():
            try:
                exported = sticker.export_file(target, image.stem)[1] if animate is None else None
                data = exported or sticker.animated(str(animate), target=target)
            except UserError as error:
                raise UserError(f"{quoted(image)} for {target}: {error}") from None
            write_bytes(output / file, data)
            typer.echo(output / file)


def plan(images: list[Path], targets: Sequence[str], animate: str | None = None) -> dict[Path, dict[str, str]]:
    """For each picture the file to write for each target. Raises UserError if two pictures would share a name."""
    planned: dict[Path, dict[str, str]] = {}
    by_stem: dict[str, Path] = {}
    for image in dict.fromkeys(images):
        planned[image] = {target: sticker_file_name(image.stem, target, animate) for target in targets}
        other = by_stem.setdefault(image.stem.casefold(), image)
        if other != image:
            raise UserError(
                f"{quoted(other)} and {quoted(image)} would have the same file names; rename one, or convert them"
                " one after the other."
            )
    return planned


def table() -> list[str]:
    """A line for each target: its name, title, and the size and limit of its files."""
    from mlx_genmoji.sticker import TARGETS

    return [
        f"{name:16} {target.title}: "
        + ", ".join(
            f"{output.format} {output.side} px, {output.max_bytes:,} bytes at most" for output in target.outputs
        )
        for name, target in TARGETS.items()
    ]
