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

Notation, as in the papers: a noisy sample is `x = alpha * x0 + sigma * epsilon` with `alpha**2 = alphas_cumprod` and
`alpha**2 + sigma**2 = 1`. What diffusers calls the `sigmas` of a schedule are the ratios `sigma / alpha`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .config import NoiseConfig, check
from .noise import add_noise, alphas_cumprod, step_noise, training_target
from .schedule import History, Schedule

if TYPE_CHECKING:
    from .ddim import DDIM
    from .dpm import DPMSolverPlusPlus2M
    from .euler import Euler, EulerAncestral
    from .lcm import LCM
    from .unipc import UniPC

__all__ = [
    "DDIM",
    "LCM",
    "SAMPLERS",
    "DPMSolverPlusPlus2M",
    "Euler",
    "EulerAncestral",
    "History",
    "NoiseConfig",
    "Sampler",
    "Schedule",
    "UniPC",
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


def __getattr__(name: str) -> Any:
    for class_name, module in SAMPLERS.values():
        if name == class_name:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def schedule_class(name: str) -> type[Schedule]:
    """The class of the sampler `name`, one of SAMPLERS."""
    schedule: type[Schedule] = __getattr__(SAMPLERS[name][0])
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
