"""Sprites: drawings of single emoji, cropped to the figure, transparent around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import colours
from .face_features import features
from .silhouette import Core, core, face

# A pixel belongs to the figure if its alpha (0 to 255) is at least this.
OPAQUE = 24


@dataclass(frozen=True, eq=False)
class Sprite:
    """The drawing of one emoji, cropped to the figure."""

    image: Image.Image
    """RGBA."""
    source: str
    """The emoji set, such as "noto". With `label` it finds the drawing's head and eyes in `anchors`."""
    label: str
    """Unicode's name of the emoji; "" for a drawing that is put together of several."""
    role: str | None
    """A key of `names.ROLES`, or None."""
    home: tuple[float, float, float, float]
    """The figure's box in its square picture before cropping: left, top, right, bottom, as fractions of the side."""

    @classmethod
    def cut(cls, image: Image.Image, source: str, label: str, role: str | None) -> Sprite | None:
        """Crop an RGBA picture to its figure; None if the picture is empty."""
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
        """The top edge of the figure between two columns, as a fraction of its height.

        left, right: the columns, as fractions of the width.
        """
        alpha = self.alpha[:, int(left * self.image.width) : max(int(right * self.image.width), 1)]
        rows = np.flatnonzero((alpha > 128).any(1))
        return float(rows[0]) / self.image.height if len(rows) else 0.0

    def span(self, top: float, bottom: float) -> tuple[float, float]:
        """The left and right edge of the figure between two rows, as fractions of its width.

        top, bottom: the rows, as fractions of the height.
        """
        alpha = self.alpha[int(top * self.image.height) : max(int(bottom * self.image.height), 1)]
        columns = np.flatnonzero((alpha > 128).any(0))
        if not len(columns):
            return 0.0, 1.0
        return float(columns[0]) / self.image.width, float(columns[-1] + 1) / self.image.width

    @cached_property
    def alpha(self) -> NDArray[np.uint8]:
        """The alpha channel, (height, width), 0 to 255."""
        return np.asarray(self.image.getchannel("A"))

    @cached_property
    def core(self) -> Core:
        """The largest disc that fits into the figure."""
        return core(self.alpha)

    @cached_property
    def face(self) -> Core | None:
        """The disc of skin in the upper part of a person; None if no skin is found there."""
        return face(self.image) if self.role == "person" else None

    @cached_property
    def colour(self) -> colours.Dominant | None:
        """The colour of most of the figure; None if it has several."""
        return colours.dominant(self.image)

    @cached_property
    def features(self) -> Sprite:
        """A smiley's eyes and mouth alone, without the face behind them."""
        return replace(self, image=features(self.image), role=None)

    def in_colour(self, name: str) -> Sprite:
        """The figure recoloured; of a figure with several colours, only the pixels of the most frequent one change.

        name: a key of `colours.TARGETS` or `colours.MORE_TARGETS`.
        """
        current = self.colour or colours.dominant(self.image, least=0)
        target = colours.TARGETS.get(name) or colours.MORE_TARGETS[name]
        return replace(self, image=colours.recolour(self.image, current, target)) if current else self

    def cropped(self, box: tuple[float, float, float, float]) -> Sprite:
        """A piece of the figure. box: left, top, right and bottom, as fractions of the picture."""
        width, height = self.image.size
        left, top, right, bottom = box
        corners = (round(left * width), round(top * height), round(right * width), round(bottom * height))
        return replace(self, image=self.image.crop(corners))

    @cached_property
    def frozen(self) -> Sprite:
        """The figure in the colours of ice."""
        return replace(self, image=colours.icy(self.image))
