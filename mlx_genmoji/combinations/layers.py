"""What a layout is made of: sprites with a size, layers at a place, and the window that the picture shows.

The unit of length is the longer side of the subject, or of the thing that it stands on or sits in. The origin is the
upper left corner of that sprite's box; x grows to the right, y downwards.
"""

from dataclasses import dataclass
from math import cos, radians, sin
from typing import NamedTuple

from .anchors import Spot
from .sprites import Sprite


@dataclass(frozen=True)
class Opening:
    """The ellipse of a container's rim. A figure in the container is hidden below the ellipse's front (lower) edge."""

    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True)
class Layer:
    """A sprite and the box that it fills.

    mirrored: the sprite is flipped left to right. turned: degrees clockwise about the middle of the box. inside: the
    opening of the container that the sprite is in, or None.
    """

    sprite: Sprite
    left: float
    top: float
    width: float
    height: float
    mirrored: bool = False
    turned: float = 0.0
    inside: Opening | None = None


@dataclass(frozen=True)
class Box:
    """A sprite with a size, not placed yet; its methods return it as a layer at a place."""

    sprite: Sprite
    width: float
    height: float

    def at(self, left: float, top: float, mirrored: bool = False, turned: float = 0.0) -> Layer:
        """The layer whose box has its upper left corner at (left, top)."""
        return Layer(self.sprite, left, top, self.width, self.height, mirrored, turned)

    def centred(self, x: float, y: float, mirrored: bool = False, turned: float = 0.0) -> Layer:
        """The layer whose box has its middle at (x, y)."""
        return self.at(x - self.width / 2, y - self.height / 2, mirrored, turned)

    def standing(self, x: float, y: float, mirrored: bool = False) -> Layer:
        """The layer whose box has the middle of its lower edge at (x, y)."""
        return self.at(x - self.width / 2, y - self.height, mirrored)

    def about(self, root: Spot, x: float, y: float, turned: float, mirrored: bool = False) -> Layer:
        """The layer rotated by `turned` degrees about `root`, a spot of the sprite that is placed at (x, y).

        A mirrored layer is rotated the other way.
        """
        across, down = (root.x - 0.5) * self.width, (root.y - 0.5) * self.height
        turned, across = (-turned, -across) if mirrored else (turned, across)
        angle = radians(turned)
        moved_across = across * cos(angle) - down * sin(angle)
        moved_down = across * sin(angle) + down * cos(angle)
        return self.centred(x - moved_across, y - moved_down, mirrored, turned)


def longer(sprite: Sprite, side: float) -> Box:
    """The sprite with a longer side of `side`."""
    return Box(sprite, side * min(sprite.aspect, 1), side * min(1 / sprite.aspect, 1))


def wide(sprite: Sprite, width: float) -> Box:
    """The sprite with a width of `width`."""
    return Box(sprite, width, width / sprite.aspect)


class Window(NamedTuple):
    """The square of the plane that a picture shows: left, top and side."""

    left: float
    top: float
    side: float


class Scene(NamedTuple):
    """Layers, back to front, and the window of the plane that the picture shows."""

    layers: list[Layer]
    window: Window


def around(sprite: Sprite, scale: float = 1.0) -> Window:
    """The window that shows a sprite as its own picture does, scaled by `scale`.

    The sprite's box has its upper left corner at the origin and a longer side of 1. The fixed point of the scaling is
    the middle of the picture's lower edge.
    """
    left, top, right, bottom = sprite.home
    picture_side = 1 / max(right - left, bottom - top, 1e-3)
    side = picture_side / scale
    return Window((0.5 - left) * picture_side - side / 2, (1 - top) * picture_side - side, side)
