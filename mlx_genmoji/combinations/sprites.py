"""Emoji cut out of their pictures: transparent around the figure, and cropped to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import colours
from .face_features import features
from .silhouette import Core, core, face

# What is at least this opaque (of 255) counts as the figure.
OPAQUE = 24


@dataclass(frozen=True, eq=False)
class Sprite:
    """A part's picture, RGBA, cropped to the figure; `home`: where the figure lies in its own square picture (left,
    top, right, bottom, fractions of the square's side). source, label: whose drawing of which emoji it is, which says
    where its head and eyes are; role: a key of `names.ROLES`, or None.
    """

    image: Image.Image
    source: str
    label: str
    role: str | None
    home: tuple[float, float, float, float]

    @classmethod
    def cut(cls, image: Image.Image, source: str, label: str, role: str | None) -> Sprite | None:
        """The figure of an RGBA picture; None where the picture is empty."""
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
        """How far down the figure begins between two columns (fractions), as a fraction of its height."""
        alpha = self.alpha[:, int(left * self.image.width) : max(int(right * self.image.width), 1)]
        rows = np.flatnonzero((alpha > 128).any(1))
        return float(rows[0]) / self.image.height if len(rows) else 0.0

    def span(self, top: float, bottom: float) -> tuple[float, float]:
        """Between which columns the figure lies between two rows, all of them fractions."""
        alpha = self.alpha[int(top * self.image.height) : max(int(bottom * self.image.height), 1)]
        columns = np.flatnonzero((alpha > 128).any(0))
        if not len(columns):
            return 0.0, 1.0
        return float(columns[0]) / self.image.width, float(columns[-1] + 1) / self.image.width

    @cached_property
    def alpha(self) -> NDArray[np.uint8]:
        return np.asarray(self.image.getchannel("A"))

    @cached_property
    def core(self) -> Core:
        """The largest disc in the figure."""
        return core(self.alpha)

    @cached_property
    def face(self) -> Core | None:
        """The disc of skin in the upper part of a person; None where none is seen."""
        return face(self.image) if self.role == "person" else None

    @cached_property
    def colour(self) -> colours.Dominant | None:
        """The one colour that the figure mostly has, None where it has several."""
        return colours.dominant(self.image)

    @cached_property
    def features(self) -> Sprite:
        """A smiley's eyes and mouth without its face."""
        return replace(self, image=features(self.image), role=None)

    def in_colour(self, name: str) -> Sprite:
        """The figure in one of `colours.TARGETS`: where it has several colours, what has the commonest of them."""
        own = self.colour or colours.dominant(self.image, least=0)
        target = colours.TARGETS.get(name) or colours.MORE_TARGETS[name]
        return replace(self, image=colours.recolour(self.image, own, target)) if own else self

    @cached_property
    def frozen(self) -> Sprite:
        """The figure in the colours of ice."""
        return replace(self, image=colours.icy(self.image))
