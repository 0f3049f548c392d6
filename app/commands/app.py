"""`genmoji app`: the demo in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def app(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="FOLDER_OR_ID",
            help="A model that visitors can choose, as for genmoji generate; repeatable, the first is the default."
            " [default: builtin]",
        ),
    ] = [],  # noqa: B006
    adapters: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder of adapters that visitors can choose by name.")
    ] = None,
    rewrite: Annotated[
        str,
        typer.Option(
            metavar="MODEL|none", help="A language model that adds details to prompts, as for genmoji generate."
        ),
    ] = "none",
    preview: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            help="A small autoencoder (TAESD) for the live previews. [default: the model's own autoencoder]",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to serve the page at.")] = 7860,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="The address to listen at; 0.0.0.0 lets in the local network."),
    ] = "127.0.0.1",
    root_path: Annotated[
        str, typer.Option(metavar="PATH_OR_URL", help="Where a proxy serves the page: https://example.org/genmoji.")
    ] = "",
    auth: Annotated[str, typer.Option(metavar="USER:PASSWORD", help="What visitors have to log in with.")] = "",
    share: Annotated[
        bool, typer.Option("--share", help="Let others in, through a public address of Gradio's service.")
    ] = False,
) -> None:
    """Serve the demo: a page in the browser, and an endpoint for programs.

    For example: genmoji app --model builtin --model sdxl-emoji
    """
    from ..demo.server import Place, serve

    place = Place(host, root_path, auth)
    place.account()
    serve(model, adapters, None if rewrite == "none" else rewrite, preview, port, share, place)
