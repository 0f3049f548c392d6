"""`genmoji show`: how a sticker was drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def show(
    png: Annotated[Path, typer.Argument(metavar="PNG", help="A sticker that genmoji drew, saved as PNG.")],
) -> None:
    """Print how the sticker in PNG was drawn: prompt, seed, model and settings, as JSON.

    For example: genmoji show flying-pig.png
    """
    from ..replaying import recipe_of

    typer.echo(json.dumps(recipe_of(png), ensure_ascii=False, indent=2))
