"""`--dry-run`: the layers that a run would train, its memory and its time, from steps that are measured."""

import re
import time
from collections import Counter

from mlx_genmoji import Genmoji

from ..data.dataset import Dataset
from ..fit.machine import memory_limit
from ..fit.step import Stepper, flat
from ..recipe import Loop
from .memory import GB, check_memory, concurrent_pictures, measure
from .objective import LoRAObjective
from .personas import PersonasRecipe, counted, name_of, recipe_of_style
from .recipe import LoRARecipe

MEASURED_PICTURES = 8
"""Pictures whose latents are computed for the steps that are measured; those of the others can wait for the run."""


def plan_adapter(recipe: LoRARecipe) -> str:
    """A table: which layers the run would train, on which pictures, in how much memory and time.

    Raises UserError where the run would not fit into memory.
    """
    dataset = Dataset(recipe.data, recipe.cache_folder)
    genmoji = Genmoji.load(recipe.base, bits=recipe.bits)
    objective = LoRAObjective(recipe, genmoji, dataset.head(MEASURED_PICTURES))
    limit = memory_limit()
    memory = measure(objective, recipe.loop, limit)
    check_memory(recipe, memory, limit)
    seconds = seconds_per_step(objective, recipe.loop)
    trained = flat(objective.model.trainable_parameters())
    kinds: dict[str, Counter[str]] = {}
    for path in objective.layers:
        # "unet.up_blocks.0.attentions.1...to_out.0" is a to_out of the unet.
        kinds.setdefault(path.partition(".")[0], Counter())[re.sub(r"(\.\d+)+$", "", path).rpartition(".")[2]] += 1
    held_out = min(recipe.validation.pictures, len(dataset) // 5)
    peak = memory.peak(concurrent_pictures(recipe.loop))
    rows = {
        "base": f"{objective.base['base_model']}, " + (f"{recipe.bits} bits" if recipe.bits else "as it is"),
        "trains": f"{len(objective.layers)} layers, {sum(array.size for array in trained.values()):,} parameters",
        **{f"  {part}": ", ".join(f"{n} {kind}" for kind, n in sorted(names.items())) for part, names in kinds.items()},
        "pictures": f"{len(dataset) - held_out} of {recipe.data.size} pixels, and {held_out} held out",
        "peak memory": f"{peak / GB:.2f} GB; this machine has {limit / GB:.2f} GB for it",
        "time": f"{seconds:.2f} s a step, {_duration(seconds * recipe.loop.steps)} for {recipe.loop.steps} steps;"
        " latents and texts, once, before",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def plan_personas(recipe: PersonasRecipe) -> str:
    """The table of the style, and the number of pictures of each persona. Raises UserError as `plan_adapter` does."""
    style, *others = counted(recipe)
    steps = (recipe.personas.loop or recipe.loop).steps
    names = {name_of(entry): entry for entry in others}
    width = max(map(len, names), default=0)
    lines = ["style", *(f"  {line}" for line in plan_adapter(recipe_of_style(recipe)).splitlines()), "personas from it"]
    for name, entry in names.items():
        trained = f"{steps} steps" if entry.file else f"none: {recipe.personas.least} are needed"
        lines.append(f"  {name:<{width}}  {entry.examples} pictures, {trained}")
    return "\n".join(lines if others else lines[:-1])


def seconds_per_step(objective: LoRAObjective, loop: Loop) -> float:
    """The time of the second step: the first one compiles."""
    stepper = Stepper(objective, loop, loop.concurrent)
    stepper.step(0, objective.batch(0))
    started = time.perf_counter()
    stepper.step(1, objective.batch(1))
    return time.perf_counter() - started


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {int(seconds % 60):02d} s"
