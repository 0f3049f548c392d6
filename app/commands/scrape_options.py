"""The options that several commands of `genmoji scrape` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="The folder to write.")]
Size = Annotated[int, typer.Option(help="Width and height of the pictures, in pixels.")]
Margin = Annotated[float, typer.Option(help="White margin at each side, as a fraction of the size.")]
KeepOriginals = Annotated[
    bool, typer.Option("--keep-originals", help="Keep the fetched pictures too, in DATASET/originals.")
]
Emojibase = Annotated[
    Path | None, typer.Option(help="The npm package emojibase-data, as a tarball or folder. [default: fetch it]")
]
