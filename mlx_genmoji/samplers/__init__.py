"""Samplers: from noise to latents in a few steps, as a checkpoint's `scheduler_config.json` asks, or by name.

    schedule = make_sampler(config).schedule(steps)
    begin, latents, history = 0, schedule.init_noise_sigma * noise, ()
    for i in range(begin, len(schedule.timesteps)):
        output = unet(schedule.scale_model_input(latents, i), schedule.timesteps[i], ...)
        latents, history = schedule.step(output, i, latents, history, step_noise(seed, i, latents.shape))

To start from a picture's latents: `begin = schedule.start(strength)`, `latents = schedule.add_noise(x0, noise, begin)`.

Nothing here keeps state: what a multistep sampler remembers is `history`, and what a stochastic one draws is given to
it, so one schedule serves any number of generations. Latents are float32, of any shape and layout. Schedules are
computed in numpy with the roundings of diffusers' schedulers, whose timesteps they equal.

Each sampler is a `Schedule` in a file of its own.

Notation, as in the papers: a noisy sample is `x = alpha * x0 + sigma * epsilon` with `alpha**2 = alphas_cumprod` and
`alpha**2 + sigma**2 = 1`. What diffusers calls the `sigmas` of a schedule are the ratios `sigma / alpha`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..errors import UserError
from .noise import Check, NoiseConfig, add_noise, alphas_cumprod, check, step_noise, training_target

__all__ = [
    "SAMPLERS",
    "History",
    "NoiseConfig",
    "Sampler",
    "Schedule",
    "add_noise",
    "alphas_cumprod",
    "make_sampler",
    "step_noise",
    "training_target",
]

# By name, the class and the file that it is in, which is imported when it is first used.
SAMPLERS: Mapping[str, tuple[str, str]] = {
    "ddim": ("DDIM", "ddim"),
    "euler": ("Euler", "euler"),
    "euler-ancestral": ("EulerAncestral", "euler"),
    "dpm++2m": ("DPMSolverPlusPlus2M", "dpm"),
    "lcm": ("LCM", "lcm"),
    "unipc": ("UniPC", "unipc"),
}


History = tuple[mx.array, ...]


class Schedule(ABC):
    """A sampler for a number of steps: its timesteps, and the update of the latents at each step.

    `timesteps` (float32) has an entry for each step; `lambda_min_clipped` and trailing spacing can give fewer than
    requested. Text to image starts from standard normal noise times `init_noise_sigma`; image to image starts at step
    `start(strength)`, from the picture's latents with the noise of that step (`add_noise`).
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of config fields in diffusers' scheduler, where they differ from those of `NoiseConfig`."""
    checks: ClassVar[Mapping[str, Check]] = {}
    """Checks of config fields, in addition to those of `NoiseConfig`: of further fields, or stricter ones."""
    stochastic: ClassVar[bool] = False
    """Whether `step` needs noise."""

    timesteps: np.ndarray
    init_noise_sigma: float = 1.0
    _alphas: list[float]
    _sigmas: list[float]
    """The latents of step `i` are `_alphas[i] * x0 + _sigmas[i] * epsilon`."""

    @abstractmethod
    def __init__(self, config: NoiseConfig, steps: int) -> None:
        self.prediction_type = config.prediction_type
        self._steps = steps

    def start(self, strength: float) -> int:
        """The first step of image to image, as in diffusers' pipelines.

        strength: from 0 (no change) to 1 (all steps). Raises UserError if the strength leaves no step.
        """
        self._check_strength(strength)
        begin = self._steps - min(int(self._steps * strength), self._steps)
        if begin >= len(self.timesteps):
            raise UserError(
                f"A strength of {strength:g} leaves none of the {self._steps} steps; take more strength or more steps."
            )
        return begin

    def _check_strength(self, strength: float) -> None:
        if not 0 <= strength <= 1:
            raise UserError(f"The strength must be from 0 to 1, not {strength:g}.")

    def add_noise(self, x0: mx.array, noise: mx.array, i: int) -> mx.array:
        """The noisy latents of step `i`, from a picture's latents `x0` and standard normal `noise` of their shape."""
        return self._alphas[i] * x0 + self._sigmas[i] * noise

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        """The model's input at step `i`: the latents, scaled to a variance of about 1."""
        return x

    @abstractmethod
    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        """Return the latents of step `i + 1` and the new history; after the last step, the final latents.

        model_output: the model's prediction at step `i`, of the shape of `x`. x: the latents of step `i`. history: that
        of the previous step, empty at the first; its first entry is the current prediction of the final latents, for
        previews. noise: standard normal, of the shape of `x`, needed if `stochastic` is true (`noise.step_noise`).
        """

    def _predictions(self, model_output: mx.array, x: mx.array, i: int) -> tuple[mx.array, mx.array]:
        """The predictions of x0 and of epsilon that the model's output at step `i` gives."""
        alpha, sigma = self._alphas[i], self._sigmas[i]
        model_output = model_output.astype(mx.float32)
        if self.prediction_type == "epsilon":
            return (x - sigma * model_output) / alpha, model_output
        if self.prediction_type == "v_prediction":
            # Salimans and Ho 2022, https://arxiv.org/abs/2202.00512: v = alpha * epsilon - sigma * x0, for latents of
            # variance 1. The latents of Euler's method have a larger variance.
            square = alpha**2 + sigma**2
            length = square**0.5
            x0 = alpha / square * x - sigma / length * model_output
            return x0, alpha / length * model_output + sigma / square * x
        return model_output, (x - alpha * model_output) / sigma

    @staticmethod
    def _drawn(noise: mx.array | None) -> mx.array:
        if noise is None:
            raise ValueError("A stochastic sampler's step needs noise.")
        return noise


