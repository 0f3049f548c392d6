"""Fit models: `run` carries out a recipe file.

    recipe.yaml -> recipe.py -> objectives.py (the table) -> adapter/ or model/ -> fit/ -> a file or folder
                -> stages.py, where the recipe has several

`data/` makes arrays of a dataset, `denoising.py` and `batch.py` the batches of diffusion models, `fit/` has the loop.
"""

from collections.abc import Sequence
from pathlib import Path

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.hub import BUILTIN_NAME

from .objectives import OBJECTIVES, carry_out, plan
from .objectives import compare as compare_one
from .options import Fuse, Options
from .recipe import read_recipe
from .stages import plan_stages, run_stages

__all__ = ["OBJECTIVES", "Fuse", "Options", "base_of", "carry_out", "compare", "dry_run", "recipe_file", "run"]


def run(recipe: Path, resume: bool = False, overrides: Sequence[str] = (), fuse: Fuse | None = None) -> Path:
    """Carry out a recipe, its keys overridden by `key.key=value`, and return the file or folder that was trained.

    fuse: writes a model with adapters in its weights, which 'fuse_bits' needs. Raises UserError in one sentence for a
    recipe, a dataset or a checkpoint that is at fault.
    """
    raw = read_recipe(recipe, overrides)
    return (run_stages if "stages" in raw else carry_out)(raw, Options(resume, fuse))


RECIPES = Path(__file__).parent / "recipes"


def recipe_file(recipe: Path) -> Path:
    """A recipe's file: the path itself, or the file of a recipe that comes with the package, by its name.

    Raises UserError, which lists the names, where there is neither.
    """
    if recipe.exists():
        return recipe
    shipped = RECIPES / f"{recipe.name.removesuffix('.yaml')}.yaml"
    if shipped.exists() and (len(recipe.parts) == 1 or recipe.parts[:-1] == ("train", "recipes")):
        return shipped
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    raise UserError(f"There is no recipe {quoted(recipe)}; genmoji comes with {names}.")


def base_of(recipe: Path, overrides: Sequence[str] = ()) -> str | None:
    """The model that a recipe trains an adapter over; None for the built-in one. Raises UserError."""
    base = read_recipe(recipe, overrides).get("base")
    return None if base in (None, BUILTIN_NAME) else str(base)


def dry_run(recipe: Path, overrides: Sequence[str] = ()) -> str:
    """A table of what an adapter, personas or a recipe of several stages would train. Raises UserError."""
    raw = read_recipe(recipe, overrides)
    return (plan_stages if "stages" in raw else plan)(raw)


def compare(recipe: Path, resume: bool = False, overrides: Sequence[str] = (), fuse: Fuse | None = None) -> str:
    """Train an adapter over the base as it is, in 8 and in 4 bits; a table of costs and quality in Markdown.

    fuse: as in `run`. Raises UserError.
    """
    return compare_one(read_recipe(recipe, overrides), Options(resume, fuse))
