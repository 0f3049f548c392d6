"""`genmoji scrape emojigraph`: the crawler's command."""

from __future__ import annotations

from typing import Annotated

import typer

from .scrape_options import Emojibase, KeepOriginals, Margin, Output, Size

INCOMPLETE = 3


def emojigraph(
    output: Output,
    vendor: Annotated[str, typer.Option(help="Whose emoji to collect, as the site spells it.")] = "apple",
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="A site with emojigraph.org's layout.")
    ] = "https://emojigraph.org",
    rate: Annotated[
        float, typer.Option(help="The most requests a second, unless robots.txt asks for fewer; 0: no limit.")
    ] = 1.5,
    concurrency: Annotated[int, typer.Option(help="How many requests may be under way at once.")] = 4,
    size: Size = 256,
    margin: Margin = 0.0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Collect the first N pictures of the list only. [default: all]")
    ] = None,
    keep_originals: KeepOriginals = False,
    descriptions: Annotated[
        bool, typer.Option(help="Fetch the page of each emoji for its description: twice the requests.")
    ] = True,
    accept_fewer: Annotated[
        bool,
        typer.Option(
            "--accept-fewer", help="Go on, and remove pictures, though the list lacks over a tenth of those in DATASET."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the list, say what there is to collect, and write nothing.")
    ] = False,
    contact: Annotated[
        str, typer.Option(help="Where the site's owner reaches you (an address, a page): goes into the User-Agent.")
    ] = "the mlx-genmoji project",
    emojibase: Emojibase = None,
) -> None:
    """Collect the emoji of a vendor from emojigraph.org, politely; whoever drew the art owns it.

    Stopped at any moment, the same command goes on; once done, it fetches what has changed. What could not be had is
    in DATASET/failures.jsonl. Exit code 0: all is there; 3: something failed; 2: nothing could be done.
    """
    from scrape import collect_emojigraph

    report = collect_emojigraph(
        output,
        vendor=vendor,
        base_url=base_url,
        rate=rate,
        concurrency=concurrency,
        size=size,
        margin=margin,
        limit=limit,
        keep_originals=keep_originals,
        descriptions=descriptions,
        accept_fewer=accept_fewer,
        dry_run=dry_run,
        contact=contact,
        emojibase=emojibase,
    )
    typer.echo(report)
    if not report.complete:
        raise typer.Exit(INCOMPLETE)
