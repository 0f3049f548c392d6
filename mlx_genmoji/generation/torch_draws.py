"""The random numbers of one drawing as diffusers draws them, from PyTorch's CPU generator."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from ..families.base import ImageStart
from ..samplers.torch_noise import TorchGenerator


def draws_of_torch(
    seed: int, shape: tuple[int, ...], start: ImageStart, noise: mx.array | None
) -> tuple[mx.array, ImageStart, Callable[[int], mx.array]]:
    """The fields of `generation.Draws` as diffusers' pipelines draw them, from one generator in this order: the latents
    of a picture, sampled from the encoder's distribution; the initial noise; the latents of a masked picture; the
    steps' noise.
    """
    generator = TorchGenerator(seed)
    deviation, masked_deviation = start.deviations
    if start.latents is not None and deviation is not None:
        start = start._replace(latents=start.latents + deviation * generator.latents(shape))
    if noise is None:
        noise = generator.latents(shape)
    if start.inpainting is not None and masked_deviation is not None:
        mask, masked = start.inpainting[..., :1], start.inpainting[..., 1:]
        masked = masked + masked_deviation * generator.latents(shape)
        start = start._replace(inpainting=mx.concatenate([mask, masked], axis=-1))
    return noise, start, lambda i: generator.latents(shape)
