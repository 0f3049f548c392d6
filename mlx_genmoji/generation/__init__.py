"""One drawing, step by step: `request` -> `denoise` -> picture, and its `recipe`.

Here: the last step, from decoded pixels to the finished picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from PIL import Image

from ..errors import UserError

if TYPE_CHECKING:
    from .recipe import Recipe


def to_picture(pixels: mx.array) -> Image.Image:
    """(1, H, W, 3) in [-1, 1] -> RGB. Raises UserError where a value is not a finite number."""
    values = np.asarray(pixels[0])
    if not np.isfinite(values).all():
        raise UserError("The model's result is not a number: its weights may be damaged, or the guidance too high.")
    return Image.fromarray(np.round(np.clip(values / 2 + 0.5, 0, 1) * 255).astype(np.uint8))


def finished(recipe: Recipe, pictures: Sequence[Image.Image]) -> Image.Image:
    """The sticker of a recipe, from the pictures of its captions in the order of `request.captions_of`.

    The parts of a combination are put together; the recipe's variation is applied.
    """
    if recipe.variation is not None:
        pictures = recipe.variation.shaded(pictures)
    picture = pictures[0]
    if recipe.combination is not None:
        from ..combinations import assemble

        parts = reversed(recipe.combination.parts)
        picture = assemble.put_together(recipe.combination, dict(zip(parts, pictures, strict=True)))
    return picture if recipe.variation is None else recipe.variation.moved(picture)
