"""The options by which commands are given adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AdapterFiles = Annotated[
    list[str],
    typer.Option(
        "--adapter",
        metavar="FILE[:WEIGHT]",
        help="An adapter (LoRA): kohya's or diffusers' .safetensors, or PEFT's folder; repeatable.",
    ),
]


def parse_adapter(text: str) -> tuple[Path, float]:
    """`style.safetensors:0.8` -> its path and weight, which is 1 where not said."""
    path, _, weight = text.rpartition(":")
    if not path or Path(text).exists():
        return Path(text), 1.0
    try:
        return Path(path), float(weight)
    except ValueError:
        return Path(text), 1.0
