"""The commands, one file each, and what several of them share: the option --adapter and its parser."""

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


def parse_adapter(text: str) -> tuple[Path, float]:
    """`style.safetensors:0.8` -> the path and the weight; 1 if the text has none."""
    path, _, weight = text.rpartition(":")
    if not path or Path(text).exists():
        return Path(text), 1.0
    try:
        return Path(path), float(weight)
    except ValueError:
        return Path(text), 1.0
