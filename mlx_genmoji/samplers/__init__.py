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

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import mlx.core as mx
import numpy as np

from ..errors import UserError, quoted
from .noise import Check, NoiseConfig, add_noise, alphas_cumprod, check, step_noise, training_target

__all__ = [
    "SAMPLERS",
    "SAMPLER_OF_CLASS",
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
    "pndm": ("PNDM", "pndm"),
    "heun": ("Heun", "two_evaluations"),
    "lms": ("LMS", "lms"),
    "deis": ("DEIS", "deis"),
    "dpm2": ("DPM2", "two_evaluations"),
    "dpm2-ancestral": ("DPM2Ancestral", "two_evaluations"),
    "dpm++2s": ("DPMSolverPlusPlus2S", "dpm"),
    "dpm++2m-sde": ("DPMSolverPlusPlus2MSDE", "dpm"),
    "ddpm": ("DDPM", "ddpm"),
    "tcd": ("TCD", "lcm"),
}

# The samplers of models that were trained on sigmas (EDM); no other sampler can draw with such a model.
_EDM: Mapping[str, str] = {"euler": "EDMEuler", "dpm++2m": "EDMDPMSolverPlusPlus2M"}

SAMPLER_OF_CLASS: Mapping[str, str] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DEISMultistepScheduler": "deis",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "DPMSolverSinglestepScheduler": "dpm++2s",
    "EDMDPMSolverMultistepScheduler": "dpm++2m",
    "EDMEulerScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-ancestral",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "KDPM2AncestralDiscreteScheduler": "dpm2-ancestral",
    "KDPM2DiscreteScheduler": "dpm2",
    "LCMScheduler": "lcm",
    "LMSDiscreteScheduler": "lms",
    "PNDMScheduler": "pndm",
    "TCDScheduler": "tcd",
    "UniPCMultistepScheduler": "unipc",
}

# As diffusers' documentation maps them ("Schedulers", A1111's and k-diffusion's names), without spaces and signs.
_OTHER_NAMES: Mapping[str, str] = {
    "dpm++2sa": "dpm++2s",
    "dpm++2sancestral": "dpm++2s",
    "dpm++sde": "dpm++2s",
    "dpm2a": "dpm2-ancestral",
    "eulera": "euler-ancestral",
    "plms": "pndm",
    "unipcbh2": "unipc",
}

_SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "karras": {"karras": True},
    "sgmuniform": {"spacing": "trailing"},
    "simple": {"spacing": "trailing"},
}

SPACINGS = ("leading", "trailing", "linspace")
"""How timesteps are spaced: Lin et al. 2023, https://arxiv.org/abs/2305.08891, table 2."""

History = tuple[mx.array, ...]


class Schedule(ABC):
    """A sampler for a number of steps: its timesteps, and the update of the latents at each step.

    `timesteps` (float32) has an entry for each evaluation of the model, in most samplers one a step;
    `lambda_min_clipped` and trailing spacing can give fewer than requested. Text to image starts from standard normal
    noise times `init_noise_sigma`; image to image starts at step `start(strength)`, from the picture's latents with the
    noise of that step (`add_noise`).
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of config fields in diffusers' scheduler, where they differ from those of `NoiseConfig`."""
    checks: ClassVar[Mapping[str, Check]] = {}
    """Checks of config fields, in addition to those of `NoiseConfig`: of further fields, or stricter ones."""
    stochastic: ClassVar[bool] = False
    """Whether `step` needs noise."""
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Fields of the config that diffusers' scheduler does not have: they are left at the defaults."""
    has_spacing: ClassVar[bool] = True
    """Whether `timestep_spacing` decides the timesteps."""
    has_karras: ClassVar[bool] = True
    """Whether the sampler knows `use_karras_sigmas`."""
    evaluations: ClassVar[int] = 1
    """How many timesteps a step has; with 2, the last step has one."""

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
        begin = (self._steps - min(int(self._steps * strength), self._steps)) * self.evaluations
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

    def draws_noise(self, i: int) -> bool:
        """Whether step `i` uses noise. The torch generator of diffusers advances in these steps only."""
        return self.stochastic

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


def schedule_class(name: str, edm: bool = False) -> type[Schedule]:
    """The class of the sampler `name`, one of SAMPLERS. edm: for a model that was trained on sigmas."""
    class_name, module = SAMPLERS[name]
    if edm:
        if name not in _EDM:
            raise UserError(f"The model was trained on sigmas (EDM): it draws with {' or '.join(_EDM)}, not {name}.")
        class_name, module = _EDM[name], "edm"
    schedule: type[Schedule] = getattr(import_module(f".{module}", __name__), class_name)
    return schedule


