"""The commands, one file each, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AdapterFiles = Annotated[
    list[str],
    typer.Option(
        "--adapter",
        metavar="FILE_OR_ID[:WEIGHT]",
        help="An adapter (LoRA, LyCORIS, textual inversion): a file, a folder, or owner/name[@revision][/file] on the"
        " Hugging Face hub; repeatable. [default weight: what its card recommends, or 1]",
    ),
]

VaeOption = Annotated[
    str | None,
    typer.Option(
        "--vae",
        metavar="FILE_OR_FOLDER_OR_ID",
        help="The autoencoder to use instead of the model's: a file, a folder, or owner/name on the hub.",
    ),
]

AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Read weights from PyTorch's pickles (.bin, .pt, .ckpt) where there are no others,"
        " without running any code that is in them.",
    ),
]


def parse_adapter(text: str) -> tuple[Path, float | None]:
    """`style.safetensors:0.8` -> the path or hub id, and the weight; None if the text has none."""
    path, _, weight = text.rpartition(":")
    if not path or Path(text).exists():
        return Path(text), None
    try:
        return Path(path), float(weight)
    except ValueError:
        return Path(text), None
