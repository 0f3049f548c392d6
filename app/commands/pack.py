"""`genmoji pack`: a subject in, a sticker pack for messengers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_genmoji.errors import UserError
from mlx_genmoji.prompt.lexicon import SkinTone

from ..generating import slug
from . import AdapterFiles, parse_adapter

if TYPE_CHECKING:
    from mlx_genmoji.packs.make import Progress


def pack(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="SUBJECT", show_default=False, help='Whom the stickers show, in quotes: "orange cat".'),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The folder of the pack, new or empty; one that holds this pack already is completed."
            " [default: the subject's words]",
        ),
    ] = None,
    messengers: Annotated[
        list[str],
        typer.Option(
            "--for",
            metavar="MESSENGER",
            help="telegram, whatsapp, signal, discord or slack; repeatable. [default: all of them]",
        ),
    ] = [],  # noqa: B006
    moods: Annotated[
        list[str],
        typer.Option(
            "--moods",
            metavar="MOODS",
            help="Names with commas between them, such as hello,love,party; `all`; or `list` to list them."
            " [default: the first sixteen]",
        ),
    ] = [],  # noqa: B006
    title: Annotated[str | None, typer.Option(help="The pack's title. [default: the subject]")] = None,
    author: Annotated[str, typer.Option(help="The author that messengers show.")] = "genmoji",
    seed: Annotated[
        int | None, typer.Option(help="The same seed draws the same pack. [default: random, or the pack's own]")
    ] = None,
    skin_tone: Annotated[
        SkinTone | None, typer.Option(case_sensitive=False, help="Skin tone of the people in the pictures.")
    ] = None,
    person_type: Annotated[str | None, typer.Option(help="Who the people are: man, woman, girl, old man...")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="FOLDER_OR_ID", help="The model, as genmoji generate takes it. [default: builtin]"),
    ] = None,
    adapter: AdapterFiles = [],  # noqa: B006
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt. [default: the model's]")
    ] = None,
) -> None:
    """Draw SUBJECT in many moods, as a sticker pack for Telegram, WhatsApp, Signal, Discord or Slack.

    For example: genmoji pack cat -o cats
    """
    from mlx_genmoji.packs.moods import DEFAULT_MOODS, MOODS, moods_named

    names = [name for text in moods for name in text.split(",") if name.strip()]
    if "list" in names:
        for mood in MOODS:
            typer.echo(f"{mood.emoji} {mood.name:14}{'' if mood.name in DEFAULT_MOODS else ' not by default'}".rstrip())
        return
    if not subject:
        raise UserError('Give a SUBJECT, such as "orange cat".')
    chosen = moods_named(names or None)
    from mlx_genmoji.packs.messengers import MESSENGERS, messengers_named

    wanted = messengers_named(messengers, len(chosen)) if messengers else None
    # Imported after the mistakes that need no model.
    from mlx_genmoji import Genmoji, make_pack

    genmoji = Genmoji.load(model, adapters=[parse_adapter(text) for text in adapter])
    with progress_bar(len(chosen)) as callback:
        made = make_pack(
            genmoji,
            subject,
            output or Path(f"{slug(subject)}-pack"),
            messengers=wanted,
            moods=[mood.name for mood in chosen],
            title=title,
            author=author,
            seed=seed,
            callback=callback,
            skin_tone=skin_tone,
            person_type=person_type,
            steps=steps,
            guidance=guidance,
        )
    for note in made.notes:
        typer.echo(f"genmoji: {note}", err=True)
    typer.echo(made.sheet)
    for name, folder in made.folders.items():
        typer.echo(folder)
        typer.echo(f"genmoji: {MESSENGERS[name].title}: {MESSENGERS[name].hint}.", err=True)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Progress], Any]]:
    """A progress bar on stderr if that is a terminal; yields the callback of `make_pack` that moves it."""
    from tqdm import tqdm

    with tqdm(total=total, disable=None, leave=False, unit="sticker") as bar:

        def show(progress: Progress) -> None:
            bar.set_postfix_str(progress.mood, refresh=False)
            if progress.sticker is not None:
                bar.total = progress.total
                bar.update()

        yield show
