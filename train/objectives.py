"""The table of objectives: the name in a recipe, the class of its keys, the functions that carry it out or plan it.

A recipe becomes its dataclass here, once; what a row's functions are given is complete and checked.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlx_genmoji.errors import UserError

from .adapter.compare import compare_bases
from .adapter.dry_run import plan_adapter, plan_personas
from .adapter.personas import PersonasRecipe, train_personas
from .adapter.recipe import LoRARecipe
from .adapter.run import train_lora
from .fit.distributed import World
from .model.autoencoder import AutoencoderRecipe, train_autoencoder
from .model.decoder import DecoderRecipe, train_decoder
from .model.growth import GrowthRecipe, train_growth
from .model.inner_layers import InnerLayersRecipe, train_inner_layers
from .model.unet import DiffusionRecipe, train_diffusion
from .options import Options
from .recipe import build
from .rewriter import RewriterRecipe, train_rewriter


class Objective(NamedTuple):
    """One row of the table."""

    recipe: type[Any]
    """The dataclass of the recipe's keys."""
    train: Callable[[Any, Options], Path]
    """Carries the recipe out and returns the file or folder of the result."""
    several_machines: bool = False
    """Whether several machines may train together, or the function says itself why they may not."""
    plan: Callable[[Any], str] | None = None
    """Returns the table of `--dry-run`; None: there is none."""
    compare: Callable[[Any, Options], str] | None = None
    """Returns the table of `--compare`; None: there is none."""


OBJECTIVES: Mapping[str, Objective] = {
    "lora": Objective(LoRARecipe, train_lora, True, plan_adapter, compare_bases),
    "personas": Objective(PersonasRecipe, train_personas, True, plan_personas),
    "autoencoder": Objective(AutoencoderRecipe, train_autoencoder),
    "growth": Objective(GrowthRecipe, train_growth),
    "inner-layers": Objective(InnerLayersRecipe, train_inner_layers),
    "diffusion": Objective(DiffusionRecipe, train_diffusion),
    "decoder": Objective(DecoderRecipe, train_decoder),
    "rewriter": Objective(RewriterRecipe, train_rewriter),
}


def find_objective(raw: Mapping[str, Any]) -> Objective:
    """The row that a recipe names. Raises UserError where there is none."""
    name = str(raw.get("objective"))
    if name not in OBJECTIVES:
        raise UserError(f"Recipe: 'objective' is {name!r}, known are {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def carry_out(raw: Mapping[str, Any], options: Options) -> Path:
    """Carry out a recipe of one objective, given as read from its file. Raises UserError."""
    objective = find_objective(raw)
    if not objective.several_machines and World().size > 1:
        raise UserError(f"Recipe: the objective {raw['objective']!r} is for one machine; several train adapters.")
    return objective.train(build(objective.recipe, raw), options)


def plan(raw: Mapping[str, Any]) -> str:
    """The table of `--dry-run` for a recipe of one objective. Raises UserError."""
    objective = OBJECTIVES.get(str(raw.get("objective")))
    if objective is None or objective.plan is None:
        raise _only_for_adapters("--dry-run", raw)
    return objective.plan(build(objective.recipe, raw))


def compare(raw: Mapping[str, Any], options: Options) -> str:
    """The table of `--compare` for a recipe of one objective. Raises UserError."""
    objective = OBJECTIVES.get(str(raw.get("objective")))
    if objective is None or objective.compare is None:
        raise _only_for_adapters("--compare", raw)
    return objective.compare(build(objective.recipe, raw), options)


def _only_for_adapters(option: str, raw: Mapping[str, Any]) -> UserError:
    return UserError(f"{option} is for recipes of the objective 'lora', not {raw.get('objective')!r}.")