class SamplerChoice(NamedTuple):
    """A sampler, and what its name says of the schedule; None where it says nothing."""

    name: str
    karras: bool | None = None
    spacing: str | None = None


def sampler_named(name: str) -> SamplerChoice:
    """The sampler of a name: "dpm++2m", "DPMSolverMultistepScheduler", "DPM++ 2M Karras" or "dpmpp_2m".

    A1111's schedule types "Karras", "SGM Uniform" and "Simple" may follow. Raises UserError for an unknown name.
    """
    plain = _plain(name)
    schedules = [{}, *(fields for suffix, fields in _SCHEDULES.items() if plain.endswith(suffix))]
    suffixes = ["", *(suffix for suffix in _SCHEDULES if plain.endswith(suffix))]
    for suffix, schedule in zip(suffixes, schedules, strict=True):
        known = _NAMES.get(plain.removesuffix(suffix))
        if known is not None:
            return SamplerChoice(known, **schedule)
    raise UserError(f"There is no sampler {quoted(repr(name))}; the samplers are: {', '.join(SAMPLERS)}.")


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-()]+", "", name.casefold()).replace("dpmpp", "dpm++")


_NAMES: Mapping[str, str] = {
    **{_plain(name): name for name in SAMPLERS},
    **{_plain(class_name): name for class_name, name in SAMPLER_OF_CLASS.items()},
    **_OTHER_NAMES,
}


def sampler_of_config(config: Mapping[str, Any]) -> SamplerChoice:
    """The sampler that a `scheduler_config.json` asks for. Raises UserError if there is none."""
    class_name = config.get("_class_name")
    name = SAMPLER_OF_CLASS.get(class_name) if isinstance(class_name, str) else None
    if name is None:
        raise UserError(
            f"scheduler_config.json: _class_name {class_name!r:.80} is not supported; choose a sampler by name:"
            f" {', '.join(SAMPLERS)}."
        )
    if name == "dpm++2m" and config.get("algorithm_type") == "sde-dpmsolver++":
        name = "dpm++2m-sde"
    return SamplerChoice(name)


@dataclass(frozen=True)
class Sampler:
    """A way of sampling and the noise schedule of a checkpoint: what `make_sampler` returns."""

    name: str
    config: NoiseConfig
    edm: bool = False

    def schedule(self, steps: int) -> Schedule:
        """Plan a generation of `steps` steps. Raises UserError unless they are between 1 and num_train_timesteps."""
        if not 1 <= steps <= self.config.num_train_timesteps:
            raise UserError(f"steps must be from 1 to {self.config.num_train_timesteps}, not {steps}.")
        return schedule_class(self.name, self.edm)(self.config, steps)


def make_sampler(
    config: Mapping[str, Any], name: str | None = None, *, spacing: str | None = None, karras: bool | None = None
) -> Sampler:
    """The sampler that a `scheduler_config.json` asks for by `_class_name`, or the one called `name`.

    By name (see `sampler_named`), the sampler takes from the config the fields that it knows, as
    `from_config` of diffusers does. spacing, karras: replace the config's `timestep_spacing` and `use_karras_sigmas`;
    a name such as "DPM++ 2M Karras" does that too. Raises UserError for an unknown name, for a field, a value or a
    `_class_name` that is not supported, and for a spacing or Karras sigmas that the sampler does not know.
    """
    choice = sampler_of_config(config) if name is None else sampler_named(name)
    edm = str(config.get("_class_name")).startswith("EDM")
    schedule = schedule_class(choice.name, edm)
    spacing = choice.spacing if spacing is None else spacing
    karras = choice.karras if karras is None else karras
    if spacing is not None:
        if spacing not in SPACINGS:
            raise UserError(f"There is no spacing {spacing!r}; there are {', '.join(SPACINGS)}.")
        if not schedule.has_spacing:
            raise UserError(f"The sampler {choice.name} chooses its timesteps itself: leave out the spacing.")
        config = {**config, "timestep_spacing": spacing}
    if karras is not None:
        if karras and not schedule.has_karras:
            raise UserError(f"The sampler {choice.name} has no Karras sigmas: leave them out.")
        config = {**config, "use_karras_sigmas": karras}
    config = {field: value for field, value in config.items() if field not in schedule.ignored}
    check(config, schedule.checks)
    return Sampler(choice.name, NoiseConfig.read(config, **schedule.defaults), edm)
