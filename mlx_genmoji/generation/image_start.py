"""Image to image and inpainting: from a user's picture and mask to the latents that a generation begins with."""

from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from ..families.base import Family, ImageStart
from ..pictures import fingerprint, fit_mask, fit_picture
from ..samplers import Schedule


def image_start(
    family: Family,
    size: tuple[int, int],
    downscale: int,
    schedule: Schedule,
    image: Image.Image,
    strength: float,
    mask: Image.Image | None,
) -> ImageStart:
    """Where a generation from `image` begins. With a mask, the white part of `image` is repainted.

    size: height and width of the picture. downscale: the side of a latent in pixels. Raises UserError if
    the strength leaves no step.
    """
    picture = fit_picture(image, *size)
    recipe: dict[str, Any] = {"strength": strength, "image_sha256": fingerprint(picture)}
    step, pixels = schedule.start(strength), to_array(picture)
    latents, deviation = family.posterior(pixels)
    if mask is None:
        return ImageStart(step, latents, None, (deviation, None), recipe)
    fitted = fit_mask(mask, *size)
    repainted = to_array(fitted.convert("RGB")) > 0
    masked, masked_deviation = family.posterior(mx.where(repainted, 0, pixels))
    inpainting = mx.concatenate([latent_mask(fitted, downscale), masked], axis=-1)
    recipe |= {"mask_sha256": fingerprint(fitted)}
    if strength == 1:
        return ImageStart(step, None, inpainting, (None, masked_deviation), recipe)
    return ImageStart(step, latents, inpainting, (deviation, masked_deviation), recipe)


def to_array(picture: Image.Image) -> mx.array:
    """RGB -> (1, H, W, 3) in [-1, 1]."""
    return mx.array(np.asarray(picture, np.float32)[None] / 127.5 - 1)


def latent_mask(mask: Image.Image, downscale: int) -> mx.array:
    """A fitted mask -> (1, H / f, W / f, 1) of 0 and 1: the first of each f x f pixels, as in diffusers."""
    return mx.array(np.asarray(mask, np.float32)[None, ::downscale, ::downscale, None] / 255)
