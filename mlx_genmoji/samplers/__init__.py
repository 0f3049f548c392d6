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

from ..choices import SPACINGS
from ..errors import UserError
from ..sampler_names import sampler_named, sampler_of_config
from .config import NoiseConfig, check
from .noise import add_noise, alphas_cumprod, step_noise, training_target
from .schedule import History, Schedule

if TYPE_CHECKING:
    from .ddim import DDIM
    from .ddpm import DDPM
    from .deis import DEIS
    from .dpm import DPMSolverPlusPlus2M, DPMSolverPlusPlus2MSDE, DPMSolverPlusPlus2S
    from .euler import Euler, EulerAncestral
    from .lcm import LCM, TCD
    from .lms import LMS
    from .pndm import PNDM
    from .two_evaluations import DPM2, DPM2Ancestral, Heun
    from .unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "DPM2",
    "LCM",
    "LMS",
    "PNDM",
    "SAMPLERS",
    "TCD",
    "DPM2Ancestral",
    "DPMSolverPlusPlus2M",
    "DPMSolverPlusPlus2MSDE",
    "DPMSolverPlusPlus2S",
    "Euler",
    "EulerAncestral",
    "Heun",
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


def __getattr__(name: str) -> Any:
    for class_name, module in SAMPLERS.values():
        if name == class_name:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def schedule_class(name: str, edm: bool = False) -> type[Schedule]:
    """The class of the sampler `name`, one of SAMPLERS. edm: for a model that was trained on sigmas."""
    if edm:
        if name not in _EDM:
            raise UserError(f"The model was trained on sigmas (EDM): it draws with {' or '.join(_EDM)}, not {name}.")
        edm_schedule: type[Schedule] = getattr(import_module(".edm", __name__), _EDM[name])
        return edm_schedule
    schedule: type[Schedule] = __getattr__(SAMPLERS[name][0])
    return schedule


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

    By name (see `sampler_names.sampler_named`), the sampler takes from the config the fields that it knows, as
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
