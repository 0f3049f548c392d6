"""Colours by name: which one a drawing has, and the drawing in another one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.floating[Any]]

# Hues of the wheel, in degrees, where a name begins; what is darker than `BROWN_VALUE` between red and yellow is brown.
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
    """A colour to give: its hue in degrees (None: the wheel from top to bottom), and mean saturation and value."""

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

# Further ones, which captions of composed datasets do not have: `relations.MORE_COLOURS`.
MORE_TARGETS = {
    "brown": Target(24, 0.62, 0.52),
    "black": Target(250, 0.12, 0.26),
    "white": Target(220, 0.03, 0.97),
    "grey": Target(220, 0.06, 0.62),
    "gold": Target(45, 0.8, 0.93),
    "silver": Target(215, 0.08, 0.8),
    "turquoise": Target(178, 0.68, 0.82),
}

# Where two names are too near each other to tell a drawing's own colour from the new one.
ALIKE = {
    "red": {"red", "pink"},
    "pink": {"pink", "red", "purple"},
    "brown": {"orange"},
    "orange": {"orange", "yellow"},
    "yellow": {"yellow", "orange"},
    "blue": {"blue", "purple"},
    "purple": {"purple", "blue", "pink"},
}

# A drawing has one colour where this share of its coloured pixels has it, and these are this share of the figure.
DOMINANT_SHARE, COLOURED_SHARE = 0.72, 0.5

# A grey figure, neither white nor black, can be coloured too.
GREY_SHARE, GREY_VALUES = 0.85, (0.42, 0.84)

# What is less saturated is grey; what is darker is an outline or an eye.
GREY_SATURATION, DARK_VALUE = 0.18, 0.22

# How far from the dominant hue, in degrees, a pixel still takes part.
NEAR_HUE = 38


@dataclass(frozen=True)
class Dominant:
    """A drawing's one colour: its name, hue in degrees, mean saturation and value. Grey has no hue."""

    name: str
    hue: float | None
    saturation: float
    value: float


def dominant(image: Image.Image, least: float = 1.0) -> Dominant | None:
    """The colour that most of an RGBA figure has, None where it has several.

    least: how much of what is asked for is enough; with 0, the colour that more of the figure has than any other.
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


def recolour(image: Image.Image, own: Dominant, target: Target) -> Image.Image:
    """The figure in another colour; its shading, its outlines and what has other colours stay."""
    hue, saturation, value = _hsv(image)
    if own.hue is None:
        share = np.clip((GREY_SATURATION + 0.08 - saturation) / 0.08, 0, 1) * np.clip((value - DARK_VALUE) / 0.15, 0, 1)
        new_saturation = np.clip(target.saturation * 0.8 * np.ones_like(saturation), 0, 1)
        new_value = np.clip(value * (target.value / own.value) ** 0.7, 0, 1)
        drift = np.zeros_like(hue)
    else:
        drift = (hue - own.hue + 180) % 360 - 180
        share = np.clip((NEAR_HUE + 12 - np.abs(drift)) / 12, 0, 1) * np.clip((saturation - 0.06) / 0.1, 0, 1)
        new_saturation = np.clip(saturation * target.saturation / max(own.saturation, 0.05), 0, 1)
        new_value = np.clip(value * (target.value / own.value) ** 0.85, 0, 1)
    wheel = np.linspace(0, 300, hue.shape[0])[:, None] + np.zeros_like(hue)
    painted = _rgb(wheel if target.hue is None else (target.hue + 0.4 * drift) % 360, new_saturation, new_value)
    rgba = np.asarray(image).astype(np.float32)
    mixed = rgba[..., :3] + (255 * painted - rgba[..., :3]) * share[..., None]
    return Image.fromarray(np.dstack([np.round(mixed), rgba[..., 3]]).astype(np.uint8), "RGBA")


# The colours of ice, from its shadows to its light.
ICE = np.array([[30, 84, 150], [110, 190, 240], [236, 250, 255]], np.float32)


def icy(image: Image.Image) -> Image.Image:
    """An RGBA figure in the colours of ice, by its lightness, with a little of its own."""
    rgba = np.asarray(image).astype(np.float32)
    lightness = np.asarray(image.convert("RGB").convert("L")).astype(np.float32) / 255 * 2
    ice = np.stack([np.interp(lightness, (0, 1, 2), ICE[:, channel]) for channel in range(3)], axis=-1)
    mixed = 0.82 * ice + 0.18 * rgba[..., :3]
    return Image.fromarray(np.dstack([np.round(mixed), rgba[..., 3]]).astype(np.uint8), "RGBA")


def _name(hue: float, value: float) -> str:
    name = next(name for end, name in HUES if hue <= end)
    return "brown" if name in ("orange", "red", "yellow") and value < BROWN_VALUE else name


def _hsv(image: Image.Image) -> tuple[Plane, Plane, Plane]:
    """Hue in degrees, saturation and value, each (H, W)."""
    hsv = np.asarray(image.convert("RGB").convert("HSV")).astype(np.float32) / 255
    return hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]


def _rgb(hue: Plane, saturation: Plane, value: Plane) -> Plane:
    """HSV as RGB in [0, 1], (H, W, 3)."""
    k = (np.array([5, 3, 1], np.float32) + hue[..., None] / 60) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))
