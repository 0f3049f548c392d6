"""The commands, one file each, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AdapterFiles = Annotated[
    list[str],
    typer.Option(
        "--adapter",
        metavar="FILE[:WEIGHT]",
        help="An adapter (LoRA): a .safetensors file of kohya or diffusers, or a folder of PEFT; repeatable.",
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
        help="Read PyTorch's files (.ckpt, .bin, .pt) where there are no others. Nothing in them is run.",
    ),
]


def parse_adapter(text: str) -> tuple[Path, float]:
    """`style.safetensors:0.8` -> the path and the weight; 1 if the text has none."""
    path, _, weight = text.rpartition(":")
    if not path or Path(text).exists():
        return Path(text), 1.0
    try:
        return Path(path), float(weight)
    except ValueError:
        return Path(text), 1.0