def schedule_class(name: str) -> type[Schedule]:
    """The class of the sampler `name`, one of SAMPLERS."""
    class_name, module = SAMPLERS[name]
    schedule: type[Schedule] = getattr(import_module(f".{module}", __name__), class_name)
    return schedule


# Stable Diffusion 1.x ships with PNDM, an older multistep method that is not here: DPM++ 2M takes its place.
_SAMPLER_OF_CLASS = {
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-ancestral",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "LCMScheduler": "lcm",
    "PNDMScheduler": "dpm++2m",
    "UniPCMultistepScheduler": "unipc",
}


@dataclass(frozen=True)
class Sampler:
    """A way of sampling and the noise schedule of a checkpoint: what `make_sampler` returns."""

    name: str
    config: NoiseConfig

    def schedule(self, steps: int) -> Schedule:
        """Plan a generation of `steps` steps. Raises UserError unless they are between 1 and num_train_timesteps."""
        if not 1 <= steps <= self.config.num_train_timesteps:
            raise UserError(f"steps must be from 1 to {self.config.num_train_timesteps}, not {steps}.")
        return schedule_class(self.name)(self.config, steps)


def make_sampler(config: Mapping[str, Any], name: str | None = None) -> Sampler:
    """The sampler that a `scheduler_config.json` asks for by `_class_name`, or the one called `name`.

    By name, the sampler takes from the config the fields that it knows, as diffusers' `from_config` does. A config of
    `PNDMScheduler` without a name gives "dpm++2m". Raises UserError for an unknown name and for a field, a value or a
    `_class_name` that is not supported.
    """
    names = ", ".join(SAMPLERS)
    if name is None:
        class_name = config.get("_class_name")
        name = _SAMPLER_OF_CLASS.get(class_name) if isinstance(class_name, str) else None
        if name is None:
            raise UserError(
                f"scheduler_config.json: _class_name {class_name!r:.80} is not supported; choose a sampler by name:"
                f" {names}."
            )
    if name not in SAMPLERS:
        raise UserError(f"There is no sampler {name!r}; the samplers are: {names}.")
    schedule = schedule_class(name)
    check(config, schedule.checks)
    return Sampler(name, NoiseConfig.read(config, **schedule.defaults))
