"""One run of an adapter.

    base model -> latents and texts, once -> adapter attached -> fit -> adapter.safetensors

`output` holds, beside the files of every run: `adapter.safetensors` (kohya's spelling, which ComfyUI, A1111, Draw
Things and diffusers read), `adapters/` (those of the kept checkpoints and the best by validation, each with its
pictures of the sample prompts), `choose.png` (these pictures below one another) and `curve.png`.
"""

import gc
from pathlib import Path

import mlx.core as mx

from mlx_genmoji import Genmoji

from ..data.dataset import Dataset
from ..fit.checkpoints import CHECKPOINTS, Checkpoints
from ..fit.loop import fit
from ..fit.machine import memory_limit
from ..fit.settings import run_settings
from ..options import Options
from .fusing import fuse_into
from .kept import AdapterFollower
from .memory import check_memory, measure
from .objective import LoRAObjective
from .recipe import LoRARecipe

ADAPTER = "adapter.safetensors"
DENSE_ADAPTER = "adapter-for-dense.safetensors"
"""Where an adapter repairs the rounding of its base first: the same adapter for the dense base."""
MODEL = "model"


def load_objective(recipe: LoRARecipe, whole: Dataset | None = None) -> LoRAObjective:
    """Load the base and the dataset of a recipe, and attach the adapter to train; whole: see `train_lora`."""
    genmoji = Genmoji.load(recipe.base, bits=recipe.bits)
    dataset = Dataset(recipe.data, recipe.cache_folder, whole)
    return LoRAObjective(recipe, genmoji, dataset)


def train_lora(recipe: LoRARecipe, options: Options, whole: Dataset | None = None) -> Path:
    """Train, write the file `output/adapter.safetensors` (and the fused model of `fuse_bits`), and return it.

    whole: the dataset that contains the recipe's, where there are several such runs.
    """
    # Of one run after another, no more than one base is in memory.
    gc.collect()
    mx.clear_cache()
    objective = load_objective(recipe, whole)
    # A run that has begun has fitted into memory.
    if not Checkpoints(recipe.output / CHECKPOINTS, recipe.loop.keep).paths:
        limit = memory_limit()
        check_memory(recipe, measure(objective, recipe.loop, limit), limit)
    settings = run_settings(recipe, objective.dataset.sha256, objective.inputs())
    fit(objective, recipe.loop, recipe.output, options.resume, settings, recipe.seed, AdapterFollower(objective))
    path = recipe.output / ADAPTER
    if objective.world.writes:
        objective.save(path, recipe.loop.steps)
        if recipe.fuse_bits is not None:
            adapter = path
            if recipe.lora.init == "loftq":
                adapter = recipe.output / DENSE_ADAPTER
                objective.save(adapter, recipe.loop.steps, for_dense=True)
            fuse_into(options.fuse, recipe.base, [adapter], recipe.fuse_bits, recipe.output / MODEL)
    objective.world.wait()
    return path
