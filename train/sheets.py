"""Sheets of pictures: samples of a run side by side."""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_pixels(pictures: mx.array) -> NDArray[np.uint8]:
    """[-1, 1] -> 0..255."""
    return np.asarray(mx.round(mx.clip(pictures * 127.5 + 127.5, 0, 255)).astype(mx.uint8))


def sheet(pictures: NDArray[np.uint8], columns: int) -> Image.Image:
    """Pictures (N, H, W, 3) side by side, in rows of `columns`."""
    N, H, W, _ = pictures.shape
    image = Image.new("RGB", (columns * W, -(-N // columns) * H), "white")
    for place, picture in enumerate(pictures):
        image.paste(Image.fromarray(picture), (place % columns * W, place // columns * H))
    return image
