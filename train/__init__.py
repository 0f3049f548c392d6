"""Fit models: `run` carries out a recipe file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_genmoji.errors import UserError

if TYPE_CHECKING:
    from .adapter.lora import LoRARecipe


def run(recipe: Path, resume: bool = False, overrides: Sequence[str] = ()) -> Path:
    """Carry out a recipe, its keys overridden by `key.key=value`, and return the folder of what was trained.

    Raises UserError in one sentence for a recipe, a dataset or a checkpoint that is at fault.
    """
    from .adapter.lora import LoRARecipe, train_lora
    from .adapter.personas import PersonasRecipe, train_personas
    from .fit.distributed import World
    from .model.autoencoder import AutoencoderRecipe, train_autoencoder
    from .model.decoder import DecoderRecipe, train_decoder
    from .model.diffusion import DiffusionRecipe, train_diffusion
    from .model.growth import GrowthRecipe, train_growth
    from .model.widening import WideningRecipe, train_widening
    from .recipe import build, read_recipe

    raw = read_recipe(recipe, overrides)
    objective = raw.get("objective")
    if objective == "lora":
        return train_lora(build(LoRARecipe, raw), resume)
    if objective == "personas":
        return train_personas(build(PersonasRecipe, raw), resume)
    if World().size > 1:
        raise UserError(f"Recipe: the objective {objective!r} is for one machine; several train adapters.")
    if objective == "autoencoder":
        return train_autoencoder(build(AutoencoderRecipe, raw), resume)
    if objective == "diffusion":
        return train_diffusion(build(DiffusionRecipe, raw), resume)
    if objective == "growth":
        return train_growth(build(GrowthRecipe, raw), resume)
    if objective == "decoder":
        return train_decoder(build(DecoderRecipe, raw), resume)
    if objective == "widening":
        return train_widening(build(WideningRecipe, raw), resume)
    raise UserError(
        f"Recipe: 'objective' is {objective!r}, known are lora, personas, autoencoder, growth, widening, decoder and"
        " diffusion."
    )


def dry_run(recipe: Path, overrides: Sequence[str] = ()) -> str:
    """What a recipe of an adapter or of personas would train, in how much memory and time. Raises UserError."""
    from .adapter.dry_run import plan, plan_personas
    from .adapter.personas import PersonasRecipe
    from .recipe import build, read_recipe

    raw = read_recipe(recipe, overrides)
    if raw.get("objective") == "personas":
        return plan_personas(build(PersonasRecipe, raw))
    return plan(_lora_recipe(recipe, overrides, "--dry-run"))


def compare(recipe: Path, resume: bool = False, overrides: Sequence[str] = ()) -> str:
    """Carry out a recipe of the objective lora over the base as it is, in 8 and in 4 bits; what each costs and gives,
    as a table in Markdown. Raises UserError."""
    from .adapter.compare import compare

    return compare(_lora_recipe(recipe, overrides, "--compare"), resume)


def _lora_recipe(recipe: Path, overrides: Sequence[str], option: str) -> "LoRARecipe":
    from .adapter.lora import LoRARecipe
    from .recipe import build, read_recipe

    raw = read_recipe(recipe, overrides)
    if raw.get("objective") != "lora":
        raise UserError(f"{option} is for recipes of the objective 'lora', not {raw.get('objective')!r}.")
    return build(LoRARecipe, raw)
