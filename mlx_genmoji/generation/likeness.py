"""A drawing likened to a user's picture: in its place and size, and in its colours.

A model with a closed vocabulary draws its own pictures whatever noise it starts from, so image to image changes nothing
or leaves a smear. Instead the drawing of the prompt is moved to where the picture's figure is, and takes its colours:
mean and spread in CIELAB (Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images", 2001).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ..errors import UserError
from ..families.base import STRENGTH, ImageStart
from ..pictures import fingerprint, fit_picture, is_blank, normalised
from ..sticker import Sticker

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SOLID = 128
"""The alpha, of 255, from which a pixel belongs to a figure."""
LIGHTNESS_SHARE = 0.6
"""How much of the lightness is taken over: a drawing keeps its light and shade."""
SPREAD = (0.6, 1.6)
"""Limits of the change of the colours' spread."""
MIDDLE = 0.3
"""A picture without a ground to cut off is taken for its middle: an ellipse with half axes of this share."""


def likeness_start(size: tuple[int, int], image: Image.Image, strength: float | None) -> ImageStart:
    """The start from noise of a drawing that is likened to `image` afterwards.

    size: height and width in pixels. strength: how much of the drawing stays its own, 0 to 1, 0.8 by default. Raises
    UserError for another strength, and a blank image.
    """
    strength = STRENGTH if strength is None else strength
    if not 0 <= strength <= 1:
        raise UserError(f"The strength must be from 0 to 1, not {strength}.")
    if is_blank(normalised(image)):
        raise UserError("The image to start from is blank.")
    picture = fit_picture(image, *size)
    recipe = {"strength": strength, "image_sha256": fingerprint(picture), "likeness": True}
    return ImageStart(recipe=recipe, reference=picture)


def likened(
    picture: Image.Image, outline: Mask | None, reference: Image.Image, strength: float
) -> tuple[Image.Image, Mask | None]:
    """A drawing on white, and its outline if that is known, likened to `reference`, RGB of the same size.

    The smaller `strength`, the more: at 1 it is the drawing itself.
    """
    share = 1 - strength**2
    drawn = Sticker(picture, outline=outline).cutout()
    solid = np.asarray(drawn.getchannel("A")) >= SOLID
    theirs = np.asarray(Sticker(reference).cutout().getchannel("A")) >= SOLID
    if not solid.any() or not share:
        return picture, outline
    cut = not theirs.all() and theirs.any()
    coloured = _coloured(drawn, solid, reference, theirs if cut else _middle(theirs.shape), share)
    placed = _placed(coloured, _box(solid), _box(theirs), share) if cut else coloured
    white = Image.new("RGBA", placed.size, "white")
    return Image.alpha_composite(white, placed).convert("RGB"), np.asarray(placed.getchannel("A")) >= SOLID


def _coloured(drawn: Image.Image, solid: Mask, reference: Image.Image, theirs: Mask, share: float) -> Image.Image:
    """The cut out drawing with the mean and spread of the reference's colours, taken over by `share`."""
    lab, wanted = _lab(drawn.convert("RGB")), _lab(reference)
    mean, spread = lab[solid].mean(0), lab[solid].std(0)
    their_mean, their_spread = wanted[theirs].mean(0), wanted[theirs].std(0)
    ratio = np.clip(their_spread / np.maximum(spread, 1), *SPREAD) ** share
    ratio[0] = 1
    moved = mean + share * np.array([LIGHTNESS_SHARE, 1, 1]) * (their_mean - mean)
    changed = (lab - mean) * ratio + moved
    # White and black stay what they are: eyes and teeth have no colour to give away.
    near_grey = np.abs(lab[..., 1:]).max(-1, keepdims=True) < 6
    extreme = near_grey & ((lab[..., :1] > 92) | (lab[..., :1] < 18))
    picture = _rgb(np.where(extreme, lab, changed))
    picture.putalpha(drawn.getchannel("A"))
    return picture


def _placed(drawn: Image.Image, own: Floats, theirs: Floats, share: float) -> Image.Image:
    """The cut out drawing moved and scaled from its own box towards that of the reference's figure."""
    fitting = min((theirs[2] - theirs[0]) / (own[2] - own[0]), (theirs[3] - theirs[1]) / (own[3] - own[1]))
    scale = 1 + share * (fitting - 1)
    middle = (own[:2] + own[2:]) / 2
    target = middle + share * ((theirs[:2] + theirs[2:]) / 2 - middle)
    # From a pixel of the result to the drawing's: PIL's affine transform goes backwards.
    offset = middle - target / scale
    matrix = (1 / scale, 0, float(offset[0]), 0, 1 / scale, float(offset[1]))
    moved = drawn.convert("RGBa").transform(drawn.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return moved.convert("RGBA")


def _box(mask: Mask) -> Floats:
    """Left, top, right and bottom of what is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def _middle(shape: tuple[int, ...]) -> Mask:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    across, down = columns / shape[1] - 0.5, rows / shape[0] - 0.5
    ellipse: Mask = across**2 + down**2 < MIDDLE**2
    return ellipse


@cache
def _transforms() -> tuple[Any, Any]:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(srgb, lab, "RGB", "LAB"), ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


def _lab(picture: Image.Image) -> Floats:
    """CIELAB: L from 0 to 100, a and b from -128 to 127."""
    converted = ImageCms.applyTransform(picture, _transforms()[0])
    bands = np.asarray(converted)
    return np.dstack([bands[..., 0] / 2.55, bands[..., 1:].view(np.int8).astype(float)])


def _rgb(lab: Floats) -> Image.Image:
    lightness = np.clip(np.round(lab[..., 0] * 2.55), 0, 255).astype(np.uint8)
    colours = np.clip(np.round(lab[..., 1:]), -128, 127).astype(np.int8).view(np.uint8)
    picture = Image.frombytes("LAB", lightness.shape[::-1], np.dstack([lightness, colours]).tobytes())
    converted = ImageCms.applyTransform(picture, _transforms()[1])
    assert converted is not None
    return converted
