"""`genmoji train`: a recipe in, a trained model or adapter out; or an estimate of memory and time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError


def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE.yaml", help="The recipe: what to train, on which data, for how many steps."),
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Continue where the last run stopped.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print which layers would train, in how much memory and time, and train nothing."
        ),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Train on the dense, the 8-bit and the 4-bit base, and print a table that compares them."
        ),
    ] = False,
) -> None:
    """Train what RECIPE.yaml describes."""
    if dry_run and compare:
        raise UserError("Give either --dry-run or --compare, not both.")
    import train
    from quantize.fuse import fuse

    if dry_run:
        typer.echo(train.dry_run(recipe, overrides or []))
    elif compare:
        typer.echo(train.compare(recipe, resume, overrides or [], fuse))
    else:
        train.run(recipe, resume, overrides or [], fuse)
