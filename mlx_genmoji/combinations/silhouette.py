"""What the outline of a figure says of it: where a face fits."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

# Outlines are looked at on a grid with this many cells along the longer side.
CELLS = 48


class Core(NamedTuple):
    """The largest disc in a figure: its middle as fractions of the figure's box, its diameter in widths of the box."""

    x: float
    y: float
    width: float


# Hues of skin of every tone, from 0 to 255, and the least saturation and value.
SKIN_HUES, SKIN_SATURATION, SKIN_VALUE = (6, 38), 70, 60

# A face lies in this upper part of a person, and is at least so wide, in widths of the person's box.
UPPER, MIN_FACE = 0.72, 0.12


def face(image: Image.Image) -> Core | None:
    """The disc of skin in the upper part of an RGBA person; None where there is none. Eyes and mouth are no holes."""
    alpha = np.asarray(image.getchannel("A"))
    hue, saturation, value = np.moveaxis(np.asarray(image.convert("RGB").convert("HSV")), -1, 0)
    skin = (alpha > 128) & (hue >= SKIN_HUES[0]) & (hue <= SKIN_HUES[1])
    skin &= (saturation > SKIN_SATURATION) & (value > SKIN_VALUE)
    skin[int(UPPER * len(skin)) :] = False
    step = max(1, max(skin.shape) // CELLS)
    closed = Image.fromarray(np.where(skin, 255, 0).astype(np.uint8))
    for filter_ in (ImageFilter.MaxFilter, ImageFilter.MinFilter):
        for _ in range(3):
            closed = closed.filter(filter_(2 * (step // 2) + 3))
    found = core(np.asarray(closed) & alpha)
    return found if found.width >= MIN_FACE and skin.any() else None


def core(alpha: NDArray[np.uint8]) -> Core:
    """The largest disc in a figure. alpha: (H, W), its box cropped to it."""
    height, width = alpha.shape
    step = max(height, width) / CELLS
    rows = np.minimum((np.arange(max(round(height / step), 1)) + 0.5) * step, height - 1).astype(int)
    columns = np.minimum((np.arange(max(round(width / step), 1)) + 0.5) * step, width - 1).astype(int)
    left = np.pad(alpha[np.ix_(rows, columns)] > 128, 1)
    deepest, depth = left, 0
    while left.any():
        deepest, depth = left, depth + 1
        # An octagon: a step in four directions, and in eight every second time.
        shrunk = left.copy()
        for axis in (0, 1):
            for shift in (-1, 1):
                shrunk &= np.roll(left, shift, axis)
        if depth % 2:
            for shift in (-1, 1):
                shrunk &= np.roll(np.roll(left, shift, 0), 1, 1) & np.roll(np.roll(left, shift, 0), -1, 1)
        left = shrunk
    if not depth:
        return Core(0.5, 0.5, 1.0)
    y, x = np.argwhere(deepest).mean(0) - 0.5
    return Core(float(x / len(columns)), float(y / len(rows)), min((2 * depth - 1) / len(columns), 1.0))
