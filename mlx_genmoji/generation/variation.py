"""What is done to a decoded picture so that candidates differ: mirrored, turned, scaled, in another shade.

White stays white, and the figure stays within the frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError, quoted

MAX_TURN = 45.0
SCALES = (0.5, 2.0)
FACTORS = (0.0, 3.0)

MARGIN = 0.02
"""The least margin on each side, as a fraction of the picture's; less where the figure has less itself."""

FIGURE = 244
"""What is darker than this in a channel is figure, not background."""

COLOURED = 60
"""The saturation, of 255, from which a pixel counts for the main colour."""
NEAR_HUE, FAR_HUE = 45.0, 65.0
"""Degrees from the main colour within which a pixel has it, and from which it has another."""


@dataclass(frozen=True)
class Shade:
    """A change of colour. hue: degrees; paint: further degrees for the picture's main colour alone; saturation,
    brightness: factors.
    """

    hue: float = 0.0
    paint: float = 0.0
    saturation: float = 1.0
    brightness: float = 1.0

    def apply(self, picture: Image.Image) -> Image.Image:
        """An RGB picture in this shade. What is white or grey keeps its hue; the lighter, the less it changes."""
        if self == Shade():
            return picture
        hsv: NDArray[Any] = np.asarray(picture.convert("HSV")).astype(np.float32)
        hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
        lightest = (value * (1 - saturation / 255) / 255) ** 2
        others = saturation * self.saturation, value * (1 + (self.brightness - 1) * (1 - lightest))
        shaded = _rgb((hue + self.hue * 256 / 360) % 256, *others)
        if not self.paint:
            return shaded
        painted = _rgb((hue + (self.hue + self.paint) * 256 / 360) % 256, *others)
        # Colours are blended, not hues: hues between red and blue would be a rainbow along each rim.
        weights = Image.fromarray(np.round(255 * near_main(hue, saturation)).astype(np.uint8), "L")
        return Image.composite(painted, shaded, weights)


def _rgb(hue: NDArray[Any], saturation: NDArray[Any], value: NDArray[Any]) -> Image.Image:
    """An RGB picture of planes (H, W), 0 to 255."""
    planes = np.stack([np.floor(hue), *(np.clip(np.round(x), 0, 255) for x in (saturation, value))], -1)
    return Image.fromarray(planes.astype(np.uint8), "HSV").convert("RGB")


def near_main(hue: NDArray[Any], saturation: NDArray[Any]) -> NDArray[Any]:
    """How much of each pixel is of the main colour, from 0 to 1. hue, saturation: (H, W), 0 to 255."""
    counts = np.histogram(hue, bins=32, range=(0, 256), weights=np.where(saturation > COLOURED, saturation, 0))[0]
    main = 8 * int((counts + np.roll(counts, 1) + np.roll(counts, -1)).argmax()) + 4
    distance = np.abs((hue - main + 128) % 256 - 128) * 360 / 256
    return np.clip((FAR_HUE - distance) / (FAR_HUE - NEAR_HUE), 0, 1)


