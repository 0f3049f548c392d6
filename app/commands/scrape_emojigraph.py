"""`genmoji scrape emojigraph`: options in, a crawl of emojigraph.org by the package `scrape`, its report out."""

from __future__ import annotations

from typing import Annotated

import typer

from .scrape_options import Emojibase, KeepOriginals, Margin, Output, Size

INCOMPLETE = 3


def emojigraph(
    output: Output,
    vendor: Annotated[str, typer.Option(help="The vendor whose emoji to collect, as the site spells it.")] = "apple",
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="A site with emojigraph.org's layout.")
    ] = "https://emojigraph.org",
    rate: Annotated[
        float, typer.Option(help="At most this many requests per second, fewer if robots.txt asks for it; 0: no limit.")
    ] = 1.5,
    concurrency: Annotated[int, typer.Option(help="At most this many requests at the same time.")] = 4,
    size: Size = 256,
    margin: Margin = 0.0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Collect only the first N pictures of the list. [default: all]")
    ] = None,
    keep_originals: KeepOriginals = False,
    descriptions: Annotated[
        bool, typer.Option(help="Fetch each emoji's page for its description, which doubles the requests.")
    ] = True,
    accept_fewer: Annotated[
        bool,
        typer.Option(
            "--accept-fewer", help="Go on, and remove pictures, though the list lacks over a tenth of those in DATASET."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the list, print what it holds, and write nothing.")
    ] = False,
    contact: Annotated[
        str, typer.Option(help="How the site's owner reaches you (an address, a page); sent in the User-Agent.")
    ] = "the mlx-genmoji project",
    emojibase: Emojibase = None,
) -> None:
    """Collect the emoji of a vendor from emojigraph.org, politely; the vendor owns the art.

    Run the same command again to continue an interrupted collection, or to fetch what has changed since. Pictures that
    could not be fetched are listed in DATASET/failures.jsonl. Exit codes: 0, complete; 3, some pictures failed; 2,
    nothing could be done.
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
