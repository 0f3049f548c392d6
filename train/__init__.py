"""Fit models: `run` carries out a recipe file.

    recipe.yaml -> recipe.py -> objectives.py (the table) -> adapter/ or model/ -> fit/ -> a file or folder
                -> stages.py, where the recipe has several

`data/` makes arrays of a dataset, `denoising.py` and `batch.py` the batches of diffusion models, `fit/` has the loop.
"""

from collections.abc import Sequence
from pathlib import Path

from .objectives import OBJECTIVES, carry_out, plan
from .objectives import compare as compare_one
from .options import Fuse, Options
from .recipe import read_recipe
from .stages import plan_stages, run_stages

__all__ = ["OBJECTIVES", "Fuse", "Options", "carry_out", "compare", "dry_run", "run"]


def run(recipe: Path, resume: bool = False, overrides: Sequence[str] = (), fuse: Fuse | None = None) -> Path:
    """Carry out a recipe, its keys overridden by `key.key=value`, and return the file or folder that was trained.

    fuse: writes a model with adapters in its weights, which 'fuse_bits' needs. Raises UserError in one sentence for a
    recipe, a dataset or a checkpoint that is at fault.
    """
    raw = read_recipe(recipe, overrides)
    return (run_stages if "stages" in raw else carry_out)(raw, Options(resume, fuse))


def dry_run(recipe: Path, overrides: Sequence[str] = ()) -> str:
    """A table of what an adapter, personas or a recipe of several stages would train. Raises UserError."""
    raw = read_recipe(recipe, overrides)
    return (plan_stages if "stages" in raw else plan)(raw)


def compare(recipe: Path, resume: bool = False, overrides: Sequence[str] = (), fuse: Fuse | None = None) -> str:
    """Train an adapter over the base as it is, in 8 and in 4 bits; a table of costs and quality in Markdown.

    fuse: as in `run`. Raises UserError.
    """
    return compare_one(read_recipe(recipe, overrides), Options(resume, fuse))
