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
            help='A model to choose in the page, as for genmoji generate, or "builtin"; repeatable, the first is drawn'
            " with unless another is chosen. [default: the built-in one]",
        ),
    ] = [],  # noqa: B006
    adapters: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder of adapters to choose from, by name.")
    ] = None,
    rewrite: Annotated[
        str, typer.Option(metavar="MODEL|none", help="A language model that plans, as for genmoji generate.")
    ] = "none",
    preview: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            help="A small autoencoder (TAESD) for the live previews. [default: the model's own autoencoder]",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of this machine that the page is at.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Let others in, by an address of Gradio's service that leads here.")
    ] = False,
) -> None:
    """Serve the demo: a page in the browser, and an endpoint for programs."""
    from ..demo.server import serve

    serve(model, adapters, None if rewrite == "none" else rewrite, preview, port, share)
