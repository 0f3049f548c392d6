"""The choices of `Genmoji.generate` that have names, importable without MLX: for type checkers and for help texts."""

from __future__ import annotations

from typing import Literal, get_args

SkinTone = Literal["light", "medium-light", "medium", "medium-dark", "dark"]
SamplerName = Literal[
    "ddim",
    "euler",
    "euler-ancestral",
    "dpm++2m",
    "lcm",
    "unipc",
    "pndm",
    "heun",
    "lms",
    "deis",
    "dpm2",
    "dpm2-ancestral",
    "dpm++2s",
    "dpm++2m-sde",
    "ddpm",
    "tcd",
]
Spacing = Literal["leading", "trailing", "linspace"]
NoiseSource = Literal["mlx", "torch"]

SKIN_TONES: tuple[str, ...] = get_args(SkinTone)
"""From the lightest to the darkest, as Unicode orders its modifiers."""

SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
"""The keys of `samplers.SAMPLERS`, in their order."""

SPACINGS: tuple[str, ...] = get_args(Spacing)
"""How timesteps are spaced: Lin et al. 2023, https://arxiv.org/abs/2305.08891, table 2."""

NOISE_SOURCES: tuple[str, ...] = get_args(NoiseSource)
"""Whose random numbers a seed stands for."""
