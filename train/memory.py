"""How much memory a run takes, from a step or two that are measured, and whether this machine has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import mlx.core as mx

from mlx_genmoji.errors import UserError, one_line
from mlx_genmoji.models.functions import on_cpu

from .loop import Workers
from .recipe import Loop

if TYPE_CHECKING:
    from .lora import LoRAObjective, LoRARecipe

GB = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes of a run's peak, by what they depend on."""

    held: int
    """The base, the adapter and what the optimizer knows of it."""
    part: int
    """What a part of a batch takes, whatever its size: weights as they are computed with."""
    picture: int
    """Activations of one picture of a part."""
    decoding: int
    """What drawing a sample takes, which is not at the same time; 0 where there are none."""

    def peak(self, loop: Loop) -> int:
        """Of a run with this loop."""
        threads = loop.threads if on_cpu() else 1
        return self.held + max(self.decoding, threads * self.part + loop.batch_size // loop.accumulation * self.picture)


def measure(objective: LoRAObjective, loop: Loop) -> Memory:
    """Take a step of one picture, and one of two, and leave no trace of them. Raises UserError where one is too much.

    Steps that are compiled take a little less.
    """
    workers = Workers(objective, replace(loop, batch_size=1, accumulation=1, compiled=False), 1)
    held, peaks = mx.get_active_memory(), []
    batch = objective.batch(0)
    try:
        for count in (1, 2) if loop.batch_size > 1 else (1,):
            mx.clear_cache()
            mx.reset_peak_memory()
            workers.step(0, tuple(array[:count] for array in batch))
            peaks.append(mx.get_peak_memory() - held)
        mx.clear_cache()
        mx.reset_peak_memory()
        if objective.recipe.sample_prompts:
            objective.painter.preview(mx.zeros((1, *objective.painter.latents_shape)))
            decoding = mx.get_peak_memory() - held
        else:
            decoding = 0
    except RuntimeError as error:
        raise UserError(
            f"The memory of this machine is not enough for one picture ({one_line(error)}); set bits: 4, checkpointing:"
            " true or a smaller data.size."
        ) from None
    finally:
        mx.clear_cache()
        mx.reset_peak_memory()
    picture = max(0, peaks[-1] - peaks[0]) if len(peaks) > 1 else peaks[0]
    return Memory(held, max(0, peaks[0] - picture), picture, decoding)


def check_memory(recipe: LoRARecipe, memory: Memory, limit: int) -> None:
    """Raise UserError, saying what to change, where a run would not fit."""
    loop = recipe.loop
    needed = memory.peak(loop)
    if needed <= limit:
        return
    changes = []
    parts = next((n for n in range(1, loop.batch_size + 1) if _fits(recipe, memory, limit, n)), None)
    if parts is not None:
        changes.append(f"loop.accumulation: {parts} (the same steps in less memory)")
    if not recipe.checkpointing:
        changes.append("checkpointing: true")
    if recipe.bits is None:
        changes.append("bits: 4")
    if memory.decoding + memory.held > limit:
        changes.append("sample_prompts: []")
    changes.append(f"a data.size below {recipe.data.size}")
    raise UserError(
        f"The run would take about {needed / GB:.2f} GB of memory, and this machine has {limit / GB:.2f} GB for it; set"
        f" {' or '.join(changes)}."
    )


def _fits(recipe: LoRARecipe, memory: Memory, limit: int, accumulation: int) -> bool:
    loop = recipe.loop
    threads = loop.threads if on_cpu() else 1
    divides = loop.batch_size % (threads * accumulation) == 0
    return divides and memory.peak(replace(loop, accumulation=accumulation)) <= limit
