"""Colours by name: finds the colour that a drawing has, and recolours a drawing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.floating[Any]]

# The largest hue, in degrees, that has each name. Red, orange and yellow with a value below `BROWN_VALUE` are brown.
HUES = (
    (12, "red"),
    (40, "orange"),
    (68, "yellow"),
    (165, "green"),
    (255, "blue"),
    (295, "purple"),
    (345, "pink"),
    (360, "red"),
)
BROWN_VALUE = 0.62


@dataclass(frozen=True)
class Target:
    """A colour to give a drawing: hue in degrees (None: a rainbow), mean saturation and mean value (both 0 to 1)."""

    hue: float | None
    saturation: float
    value: float


TARGETS = {
    "red": Target(358, 0.85, 0.88),
    "orange": Target(28, 0.88, 0.97),
    "yellow": Target(50, 0.82, 0.98),
    "green": Target(125, 0.68, 0.72),
    "blue": Target(214, 0.75, 0.92),
    "purple": Target(275, 0.6, 0.8),
    "pink": Target(335, 0.42, 0.98),
    "rainbow": Target(None, 0.72, 0.95),
}

# Further colours (`relations.MORE_COLOURS`), which captions of composed datasets do not use.
MORE_TARGETS = {
    "brown": Target(24, 0.62, 0.52),
    "black": Target(250, 0.12, 0.26),
    "white": Target(220, 0.03, 0.97),
    "grey": Target(220, 0.06, 0.62),
    "gold": Target(45, 0.8, 0.93),
    "silver": Target(215, 0.08, 0.8),
    "turquoise": Target(178, 0.68, 0.82),
}

# For each colour, the colours that look too much like it: such a drawing is not recoloured to it.
ALIKE = {
    "red": {"red", "pink"},
    "pink": {"pink", "red", "purple"},
    "brown": {"orange"},
    "orange": {"orange", "yellow"},
    "yellow": {"yellow", "orange"},
    "blue": {"blue", "purple"},
    "purple": {"purple", "blue", "pink"},
}

# A drawing has one colour if this share of its coloured pixels has it and this share of its pixels is coloured.
DOMINANT_SHARE, COLOURED_SHARE = 0.72, 0.5

# A figure is grey if at least this share of its pixels has no colour and its mean value is between these two.
GREY_SHARE, GREY_VALUES = 0.85, (0.42, 0.84)

# Pixels with less saturation are grey; pixels with a smaller value are outlines or eyes.
GREY_SATURATION, DARK_VALUE = 0.18, 0.22

# Pixels within this distance of the dominant hue, in degrees, have the dominant colour.
NEAR_HUE = 38


@dataclass(frozen=True)
class Dominant:
    """The colour of most of a drawing: its name, hue in degrees (None: grey), mean saturation and value (0 to 1)."""

    name: str
    hue: float | None
    saturation: float
    value: float


def dominant(image: Image.Image, least: float = 1.0) -> Dominant | None:
    """The colour of most of an RGBA figure; None if it has several or no colour.

    least: a factor for the shares that are required. With 0, the most frequent colour is returned, however rare it is.
    """
    alpha = np.asarray(image.getchannel("A"))
    hue, saturation, value = (band[alpha > 128] for band in _hsv(image))
    if not len(hue):
        return None
    coloured = (saturation > GREY_SATURATION) & (value > DARK_VALUE)
    if coloured.mean() < 1 - GREY_SHARE:
        mean = float(value.mean())
        return Dominant("grey", None, 0.0, mean) if not least or GREY_VALUES[0] < mean < GREY_VALUES[1] else None
    if coloured.mean() < least * COLOURED_SHARE:
        return None
    angles = np.deg2rad(hue[coloured])
    counts = np.histogram(hue[coloured], bins=36, range=(0, 360))[0]
    smooth = counts + np.roll(counts, 1) + np.roll(counts, -1)
    peak = int(smooth.argmax()) * 10 + 5
    near = np.abs((np.rad2deg(angles) - peak + 180) % 360 - 180) < NEAR_HUE
    if near.mean() < least * DOMINANT_SHARE:
        return None
    offset = float(((hue[coloured][near] - peak + 180) % 360 - 180).mean())
    centre = (peak + offset) % 360
    mean_saturation, mean_value = float(saturation[coloured][near].mean()), float(value[coloured][near].mean())
    return Dominant(_name(centre, mean_value), centre, mean_saturation, mean_value)


def recolour(image: Image.Image, current: Dominant, target: Target) -> Image.Image:
    """Recolour the pixels of an RGBA figure that have its current colour; shading, outlines and other colours stay."""
    hue, saturation, value = _hsv(image)
    if current.hue is None:
        share = np.clip((GREY_SATURATION + 0.08 - saturation) / 0.08, 0, 1) * np.clip((value - DARK_VALUE) / 0.15, 0, 1)
        new_saturation = np.clip(target.saturation * 0.8 * np.ones_like(saturation), 0, 1)
        new_value = np.clip(value * (target.value / current.value) ** 0.7, 0, 1)
        drift = np.zeros_like(hue)
    else:
        drift = (hue - current.hue + 180) % 360 - 180
        share = np.clip((NEAR_HUE + 12 - np.abs(drift)) / 12, 0, 1) * np.clip((saturation - 0.06) / 0.1, 0, 1)
        new_saturation = np.clip(saturation * target.saturation / max(current.saturation, 0.05), 0, 1)
        new_value = np.clip(value * (target.value / current.value) ** 0.85, 0, 1)
    wheel = np.linspace(0, 300, hue.shape[0])[:, None] + np.zeros_like(hue)
    painted = _rgb(wheel if target.hue is None else (target.hue + 0.4 * drift) % 360, new_saturation, new_value)
    rgba = np.asarray(image).astype(np.float32)
    mixed = rgba[..., :3] + (255 * painted - rgba[..., :3]) * share[..., None]
    return Image.fromarray(np.dstack([np.round(mixed), rgba[..., 3]]).astype(np.uint8), "RGBA")


# The colours of ice, RGB, from dark to light.
ICE = np.array([[30, 84, 150], [110, 190, 240], [236, 250, 255]], np.float32)


def icy(image: Image.Image) -> Image.Image:
    """The RGBA figure in the colours of ice, chosen by lightness and mixed with a little of its own colours."""
    rgba = np.asarray(image).astype(np.float32)
    lightness = np.asarray(image.convert("RGB").convert("L")).astype(np.float32) / 255 * 2
    ice = np.stack([np.interp(lightness, (0, 1, 2), ICE[:, channel]) for channel in range(3)], axis=-1)
    mixed = 0.82 * ice + 0.18 * rgba[..., :3]
    return Image.fromarray(np.dstack([np.round(mixed), rgba[..., 3]]).astype(np.uint8), "RGBA")


def _name(hue: float, value: float) -> str:
    """The name of a colour of this hue (degrees) and value (0 to 1)."""
    name = next(name for end, name in HUES if hue <= end)
    return "brown" if name in ("orange", "red", "yellow") and value < BROWN_VALUE else name


def _hsv(image: Image.Image) -> tuple[Plane, Plane, Plane]:
    """Hue in degrees, saturation and value (0 to 1) of a picture, each (H, W)."""
    hsv = np.asarray(image.convert("RGB").convert("HSV")).astype(np.float32) / 255
    return hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]


def _rgb(hue: Plane, saturation: Plane, value: Plane) -> Plane:
    """RGB in [0, 1], (H, W, 3), of hue in degrees, saturation and value (0 to 1), each (H, W)."""
    k = (np.array([5, 3, 1], np.float32) + hue[..., None] / 60) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))
