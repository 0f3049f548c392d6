"""A figure's own eyes and mouth painted over, so that it can be given those of a smiley."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .anchors import Spot

Pixels = NDArray[np.floating[Any]]

# Distance from a zone's own colour, of 255, where a pixel begins to be a feature, and where it is nothing else.
FAINT, SURE = 22.0, 48.0

# How often a zone's colour is fitted anew without what does not fit.
ROUNDS = 5


class Zone(NamedTuple):
    """An ellipse that has a feature in it: middle and half axes, as fractions of the picture."""

    x: float
    y: float
    half_width: float
    half_height: float


def zones(eyes: Spot, aspect: float, mouth: bool) -> list[Zone]:
    """Where a figure's own features are. eyes: their middle, and how wide glasses before them are; aspect: the
    figure's width over its height.
    """
    half = 0.36 * eyes.width * aspect
    found = [Zone(eyes.x + side * 0.25 * eyes.width, eyes.y, 0.31 * eyes.width, half) for side in (-1, 1)]
    if mouth:
        found.append(Zone(eyes.x, eyes.y + 0.5 * eyes.width * aspect, 0.5 * eyes.width, 0.32 * eyes.width * aspect))
    return found


def mouth_zone(mouth: Spot, aspect: float) -> Zone:
    """Where a figure's measured mouth is. aspect: the figure's width over its height."""
    return Zone(mouth.x, mouth.y, 0.62 * mouth.width, 0.36 * mouth.width * aspect)


def without_mouth(features: Image.Image) -> Image.Image:
    """A smiley's features without its mouth; tears stay."""
    rgba = np.asarray(features).copy()
    rgba[_mouth(rgba), 3] = 0
    return Image.fromarray(rgba, "RGBA")


def mouth_of(features: Image.Image) -> Image.Image | None:
    """The mouth of a smiley's features, cropped to it; None where it has none."""
    rgba = np.asarray(features).copy()
    rgba[~_mouth(rgba), 3] = 0
    picture = Image.fromarray(rgba, "RGBA")
    box = picture.getchannel("A").getbbox()
    return picture.crop(box) if box else None


def without_letters(features: Image.Image) -> Image.Image:
    """The features of the sleeping smiley without the blue letters above its eyes."""
    rgba = np.asarray(features).copy()
    height = rgba.shape[0]
    red, blue = rgba[..., 0].astype(int), rgba[..., 2].astype(int)
    letters = blue > red + 12
    letters[int(0.5 * height) :] = False
    rgba[_grown(letters, 2), 3] = 0
    return Image.fromarray(rgba, "RGBA")


def _mouth(rgba: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels of a smiley's mouth: the piece about the middle of its lower half; tears, which are blue, are none."""
    height, width = rgba.shape[:2]
    red, green, blue, alpha = (rgba[..., channel].astype(int) for channel in range(4))
    shown = (alpha > 60) & ~((blue > red + 30) & (green > red))
    lower = np.zeros_like(shown)
    lower[int(0.58 * height) :, int(0.46 * width) : int(0.54 * width)] = True
    mouth = shown & lower
    # Grown to the whole piece, but not up to the eyes.
    shown[: int(0.48 * height)] = False
    while True:
        grown = _grown(mouth, 1) & shown
        if (grown == mouth).all():
            return _grown(mouth, max(width // 64, 1))
        mouth = grown


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """A mask with the pixels next to it, up and down and then left and right of those, several times."""
    for _ in range(steps):
        for axis in (0, 1):
            mask = mask | np.roll(mask, 1, axis) | np.roll(mask, -1, axis)
    return mask


def painted_over(image: Image.Image, zones: Sequence[Zone]) -> Image.Image:
    """An RGBA figure without what stands out from its surroundings in each zone."""
    rgba = np.asarray(image).astype(np.float32)
    for zone in zones:
        rgba = _without_feature(rgba, zone)
    return Image.fromarray(np.round(rgba).astype(np.uint8), "RGBA")


def _without_feature(rgba: Pixels, zone: Zone) -> Pixels:
    height, width = rgba.shape[:2]
    top, bottom = (max(int((zone.y + side * 1.3 * zone.half_height) * height), 0) for side in (-1, 1))
    left, right = (max(int((zone.x + side * 1.3 * zone.half_width) * width), 0) for side in (-1, 1))
    piece = rgba[top:bottom, left:right]
    if min(piece.shape[:2]) < 4:
        return rgba
    y, x = np.mgrid[top : top + piece.shape[0], left : left + piece.shape[1]]
    x, y = (
        (x + 0.5 - zone.x * width) / (zone.half_width * width),
        (y + 0.5 - zone.y * height) / (zone.half_height * height),
    )
    distance = np.sqrt(x**2 + y**2)
    opaque = piece[..., 3] > 200
    ring = opaque & (distance > 0.78)
    if ring.sum() < 24:
        return rgba
    powers = np.stack([x**i * y**j for i in range(3) for j in range(3 - i)], axis=-1)
    chosen = ring & (_distance(piece, _commonest(piece[ring][:, :3])) < 60)
    base = piece[..., :3]
    for _ in range(ROUNDS):
        if chosen.sum() < 3 * powers.shape[-1]:
            return rgba
        weights, *_ = np.linalg.lstsq(powers[chosen], piece[chosen][:, :3], rcond=None)
        base = np.clip(powers @ weights, 0, 255)
        chosen = opaque & (_distance(piece, base) < FAINT + 8)
    # Not only what differs is covered, but also what lies next to it.
    differs = np.clip((_distance(piece, base) - FAINT) / (SURE - FAINT), 0, 1)
    grown = differs
    for axis in (0, 1):
        grown = np.maximum.reduce([np.roll(grown, shift, axis) for shift in (-2, -1, 0, 1, 2)])
    share = (grown * np.clip((1.0 - distance) / 0.12, 0, 1) * opaque)[..., None]
    result = rgba.copy()
    result[top:bottom, left:right, :3] = piece[..., :3] * (1 - share) + base * share
    return result


def _distance(pixels: Pixels, colours: Pixels) -> Pixels:
    return np.asarray(np.sqrt(((pixels[..., :3] - colours) ** 2).sum(-1)))


def _commonest(colours: Pixels) -> Pixels:
    """The mean of the colours in the fullest of 6 x 6 x 6 boxes."""
    boxes = (colours // 43).astype(int)
    names = boxes[:, 0] * 36 + boxes[:, 1] * 6 + boxes[:, 2]
    return np.asarray(colours[names == np.bincount(names).argmax()].mean(0))
