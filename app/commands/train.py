"""`genmoji train`: a recipe in, a trained model or adapter out; or an estimate of memory and time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE",
            help="What to train, on which data, for how many steps: a YAML file, or the name of one that comes with"
            " genmoji, such as lora-4bit.",
        ),
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
    """Train what RECIPE describes.

    For example: genmoji train lora-4bit --set output=runs/mine --set data.folders=[data/mine]
    """
    if dry_run and compare:
        raise UserError("Give either --dry-run or --compare, not both.")
    import train
    from quantize.fuse import fuse

    recipe = train.recipe_file(recipe)
    if dry_run:
        typer.echo(train.dry_run(recipe, overrides or []))
    elif compare:
        typer.echo(train.compare(recipe, resume, overrides or [], fuse))
    else:
        result = train.run(recipe, resume, overrides or [], fuse)
        typer.echo(result)
        if command := _command_of(result, train.base_of(recipe, overrides or [])):
            typer.echo(f"Draw with it: {command}", err=True)


def _command_of(result: Path, base: str | None) -> str | None:
    """The command that draws with what was trained; None where it is no model and no adapter.

    base: the model that an adapter was trained over; None is the built-in one.
    """
    from mlx_genmoji.errors import quoted_for_shell
    from mlx_genmoji.lora.persona_index import is_index

    model = f" --model {quoted_for_shell(base)}" if base else ""
    place = quoted_for_shell(str(result))
    if is_index(result):
        return f'genmoji generate "a waving woman"{model} --adapters {place}'
    if result.suffix == ".safetensors":
        return f'genmoji generate "flying pig"{model} --adapter {place}'
    return f'genmoji generate "flying pig" --model {place}' if (result / "model_index.json").exists() else None
