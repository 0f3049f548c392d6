"""Sprites: emoji cropped to their figure, transparent around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import colours
from .face_features import features

# Pixels with at least this alpha (of 255) belong to the figure.
OPAQUE = 24


@dataclass(frozen=True, eq=False)
class Sprite:
    """A part's picture, RGBA, cropped to the figure.

    source, label: the set and the emoji, by which `anchors` finds head and eyes. role: a key of `names.ROLES`, or None.
    home: the figure's box in the square picture that it was cut from: left, top, right and bottom as fractions of the
    square's side.
    """

    image: Image.Image
    source: str
    label: str
    role: str | None
    home: tuple[float, float, float, float]

    @classmethod
    def cut(cls, image: Image.Image, source: str, label: str, role: str | None) -> Sprite | None:
        """Crop an RGBA picture to its figure. None if the picture is empty."""
        box = image.getchannel("A").point(lambda value: 255 if value >= OPAQUE else 0).getbbox()
        if box is None:
            return None
        side = max(image.size)
        across, down = (side - image.width) / 2, (side - image.height) / 2
        home = ((box[0] + across) / side, (box[1] + down) / side, (box[2] + across) / side, (box[3] + down) / side)
        return cls(image.crop(box), source, label, role, home)

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.image.width / self.image.height

    def top(self, left: float, right: float) -> float:
        """The figure's highest point between two columns, from the top. All are fractions of width or height."""
        alpha = self.alpha[:, int(left * self.image.width) : max(int(right * self.image.width), 1)]
        rows = np.flatnonzero((alpha > 128).any(1))
        return float(rows[0]) / self.image.height if len(rows) else 0.0

    def span(self, top: float, bottom: float) -> tuple[float, float]:
        """The figure's leftmost and rightmost columns between two rows. All are fractions of width or height."""
        alpha = self.alpha[int(top * self.image.height) : max(int(bottom * self.image.height), 1)]
        columns = np.flatnonzero((alpha > 128).any(0))
        if not len(columns):
            return 0.0, 1.0
        return float(columns[0]) / self.image.width, float(columns[-1] + 1) / self.image.width

    @cached_property
    def alpha(self) -> NDArray[np.uint8]:
        return np.asarray(self.image.getchannel("A"))

    @cached_property
    def colour(self) -> colours.Dominant | None:
        """The dominant colour of the figure; None if it has several colours."""
        return colours.dominant(self.image)

    @cached_property
    def features(self) -> Sprite:
        """A smiley's eyes and mouth, without the rest of its face."""
        return replace(self, image=features(self.image), role=None)

    def in_colour(self, name: str) -> Sprite:
        """The figure in one of `colours.TARGETS`. If it has several colours, only the commonest is replaced."""
        present = self.colour or colours.dominant(self.image, least=0)
        return replace(self, image=colours.recolour(self.image, present, colours.TARGETS[name])) if present else self
