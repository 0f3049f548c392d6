"""Figures whose transparency is known: drawn eight times as large, and made small by averaging."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

FINER = 8


def figure(draw: Callable[[ImageDraw.ImageDraw], None], side: int = 96) -> Image.Image:
    """What `draw` draws on a clear square of 96 units, RGBA of `side` px."""
    large = Image.new("RGBA", (96 * FINER, 96 * FINER))
    draw(ImageDraw.Draw(large))
    return large.resize((side, side), Image.Resampling.BOX)


def box(*sides: float) -> tuple[float, ...]:
    return tuple(side * FINER for side in sides)


def on(colour: str, image: Image.Image) -> Image.Image:
    flat = Image.new("RGBA", image.size, colour)
    flat.alpha_composite(image)
    return flat.convert("RGB")


def shaded(image: Image.Image) -> Image.Image:
    """The same, lit from above, so that no two rows have one colour."""
    pixels = np.asarray(image).astype(np.float32)
    light = np.linspace(1, 0.5, image.height)[:, None, None] * np.linspace(1, 0.5, image.width)[None, :, None]
    return Image.fromarray(np.concatenate([pixels[..., :3] * light, pixels[..., 3:]], -1).astype(np.uint8))
