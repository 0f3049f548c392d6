"""`genmoji train`: a recipe in, a trained model or adapter out; or what the run would take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, on what, for how long.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the last run was stopped.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say which layers would train, in how much memory and time, and train nothing."),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Train on the full, the 8-bit and the 4-bit base, and print a table of what each costs."
        ),
    ] = False,
) -> None:
    """Train what RECIPE.yaml describes."""
    if dry_run and compare:
        raise UserError("Take --dry-run or --compare, one of the two.")
    import train
    from quantize.fuse import fuse

    if dry_run:
        typer.echo(train.dry_run(recipe, overrides or []))
    elif compare:
        typer.echo(train.compare(recipe, resume, overrides or [], fuse))
    else:
        train.run(recipe, resume, overrides or [], fuse)
