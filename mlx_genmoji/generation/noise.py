"""The random numbers of one drawing: initial noise and noise of each step, from MLX or as diffusers draws them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx

from ..families.base import Family, ImageStart
from ..families.settings import Settings
from ..samplers import step_noise
from ..samplers.torch_noise import TorchGenerator


class Draws(NamedTuple):
    """What chance gives to one drawing."""

    noise: mx.array
    """The initial noise, standard normal, (1, h, w, c)."""
    start: ImageStart
    step_noise: Callable[[int], mx.array]
    """The noise of step i, (1, h, w, c), for a stochastic sampler; called once for each such step, in their order."""


def draws_of(family: Family, settings: Settings, seed: int, start: ImageStart, noise: mx.array | None) -> Draws:
    """The draws of a seed. noise: the initial noise, if the caller gave it."""
    shape = (1, *family.shape(settings))
    if settings.noise == "torch":
        return _of_torch(TorchGenerator(seed), shape, start, noise)
    if noise is None:
        noise = family.noise(seed, settings)
    return Draws(noise, start, lambda i: step_noise(seed, i, shape))


def _of_torch(generator: TorchGenerator, shape: tuple[int, ...], start: ImageStart, noise: mx.array | None) -> Draws:
    """The draws of diffusers' pipelines, which take everything from one generator in this order: the latents of a
    picture, sampled from the encoder's distribution; the initial noise; those of a masked picture; the steps' noise.
    """
    deviation, masked_deviation = start.deviations
    if start.latents is not None and deviation is not None:
        start = start._replace(latents=start.latents + deviation * generator.latents(shape))
    if noise is None:
        noise = generator.latents(shape)
    if start.inpainting is not None and masked_deviation is not None:
        mask, masked = start.inpainting[..., :1], start.inpainting[..., 1:]
        masked = masked + masked_deviation * generator.latents(shape)
        start = start._replace(inpainting=mx.concatenate([mask, masked], axis=-1))
    return Draws(noise, start, lambda i: generator.latents(shape))
