"""Where each part of a composition goes.

A layout is a list of layers, back to front, in units of the subject: its longer side is 1, its box's upper left corner
the origin, down is positive. What of the plane is then shown follows from the layers.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, radians, sin

from . import anchors
from .anchors import Spot
from .cutouts import Sprite
from .kinds import COUNTS

LEFT, RIGHT = -1, 1

# By how many degrees each set's wing is turned, clockwise on the right side, to rise beside a figure.
WINGS_RAISED = {"fluent": -35.0, "noto": -6.0, "twemoji": -12.0, "openmoji": 0.0}


@dataclass(frozen=True)
class Opening:
    """The ellipse of a container's rim: what is in the container ends at its front edge."""

    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True)
class Layer:
    """A sprite and the box it fills. turned: degrees clockwise, about the box's middle; mirrored: left to right."""

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
    """A sprite's size when its longer side is `side`."""

    sprite: Sprite
    width: float
    height: float

    def at(self, left: float, top: float, mirrored: bool = False, turned: float = 0.0) -> Layer:
        return Layer(self.sprite, left, top, self.width, self.height, mirrored, turned)

    def centred(self, x: float, y: float, mirrored: bool = False, turned: float = 0.0) -> Layer:
        return self.at(x - self.width / 2, y - self.height / 2, mirrored, turned)

    def standing(self, x: float, y: float, mirrored: bool = False) -> Layer:
        """With the middle of its lower edge at a point."""
        return self.at(x - self.width / 2, y - self.height, mirrored)

    def about(self, root: Spot, x: float, y: float, turned: float, mirrored: bool = False) -> Layer:
        """With its own spot `root` at a point, turned about it; a mirrored one turns the other way."""
        across, down = (root.x - 0.5) * self.width, (root.y - 0.5) * self.height
        turned, across = (-turned, -across) if mirrored else (turned, across)
        angle = radians(turned)
        moved_across = across * cos(angle) - down * sin(angle)
        moved_down = across * sin(angle) + down * cos(angle)
        return self.centred(x - moved_across, y - moved_down, mirrored, turned)


def longer(sprite: Sprite, side: float) -> Box:
    return Box(sprite, side * min(sprite.aspect, 1), side * min(1 / sprite.aspect, 1))


def wide(sprite: Sprite, width: float) -> Box:
    return Box(sprite, width, width / sprite.aspect)


Layout = Callable[[Sequence[Sprite], str, random.Random], list[Layer]]


