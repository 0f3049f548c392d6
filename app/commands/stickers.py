"""`genmoji stickers`: pictures in, what messengers, phones and web pages take out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError, quoted


def stickers(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES...",
            show_default=False,
            help="PNG, JPEG or WebP files: figures on white, or with a transparency of their own, which is kept.",
        ),
    ] = None,
    kinds: Annotated[
        list[str],
        typer.Option(
            "--for",
            metavar="TARGET",
            help="Where the stickers are to go, such as slack; repeatable. `list` lists them.",
        ),
    ] = [],  # noqa: B006
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write to; made where it is missing.")
    ] = Path(),
) -> None:
    """Turn pictures into stickers for Slack, Discord, Telegram, WhatsApp, iMessage, iOS or a web page."""
    from mlx_genmoji.files import write_bytes
    from mlx_genmoji.pictures import open_picture
    from mlx_genmoji.sticker import Sticker, target_named

    if "list" in kinds:
        for line in table():
            typer.echo(line)
        return
    if not kinds:
        raise UserError(
            "Say where the stickers are to go, with --for slack, for example; --for list lists all targets."
        )
    if not images:
        raise UserError("Give the pictures to turn into stickers.")
    for kind in kinds:
        target_named(kind)
    planned = plan(images, list(dict.fromkeys(kinds)))
    if output.exists() and not output.is_dir():
        raise UserError(f"{quoted(output)} is no folder; give --output another name.")
    output.mkdir(parents=True, exist_ok=True)
    for image, exports in planned.items():
        sticker = Sticker(open_picture(image))
        for kind, file in exports.items():
            try:
                data = sticker.export_file(kind, image.stem)[1]
            except UserError as error:
                raise UserError(f"{quoted(image)} for {kind}: {error}") from None
            write_bytes(output / file, data)
            typer.echo(output / file)


def plan(images: list[Path], kinds: list[str]) -> dict[Path, dict[str, str]]:
    """The names of the files that each picture becomes. Raises UserError where two would have one name."""
    planned: dict[Path, dict[str, str]] = {}
    taken: dict[str, Path] = {}
    for image in dict.fromkeys(images):
        planned[image] = {kind: file_name(image.stem, kind) for kind in kinds}
        other = taken.setdefault(image.stem.casefold(), image)
        if other != image:
            raise UserError(f"{quoted(other)} and {quoted(image)} have one name; rename one, or take them in turn.")
    return planned


def file_name(stem: str, kind: str) -> str:
    """What the sticker `stem` for `kind` is called: pig -> pig-slack.png."""
    from mlx_genmoji.sticker import target_named

    return f"{stem}-{kind}{target_named(kind).suffix}"


def table() -> list[str]:
    """The targets, a line each: name, what it is, pixels and limits."""
    from mlx_genmoji.sticker import TARGETS

    return [
        f"{kind:16} {target.title}: "
        + ", ".join(
            f"{output.format} {output.side} px, {output.most_bytes:,} bytes at most" for output in target.outputs
        )
        for kind, target in TARGETS.items()
    ]
