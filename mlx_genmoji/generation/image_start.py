"""A user's picture and mask as arrays that a model takes."""

import mlx.core as mx
import numpy as np
from PIL import Image


def to_array(picture: Image.Image) -> mx.array:
    """RGB -> (1, H, W, 3) in [-1, 1]."""
    return mx.array(np.asarray(picture, np.float32)[None] / 127.5 - 1)


def latent_mask(mask: Image.Image, downscale: int) -> mx.array:
    """A fitted mask -> (1, H / f, W / f, 1) of 0 and 1: of each f x f pixels the first, as diffusers takes them."""
    return mx.array(np.asarray(mask, np.float32)[None, ::downscale, ::downscale, None] / 255)
