"""From noise to latents: the loop over a sampler's steps, which is the same for all families of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from ..errors import Cancelled
from ..families.base import Conditions, Family
from ..models.ops import on_cpu
from ..samplers import History, Schedule
from .noise import Draws

Callback = Callable[[int, int, mx.array], Any]


class Progress:
    """Calls a user's callback once for each step of a whole generation. Raises Cancelled if it returns False."""

    def __init__(self, callback: Callback | None, total: int):
        """total: the number of steps of all candidates and parts."""
        self.callback = callback
        self.total = total
        self._done = 0

    def step(self, finished: mx.array) -> None:
        """finished: the prediction of the finished latents, (1, h, w, c)."""
        if self.callback is not None and self.callback(self._done, self.total, finished) is False:
            raise Cancelled
        self._done += 1


def denoise(
    family: Family,
    schedule: Schedule,
    draws: Draws,
    conditions: Conditions,
    guidance: float,
    progress: Progress,
) -> mx.array:
    """The finished latents of one picture, (1, h, w, c).

    On a CPU each step is evaluated before the next. On a GPU the next step is submitted while one is computed, so that
    the GPU never waits for Python; the callback is called for a step after the next one was submitted.
    """
    start, noise = draws.start, draws.noise
    if start.latents is None:
        latents = noise * schedule.init_noise_sigma
    else:
        latents = schedule.add_noise(start.latents, noise, start.step)
    history: History = ()
    pending: mx.array | None = None
    for i in range(start.step, len(schedule.timesteps)):
        scaled = schedule.scale_model_input(latents, i)
        output = family.predict(scaled, schedule.timesteps[i], conditions, guidance, start)
        drawn = draws.step_noise(i) if schedule.draws_noise(i) else None
        latents, history = schedule.step(output, i, latents, history, drawn)
        finished = latents if i + 1 == len(schedule.timesteps) else history[0]
        if on_cpu():
            mx.eval(latents, history)
            progress.step(finished)
        else:
            mx.async_eval(latents, history)
            if pending is not None:
                progress.step(pending)
            pending = finished
    if pending is not None:
        progress.step(pending)
    return latents
