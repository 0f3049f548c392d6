"""Names of samplers: ours, the classes of diffusers, and the names in A1111's and ComfyUI's menus. Needs no MLX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .choices import SAMPLER_NAMES
from .errors import UserError, quoted

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
    raise UserError(f"There is no sampler {quoted(repr(name))}; the samplers are: {', '.join(SAMPLER_NAMES)}.")


def sampler_of_config(config: Mapping[str, Any]) -> SamplerChoice:
    """The sampler that a `scheduler_config.json` asks for. Raises UserError if there is none."""
    class_name = config.get("_class_name")
    name = SAMPLER_OF_CLASS.get(class_name) if isinstance(class_name, str) else None
    if name is None:
        raise UserError(
            f"scheduler_config.json: _class_name {class_name!r:.80} is not supported; choose a sampler by name:"
            f" {', '.join(SAMPLER_NAMES)}."
        )
    if name == "dpm++2m" and config.get("algorithm_type") == "sde-dpmsolver++":
        name = "dpm++2m-sde"
    return SamplerChoice(name)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-()]+", "", name.casefold()).replace("dpmpp", "dpm++")


_NAMES: Mapping[str, str] = {
    **{_plain(name): name for name in SAMPLER_NAMES},
    **{_plain(class_name): name for class_name, name in SAMPLER_OF_CLASS.items()},
    **_OTHER_NAMES,
}
