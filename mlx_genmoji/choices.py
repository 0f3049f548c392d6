"""The choices of `Genmoji.generate` that have names, importable without MLX: for type checkers and for help texts."""

from __future__ import annotations

from typing import Literal, get_args

SkinTone = Literal["light", "medium-light", "medium", "medium-dark", "dark"]
SamplerName = Literal["ddim", "euler", "euler-ancestral", "dpm++2m", "lcm", "unipc"]

SKIN_TONES: tuple[str, ...] = get_args(SkinTone)
"""From the lightest to the darkest, as Unicode orders its modifiers."""

SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
"""The keys of `samplers.SAMPLERS`, in their order."""
