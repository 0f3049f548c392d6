"""From decoded pixels to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..sticker import Sticker

if TYPE_CHECKING:
    from .recipe import Recipe

Mask = NDArray[np.bool_]

OPAQUE = 128
"""The alpha, of 255, from which a pixel belongs to the figure."""
MAX_STAIN, FAINT, STAIN = 0.01, 3, 48
"""A stain at the border is at most this share of the picture, and from FAINT to STAIN levels darker than white."""


def to_picture(pixels: mx.array, on_white: bool = False) -> Image.Image:
    """(1, H, W, 3) in [-1, 1] -> RGB. Raises UserError where a value is not a finite number.

    on_white: whether the background is to be white up to the corners.
    """
    values = np.asarray(pixels[0])
    if not np.isfinite(values).all():
        raise UserError("The model's result is not a number: its weights may be damaged, or the guidance too high.")
    picture = Image.fromarray(np.round(np.clip(values / 2 + 0.5, 0, 1) * 255).astype(np.uint8))
    return with_clean_border(picture) if on_white else picture


def finished(recipe: Recipe, pictures: Sequence[Image.Image], outlines: Sequence[Mask | None]) -> Sticker:
    """The sticker of a recipe, from the pictures of its captions in the order of `request.captions_of`.

    The parts of a combination are put together; the recipe's variation is applied. outlines: of each picture, as far as
    they are known (`sticker.outlines`).
    """
    if recipe.variation is not None:
        pictures = recipe.variation.shaded(pictures)
    picture, outline = pictures[0], None if outlines[0] is None else _scaled(outlines[0], pictures[0].size)
    if recipe.combination is not None:
        from ..combinations import assemble

        cut = [
            picture if known is None else Sticker(picture, outline=_scaled(known, picture.size)).cutout()
            for picture, known in zip(pictures, outlines, strict=True)
        ]
        parts = reversed(recipe.combination.parts)
        picture, alpha = assemble.assembled(recipe.combination, dict(zip(parts, cut, strict=True)))
        outline = None if alpha is None else np.asarray(alpha) >= OPAQUE
    if recipe.variation is not None:
        picture, outline = recipe.variation.moved(picture, outline)
    return Sticker(picture, recipe.to_dict(), outline)


def _scaled(outline: Mask, size: tuple[int, int]) -> Mask:
    """An outline in a picture's size (width, height)."""
    if outline.shape == size[::-1]:
        return outline
    return np.asarray(Image.fromarray(outline).resize(size, Image.Resampling.NEAREST))


def with_clean_border(picture: Image.Image) -> Image.Image:
    """A picture on white whose outermost pixels are white where they are nearly so, apart from the figure.

    An autoencoder leaves the corners of white pictures a little grey.
    """
    from ..sticker.cutout import components

    pixels = np.array(picture.convert("RGB"))
    contrast = 255 - pixels.min(-1).astype(np.int16)
    labels, at_border = components(contrast > FAINT)
    count = len(at_border)
    darkest = np.zeros(count, np.int16)
    np.maximum.at(darkest, labels.ravel(), contrast.ravel())
    small = np.bincount(labels.ravel(), minlength=count) <= MAX_STAIN * labels.size
    pixels[(at_border & small & (darkest <= STAIN))[labels]] = 255
    return Image.fromarray(pixels)