@dataclass(frozen=True)
class Variation:
    """The changes of one candidate's picture. A recipe holds them, so that a replay makes the same ones."""

    variety: float
    """How much candidates were to differ, from 0 to 1."""
    mirrored: bool = False
    turn: float = 0.0
    """Degrees, counterclockwise."""
    scale: float = 1.0
    stretch: float = 1.0
    """Width over height, of what it was."""
    shades: tuple[Shade, ...] = ()
    """Of the drawings, in the order of `request.captions_of`; none where all keep their colours."""

    def shaded(self, drawings: Sequence[Image.Image]) -> list[Image.Image]:
        """The drawings of one candidate, each in its shade."""
        if not self.shades:
            return list(drawings)
        return [shade.apply(drawing) for shade, drawing in zip(self.shades, drawings, strict=True)]

    def moved(
        self, picture: Image.Image, outline: NDArray[np.bool_] | None
    ) -> tuple[Image.Image, NDArray[np.bool_] | None]:
        """An RGB picture on white, mirrored, turned and scaled about its figure's centre, within the frame.

        outline: the pixels of the figure, `(H, W)`, if they are known; they are moved likewise.
        """
        if (self.mirrored, self.turn, self.scale, self.stretch) == (False, 0.0, 1.0, 1.0):
            return picture, outline
        pixels = np.asarray(picture.convert("RGB"))
        rows, columns = np.nonzero(pixels.min(-1) < FIGURE)
        if not len(rows):
            return picture, outline
        points = np.stack([columns + 0.5, rows + 0.5])
        low, high = points.min(1), points.max(1)
        centre = (low + high) / 2
        linear = self._linear()
        offsets = linear @ (points - centre[:, None])
        least, most = offsets.min(1) - 1, offsets.max(1) + 1
        size = np.array(picture.size, np.float64)
        margin = min(MARGIN * float(size.min()), float(low.min()), float((size - high).min()))
        smaller = min(1.0, float(((size - 2 * margin) / (most - least)).min()))
        linear, least, most = linear * smaller, least * smaller, most * smaller
        target = np.clip(centre, margin - least, size - margin - most)
        back = np.linalg.inv(linear)
        shift = centre - back @ target
        matrix = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
        affine = (picture.size, Image.Transform.AFFINE, matrix)
        moved = picture.convert("RGB").transform(*affine, Image.Resampling.BICUBIC, fillcolor="white")
        if outline is not None:
            mask = Image.fromarray(outline.astype(np.uint8) * 255)
            outline = np.asarray(mask.transform(*affine, Image.Resampling.BILINEAR)) >= 128
        return moved, outline

    def _linear(self) -> NDArray[np.float64]:
        """The 2 x 2 matrix of the mirroring, the scale and the turn; y goes down."""
        angle, wide = math.radians(self.turn), math.sqrt(self.stretch)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        size = np.diag([self.scale * wide * (-1 if self.mirrored else 1), self.scale / wide])
        return turn @ size

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"shades": [asdict(shade) for shade in self.shades]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variation:
        """The inverse of `to_dict`, for recipes. Raises UserError for anything else."""
        shades = values.get("shades", [])
        if not isinstance(shades, list | tuple) or not all(isinstance(shade, Mapping) for shade in shades):
            raise UserError(f"The recipe's variation: 'shades' must be a list of objects, not {quoted(repr(shades))}.")
        mirrored = values.get("mirrored", False)
        if not isinstance(mirrored, bool):
            raise UserError(f"The recipe's variation: 'mirrored' must be true or false, not {quoted(repr(mirrored))}.")
        return cls(
            variety=_number(values, "variety", (0.0, 1.0), 1.0),
            mirrored=mirrored,
            turn=_number(values, "turn", (-MAX_TURN, MAX_TURN), 0.0),
            scale=_number(values, "scale", SCALES, 1.0),
            stretch=_number(values, "stretch", SCALES, 1.0),
            shades=tuple(
                Shade(
                    _number(shade, "hue", (-360.0, 360.0), 0.0),
                    _number(shade, "paint", (-360.0, 360.0), 0.0),
                    _number(shade, "saturation", FACTORS, 1.0),
                    _number(shade, "brightness", FACTORS, 1.0),
                )
                for shade in shades
            ),
        )


def _number(values: Mapping[str, Any], name: str, limits: tuple[float, float], default: float) -> float:
    value = values.get(name, default)
    sound = isinstance(value, int | float) and not isinstance(value, bool) and limits[0] <= value <= limits[1]
    if not sound:
        between = f"a number from {limits[0]:g} to {limits[1]:g}"
        raise UserError(f"The recipe's variation: {name!r} must be {between}, not {quoted(repr(value))}.")
    return float(value)
