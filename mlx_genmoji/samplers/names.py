"""Names of samplers: ours, the classes of diffusers, and the names in A1111's and ComfyUI's menus."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import UserError, quoted
from . import SAMPLER_OF_CLASS, SAMPLERS, SamplerChoice

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