def wings(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    """From the back of a figure seen from the side; else a mirrored pair behind it."""
    figure, wing = longer(sprites[0], 1), sprites[1]
    root = anchors.spot("root", wing.source, wing.label) or Spot(0.05, 0.6)
    body = anchors.body_of(sprites[0])
    if body and body.back:
        near = longer(wing, 0.62 + 0.12 * rng.random())
        x, y = body.back.x * figure.width, body.back.y * figure.height
        left, top = x - root.x * near.width, y + 0.06 - root.y * near.height
        far = near.at(left - 0.2, top - 0.02, turned=-14)
        return [far, figure.at(0, 0), near.at(left, top)]
    pair = longer(wing, 0.68 + 0.12 * rng.random())
    reach, height = 0.24 * figure.width, (0.52 + 0.1 * rng.random()) * figure.height
    raised = WINGS_RAISED.get(wing.source, WINGS_RAISED["noto"])
    return [
        pair.about(root, figure.width / 2 + reach, height, raised),
        pair.about(root, figure.width / 2 - reach, height, raised, mirrored=True),
        figure.at(0, 0),
    ]


def wearing(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    figure, item = longer(sprites[0], 1), sprites[1]
    what = anchors.place_of(item.label) or "hat"
    hold = anchors.spot(what, item.source, item.label)
    assert hold is not None
    place = _place(sprites[0], what)
    worn = wide(item, place.width * figure.width * hold.width * (0.95 + 0.1 * rng.random()))
    left = place.x * figure.width - hold.x * worn.width
    top = place.y * figure.height - hold.y * worn.height
    return [figure.at(0, 0), worn.at(left, top)]


def _place(sprite: Sprite, what: str) -> Spot:
    """Where on a figure a thing is worn, and how wide the figure is there."""
    body = anchors.body_of(sprite)
    if what == "neck":
        return Spot(0.5, 0.86, 0.75 * (body.head.width if body and body.head else 1))
    if what == "eyes":
        if body and body.eyes:
            return body.eyes
        face = anchors.face(sprite) or Spot(0.5, 0.45, 0.6)
        return Spot(face.x, face.y - 0.08, face.width * 0.8)
    if body and body.head:
        return Spot(body.head.x, body.head.y + 0.02, body.head.width)
    left, right = sprite.span(0, 0.2)
    width = min(max(right - left, 0.35), 0.7)
    middle = (left + right) / 2
    return Spot(middle, sprite.top(middle - 0.06, middle + 0.06) + 0.05, width)


def beside_hand(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    """The second part smaller, in front, low at the side that the first looks to."""
    figure = longer(sprites[0], 1)
    held = longer(sprites[1], 0.46 + 0.12 * rng.random())
    body = anchors.body_of(sprites[0])
    side = LEFT if (body and body.head and body.head.x < 0.4) else (RIGHT if rng.random() < 0.5 else LEFT)
    x = (0.92 if side == RIGHT else 0.08) * figure.width
    return [figure.at(0, 0), held.centred(x, figure.height * (0.74 + 0.08 * rng.random()), mirrored=False)]


def contained(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    vessel = longer(sprites[1], 1)
    rim = anchors.rim(sprites[1].source, sprites[1].label)
    assert rim is not None
    opening = Opening(
        rim.x * vessel.width, rim.y * vessel.height, rim.half_width * vessel.width, rim.half_height * vessel.height
    )
    figure = wide(sprites[0], 2 * opening.half_width * (0.72 + 0.1 * rng.random()))
    if figure.height > 0.95:
        figure = longer(sprites[0], 0.95)
    shown = 0.66 + 0.08 * rng.random()
    left, top = opening.x - figure.width / 2, opening.y + opening.half_height - shown * figure.height
    return [
        vessel.at(0, 0),
        Layer(sprites[0], left, top, figure.width, figure.height, inside=opening),
    ]


def grounded(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    """On a plate, on a cloud that it sinks into, on the moon."""
    ground = longer(sprites[1], 1)
    plate = anchors.spot("plate", sprites[1].source, sprites[1].label)
    if plate:
        figure = longer(sprites[0], plate.width * ground.width * 0.95)
        return [ground.at(0, 0), figure.centred(plate.x * ground.width, plate.y * ground.height)]
    seat = anchors.seat(sprites[1]) or Spot(0.5, 0.4)
    figure = longer(sprites[0], 0.62 + 0.1 * rng.random())
    standing = figure.standing(seat.x * ground.width, seat.y * ground.height + 0.06)
    return [standing, ground.at(0, 0)] if second == "cloud" else [ground.at(0, 0), standing]


def burning(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    figure, flame = longer(sprites[0], 1), sprites[1]
    behind = Box(flame, 1.3 * max(figure.width, 0.7), 1.4 * max(figure.height, 0.75))
    small = longer(flame, 0.42 + 0.08 * rng.random())
    floor = figure.height * 1.04
    return [
        behind.standing(figure.width / 2, floor),
        figure.at(0, 0),
        small.standing(figure.width * 0.06, floor),
        longer(flame, 0.36).standing(figure.width * 0.94, floor, mirrored=True),
    ]


def scattered(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    """Three hearts, or sparkles, about the figure's upper half."""
    figure = longer(sprites[0], 1)
    layers = [figure.at(0, 0)]
    places = [(0.02, 0.12, 0.3), (0.98, 0.06, 0.36), (1.02, 0.56, 0.24)] + [(-0.04, 0.6, 0.2)] * (rng.random() < 0.5)
    for x, y, side in places:
        moved = 0.06 * (rng.random() - 0.5)
        layers.append(
            longer(sprites[1], side * (0.9 + 0.3 * rng.random())).centred(
                (x + moved) * figure.width, (y - moved) * figure.height, turned=40 * (rng.random() - 0.5)
            )
        )
    return layers


def under_a_cloud(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    figure = longer(sprites[0], 1)
    cloud = wide(sprites[1], 0.95 * max(figure.width, 0.8))
    return [figure.at(0, 0), cloud.standing(figure.width / 2, (0.16 + 0.06 * rng.random()) * cloud.height)]


def riding(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    vehicle = longer(sprites[1], 1)
    seat = anchors.seat(sprites[1])
    assert seat is not None
    tilt = anchors.spot("tilt", sprites[1].source, sprites[1].label)
    rider = longer(sprites[0], (0.46 if sprites[0].role in ("face", "person") else 0.56) + 0.1 * rng.random())
    sitting = rider.standing(seat.x * vehicle.width, seat.y * vehicle.height + 0.08)
    mount = vehicle.at(0, 0, turned=90 * tilt.x if tilt else 0.0)
    return [sitting, mount] if second in ("flying saucer", "tractor") else [mount, sitting]


def several(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    one = longer(sprites[0], 1)
    step, lower = one.width * (0.98 - 0.12 * rng.random()), 0.1 * rng.random() - 0.05
    if COUNTS[second] == 2:
        return [one.at(0, 0), one.at(step, lower)]
    return [one.at(step / 2, -0.78 * one.height), one.at(0, 0), one.at(step, 0)]


def tiny(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    return _stacked(sprites, 0.3 + 0.08 * rng.random(), rng)


def on_top(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    return _stacked(sprites, 0.66 + 0.12 * rng.random(), rng)


def _stacked(sprites: Sequence[Sprite], side: float, rng: random.Random) -> list[Layer]:
    base, figure = longer(sprites[1], 1), longer(sprites[0], side)
    x = 0.5 + 0.1 * (rng.random() - 0.5)
    half = min(0.3 * figure.width / base.width, 0.2)
    floor = sprites[1].top(x - half, x + half) * base.height
    return [base.at(0, 0), figure.standing(x * base.width, floor + 0.1 * figure.height)]


def side_by_side(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    left, right = longer(sprites[0], 1), longer(sprites[1], 0.9 + 0.2 * rng.random())
    floor = max(left.height, right.height)
    gap = 0.02 - 0.1 * rng.random()
    return [left.at(0, floor - left.height), right.at(left.width + gap, floor - right.height)]


def alone(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    return [longer(sprites[0], 1).at(0, 0)]


def faced(sprites: Sequence[Sprite], second: str, rng: random.Random) -> list[Layer]:
    figure = longer(sprites[0], 1)
    spot = anchors.face(sprites[0])
    assert spot is not None
    features = wide(sprites[1], spot.width * figure.width * 1.25)
    return [figure.at(0, 0), features.centred(spot.x * figure.width, spot.y * figure.height)]


LAYOUTS: dict[str, Layout] = {
    "wings": wings,
    "wearing": wearing,
    "with": beside_hand,
    "in": contained,
    "on": grounded,
    "fire": burning,
    "hearts": scattered,
    "sparkles": scattered,
    "weather": under_a_cloud,
    "riding": riding,
    "count": several,
    "tiny": tiny,
    "colour": alone,
    "emotion": faced,
    "and": side_by_side,
    "on top": on_top,
}
