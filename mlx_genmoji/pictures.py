"""A user's picture, and what of it is to be repainted, as a model takes them."""

import hashlib

import mlx.core as mx
import numpy as np
from PIL import Image, ImageOps

# A mask's pixel from here on is repainted.
_HALF = 128


def fit_picture(image: Image.Image, height: int, width: int) -> Image.Image:
    """RGB (height, width) on white: upright as its camera says, transparency flattened, aspect kept, centred."""
    picture = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return ImageOps.pad(
        Image.alpha_composite(white, picture).convert("RGB"), (width, height), Image.Resampling.LANCZOS, "white"
    )


def fit_mask(mask: Image.Image, height: int, width: int) -> Image.Image:
    """0 and 255 (height, width), laid over a picture as `fit_picture` lays it; what is around it stays."""
    return ImageOps.pad(ImageOps.exif_transpose(mask).convert("L"), (width, height), Image.Resampling.NEAREST, 0).point(
        lambda value: 255 if value >= _HALF else 0
    )


def to_array(picture: Image.Image) -> mx.array:
    """RGB -> (1, H, W, 3) in [-1, 1]."""
    return mx.array(np.asarray(picture, np.float32)[None] / 127.5 - 1)


def latent_mask(mask: Image.Image, downscale: int) -> mx.array:
    """A fitted mask -> (1, H / f, W / f, 1) of 0 and 1: of each f x f pixels the first, as diffusers takes them."""
    return mx.array(np.asarray(mask, np.float32)[None, ::downscale, ::downscale, None] / 255)


def fingerprint(picture: Image.Image) -> str:
    """A hash of the pixels, which says in a recipe which picture was used."""
    return hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()
