"""How much memory a run takes, from steps that are measured, and whether this machine has it."""

from dataclasses import dataclass, replace

import mlx.core as mx

from mlx_genmoji.errors import UserError, quoted

from ..fit.distributed import World
from ..fit.step import Stepper
from ..recipe import Loop
from .objective import LoRAObjective
from .recipe import LoRARecipe

GB = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes of a run's peak, by what they depend on."""

    resident: int
    """The base, the adapter and the optimizer's state."""
    steps: dict[int, int]
    """Number of pictures that are computed at the same time -> bytes that a step takes in addition."""
    drawing: int
    """Bytes that drawing a sample takes in addition, never during a step; 0 where there are no samples."""

    def peak(self, pictures: int) -> int:
        """The peak with so many pictures at the same time; for more pictures than were measured a forecast."""
        needed = self.steps.get(pictures)
        if needed is None:
            # Above a few pictures it grows by the same for each.
            (fewer, less), (more, most) = ([(0, 0), *self.steps.items()])[-2:]
            needed = most + (pictures - more) * max(0, most - less) // (more - fewer)
        return self.resident + max(self.drawing, needed)


def concurrent_pictures(loop: Loop) -> int:
    """The pictures that are computed at the same time, by all threads."""
    return loop.batch_size // loop.accumulation


def measure(objective: LoRAObjective, loop: Loop, limit: int) -> Memory:
    """Take steps of more and more pictures, up to the recipe's number or as many as fit, and undo them.

    Compiled steps take about as much. Raises UserError where the least is too much.
    """
    threads = loop.concurrent
    uncompiled = replace(loop, accumulation=1, compiled=False)
    steps: dict[int, int] = {}
    drawing = 0
    try:
        stepper = Stepper(objective, uncompiled, threads, World(alone=True))
        batch = objective.batch(0)
        # The first step makes the gradients, which stay in memory.
        stepper.step(0, tuple(array[:threads] for array in batch))
        resident, pictures = mx.get_active_memory(), threads
        while True:
            mx.clear_cache()
            mx.reset_peak_memory()
            stepper.step(0, tuple(array[:pictures] for array in batch))
            steps[pictures] = mx.get_peak_memory() - resident
            next_pictures = min(2 * pictures, concurrent_pictures(loop))
            memory = Memory(resident, steps, 0)
            if next_pictures == pictures or memory.peak(next_pictures) > limit:
                break
            pictures = next_pictures
        if objective.recipe.sample_prompts:
            mx.clear_cache()
            mx.reset_peak_memory()
            objective.painter.generate(objective.recipe.sample_prompts[0], seed=0, steps=1, template="{prompt}")
            drawing = mx.get_peak_memory() - resident
    except RuntimeError as error:
        raise UserError(
            f"The memory of this machine is not enough for a step ({quoted(error)}); set bits: 4, checkpointing: true"
            " or a smaller data.size."
        ) from None
    finally:
        mx.clear_cache()
        mx.reset_peak_memory()
    return replace(memory, drawing=drawing)


def check_memory(recipe: LoRARecipe, memory: Memory, limit: int) -> None:
    """Raise UserError, saying what to change, where a run would not fit."""
    loop = recipe.loop
    needed = memory.peak(concurrent_pictures(loop))
    if needed <= limit:
        return
    fitting = [pictures for pictures in memory.steps if memory.peak(pictures) <= limit]
    parts = [loop.batch_size // n for n in sorted(fitting, reverse=True) if loop.batch_size % n == 0]
    changes = [f"loop.accumulation: {parts[0]} (the same steps in less memory)"] if parts else []
    changes += [] if recipe.checkpointing else ["checkpointing: true"]
    changes += [] if recipe.bits else ["bits: 4"]
    changes += ["sample_prompts: []"] if memory.resident + memory.drawing > limit else []
    changes.append(f"a data.size below {recipe.data.size}")
    raise UserError(
        f"The run would take about {needed / GB:.2f} GB of memory, and this machine has {limit / GB:.2f} GB for it; set"
        f" {' or '.join(changes)}."
    )
