"""Layouts: each places the sprites of one kind of combination on a plane.

A layout is called with the sprites, the subject's first, and with the name of the second part ("cloud", "two"). It
returns a scene: layers, in the units of `layers.py`, and the window that the picture shows. All combinations of a kind
use the same window, so a figure keeps its place in the picture and is only drawn smaller.
"""

from collections.abc import Callable, Sequence

from . import anchors, general_anchors
from .anchors import Spot
from .layers import Box, Layer, Opening, Scene, Window, around, longer, wide
from .relations import COUNTS, MORE_COUNTS
from .sprites import Sprite

LEFT, RIGHT = -1, 1

# Degrees by which each emoji set's wing is rotated, clockwise for the right wing: for a pair beside a figure that is
# seen from the front, and for wings on the back of a figure that is seen from the side.
WINGS_RAISED = {"fluent": -35.0, "noto": -30.0, "twemoji": -30.0, "openmoji": -20.0}
WINGS_ON_BACK = {"fluent": -52.0, "noto": -20.0, "twemoji": -20.0, "openmoji": -10.0}

Layout = Callable[[Sequence[Sprite], str], Scene]

# The scale of a figure relative to its own picture: with other things around it (AMONG), and as the ground, container
# or vehicle of another figure (UNDER).
AMONG, UNDER = 0.66, 0.74

# The longer side of what is held, of the figure's; its box is at most this share of the figure's box; and how much of
# the width of a head alone it leaves free, at least, and up to how many widths of glasses from the middle of the eyes.
HELD, MAX_HELD, FREE_OF_HANDS, BESIDE_EYES = 0.56, 0.5, 0.74, 0.62

# A hat ends this much above the middle of the eyes, in widths of glasses. A mouth is at most so high, of the figure.
EYE_HEIGHT, MAX_MOUTH = 0.2, 0.2

# Headphones: their width, of the face's at the eyes; where their cups are, of their height; a cup's width, of that, in
# the drawing and on the figure; how far cups are below the eyes and the band above the head, of the figure's height.
EARS, CUPS, CUP, CUP_WIDTH, CUPS_BELOW_EYES, BAND = 1.12, 0.74, 0.42, 0.3, 0.08, 0.14

# The window for two figures side by side, each with a longer side of 1 at most.
PAIR = Window(-1.02, -1.02, 2.04)


def wings(sprites: Sequence[Sprite], second: str) -> Scene:
    """Two wings on the back of a figure that is seen from the side, or a mirrored pair behind any other figure."""
    figure, wing = longer(sprites[0], 1), sprites[1]
    root = anchors.spot("root", wing.source, wing.label) or Spot(0.05, 0.6)
    body = anchors.body_of(sprites[0])
    window = around(sprites[0], AMONG)
    if body and body.back:
        # The wings point up, so that they do not hide the figure.
        side, far_side = longer(wing, 0.62), longer(wing, 0.56)
        x, y = body.back.x * figure.width, body.back.y * figure.height
        raised = WINGS_ON_BACK.get(wing.source, WINGS_ON_BACK["noto"])
        near = side.about(root, x, y + 0.08, raised)
        far = far_side.about(root, x - 0.1, y + 0.06, raised - 18)
        return Scene([far, figure.at(0, 0), near], window)
    pair = longer(wing, 0.68)
    raised = WINGS_RAISED.get(wing.source, WINGS_RAISED["noto"])
    reach, height = 0.24 * figure.width, 0.57 * figure.height
    layers = [
        pair.about(root, figure.width / 2 + reach, height, raised),
        pair.about(root, figure.width / 2 - reach, height, raised, mirrored=True),
        figure.at(0, 0),
    ]
    return Scene(layers, window)


def wearing(sprites: Sequence[Sprite], second: str) -> Scene:
    """A hat, glasses or a scarf on the figure."""
    figure, item = longer(sprites[0], 1), sprites[1]
    place_kind = general_anchors.worn_at(item.label) or "hat"
    hold = general_anchors.hold(item.source, item.label)
    place = _place(sprites[0], place_kind)
    worn = wide(item, place.width * figure.width * hold.width)
    left = place.x * figure.width - hold.x * worn.width
    top = place.y * figure.height - hold.y * worn.height
    if place_kind == "hat":
        top = min(top, _over_the_eyes(sprites[0], figure.height) - worn.height)
    body = anchors.body_of(sprites[0])
    if place_kind == "over" and (body is None or body.back is None):
        return _over_the_ears(sprites)
    scale = 0.94 if place_kind in ("eyes", "neck") else 0.74
    return Scene([figure.at(0, 0), worn.at(left, top)], around(sprites[0], scale))


def _over_the_eyes(sprite: Sprite, height: float) -> float:
    """The lowest edge of a hat, which leaves the eyes free. height: the figure's."""
    body = anchors.body_of(sprite)
    if body is None or body.eyes is None:
        return height
    return (body.eyes.y - EYE_HEIGHT * body.eyes.width * sprite.aspect) * height


def _over_the_ears(sprites: Sequence[Sprite]) -> Scene:
    """Headphones on a figure that is seen from the front: the band behind its head, a cup at each side of its face."""
    figure, item = longer(sprites[0], 1), sprites[1]
    body = anchors.body_of(sprites[0])
    row = body.eyes.y if body and body.eyes else general_anchors.face(sprites[0]).y
    left, right = (side * figure.width for side in sprites[0].span(row - 0.04, row + 0.1))
    width = max(right - left, 0.3 * figure.width) * EARS
    top = (head_of(sprites[0]).y - BAND) * figure.height
    cups = (row + CUPS_BELOW_EYES) * figure.height
    band = Layer(item, (left + right - width) / 2, top, width, (cups - top) / CUPS)
    cup = wide(item.cropped((0, 0.5, CUP, 1)), CUP_WIDTH * width)
    sides = [cup.centred(left, cups), cup.centred(right, cups, mirrored=True)]
    return Scene([band, figure.at(0, 0), *sides], around(sprites[0], 0.74))


def _place(sprite: Sprite, place_kind: str) -> Spot:
    """The spot of a figure where an item is worn, with the figure's width there.

    place_kind: "neck", "eyes", or any other for the top of the head.
    """
    body = anchors.body_of(sprite)
    if place_kind == "neck":
        return neck_of(sprite)
    if place_kind == "eyes":
        eyes = general_anchors.own_eyes(sprite) or (body and body.eyes)
        if eyes:
            return eyes
        face = general_anchors.face(sprite)
        return Spot(face.x, face.y - 0.08, face.width * 0.8)
    return head_of(sprite)


def neck_of(sprite: Sprite) -> Spot:
    """Where a figure's neck is; near the lower edge of a head alone, or of a thing."""
    if not general_anchors.is_head(sprite):
        return general_anchors.neck(sprite)
    body = anchors.body_of(sprite)
    return Spot(0.5, 0.86, 0.75 * (body.head.width if body and body.head else 1))


def head_of(sprite: Sprite) -> Spot:
    """The top of a figure's head, or of a thing."""
    body = anchors.body_of(sprite)
    if body and body.head:
        return Spot(body.head.x, body.head.y + 0.02, body.head.width)
    left, right = sprite.span(0, 0.2)
    width = min(max(right - left, 0.35), 0.7)
    middle = (left + right) / 2
    return Spot(middle, sprite.top(middle - 0.06, middle + 0.06) + 0.05, width)


def beside_hand(sprites: Sequence[Sprite], second: str) -> Scene:
    """The second part in front of the figure, smaller and low, on the side that the figure looks to.

    It leaves the middle of a head alone free, where the mouth is.
    """
    figure, held = longer(sprites[0], 1), held_size(sprites[1], HELD, sprites[0])
    side = hand_side(sprites[0])
    x = (0.94 if side == RIGHT else 0.06) * figure.width
    if sprites[0].role in ("animal", "face", "person") and general_anchors.is_head(sprites[0]):
        eyes = general_anchors.own_eyes(sprites[0])
        free = max(FREE_OF_HANDS, eyes.x + BESIDE_EYES * eyes.width if eyes else 0.0)
        x = max(x, free * figure.width + held.width / 2)
    # The window gets more room on that side only.
    window = around(sprites[0], 0.8)
    window = window._replace(left=window.left + side * 0.1 * window.side)
    return Scene([figure.at(0, 0), held.centred(x, figure.height * 0.76)], window)


def held_size(thing: Sprite, side: float, figure: Sprite) -> Box:
    """A thing with a longer side of `side`, or smaller, so that it is not larger than the figure that has it."""
    box, whole = longer(thing, side), longer(figure, 1)
    share = box.width * box.height / (whole.width * whole.height)
    return longer(thing, side * (MAX_HELD / share) ** 0.5) if share > MAX_HELD else box


def hand_side(sprite: Sprite) -> int:
    """The side that a figure looks to, on which it holds things: LEFT (-1) or RIGHT (1)."""
    body = anchors.body_of(sprite)
    return LEFT if (body and body.head and body.head.x < 0.4) else RIGHT


def contained(sprites: Sequence[Sprite], second: str) -> Scene:
    """The figure in a container, hidden below the front edge of its rim."""
    vessel = longer(sprites[1], 1)
    rim = anchors.rim(sprites[1].source, sprites[1].label)
    assert rim is not None
    opening = Opening(
        rim.x * vessel.width, rim.y * vessel.height, rim.half_width * vessel.width, rim.half_height * vessel.height
    )
    figure = wide(sprites[0], 2 * opening.half_width * 0.95)
    if figure.height > 0.95:
        figure = longer(sprites[0], 0.95)
    left, top = opening.x - figure.width / 2, opening.y + opening.half_height - 0.72 * figure.height
    layers = [vessel.at(0, 0), Layer(sprites[0], left, top, figure.width, figure.height, inside=opening)]
    return Scene(layers, around(sprites[1], UNDER))


def grounded(sprites: Sequence[Sprite], second: str) -> Scene:
    """The figure on a plate, on the moon, or on a cloud that it sinks into."""
    ground = longer(sprites[1], 1)
    plate = anchors.spot("plate", sprites[1].source, sprites[1].label)
    if plate:
        figure = longer(sprites[0], plate.width * ground.width * 0.95)
        layers = [ground.at(0, 0), figure.centred(plate.x * ground.width, plate.y * ground.height)]
        return Scene(layers, around(sprites[1]))
    seat = anchors.seat(sprites[1]) or Spot(0.5, 0.4)
    # The cloud is in front of the figure and hides its lower part.
    sunk, scale = (-0.04, 0.66) if second == "cloud" else (0.06, UNDER)
    standing = longer(sprites[0], 0.68).standing(seat.x * ground.width, seat.y * ground.height + sunk)
    layers = [standing, ground.at(0, 0)] if second == "cloud" else [ground.at(0, 0), standing]
    return Scene(layers, around(sprites[1], scale))


def burning(sprites: Sequence[Sprite], second: str) -> Scene:
    """A large flame behind the figure and two small ones in front of it."""
    figure, flame = longer(sprites[0], 1), sprites[1]
    behind = Box(flame, 1.3 * max(figure.width, 0.7), 1.4 * max(figure.height, 0.75))
    floor = figure.height * 1.04
    layers = [
        behind.standing(figure.width / 2, floor),
        figure.at(0, 0),
        longer(flame, 0.38).standing(figure.width * 0.02, floor),
        longer(flame, 0.3).standing(figure.width * 0.98, floor, mirrored=True),
    ]
    return Scene(layers, around(sprites[0], AMONG))


def scattered(sprites: Sequence[Sprite], second: str) -> Scene:
    """The second part (a heart, sparkles) three times around the figure's upper half."""
    figure = longer(sprites[0], 1)
    layers = [figure.at(0, 0)]
    for x, y, side, turned in ((0.02, 0.12, 0.34, -16), (0.98, 0.06, 0.4, 14), (1.02, 0.56, 0.28, 4)):
        layers.append(longer(sprites[1], side).centred(x * figure.width, y * figure.height, turned=turned))
    return Scene(layers, around(sprites[0], 0.78))


def under_a_cloud(sprites: Sequence[Sprite], second: str) -> Scene:
    """A rain or snow cloud above the figure."""
    figure = longer(sprites[0], 1)
    cloud = wide(sprites[1], 0.95 * max(figure.width, 0.8))
    layers = [figure.at(0, 0), cloud.standing(figure.width / 2, 0.2 * cloud.height)]
    return Scene(layers, around(sprites[0], AMONG))


def riding(sprites: Sequence[Sprite], second: str) -> Scene:
    """The figure on the seat of a vehicle or an animal; behind it for vehicles that it sits inside."""
    vehicle = longer(sprites[1], 1)
    seat = anchors.seat(sprites[1])
    assert seat is not None
    tilt = anchors.spot("tilt", sprites[1].source, sprites[1].label)
    rider = longer(sprites[0], 0.52 if sprites[0].role in ("face", "person") else 0.62)
    sitting = rider.standing(seat.x * vehicle.width, seat.y * vehicle.height + 0.08)
    mount = vehicle.at(0, 0, turned=90 * tilt.x if tilt else 0.0)
    layers = [sitting, mount] if second in ("flying saucer", "tractor") else [mount, sitting]
    return Scene(layers, around(sprites[1], UNDER))


def several(sprites: Sequence[Sprite], second: str) -> Scene:
    """The subject two, three or four times."""
    subject = longer(sprites[0], 1)
    if second in MORE_COUNTS:
        rows = [(x, y) for y in (-0.02, 1) for x in (-0.5, 0.5)]
        return Scene([subject.standing(x, y) for x, y in rows], PAIR)
    if COUNTS[second] == 2:
        return _row(subject, subject)
    layers = [subject.standing(0, -0.02), subject.standing(-0.5, 1), subject.standing(0.5, 1)]
    return Scene(layers, PAIR)


def side_by_side(sprites: Sequence[Sprite], second: str) -> Scene:
    """Both parts beside each other, equally large."""
    return _row(longer(sprites[0], 1), longer(sprites[1], 1))


def _row(left: Box, right: Box) -> Scene:
    """Both boxes side by side with their lower edges at the same height, centred in the picture."""
    floor = max(left.height, right.height) / 2
    return Scene([left.standing(-0.49, floor), right.standing(0.49, floor)], PAIR)


def tiny(sprites: Sequence[Sprite], second: str) -> Scene:
    """A small subject on top of a large second part."""
    return _stacked(sprites, 0.36, 0.82)


def on_top(sprites: Sequence[Sprite], second: str) -> Scene:
    """The subject on top of the second part."""
    return _stacked(sprites, 0.72, 0.6)


def _stacked(sprites: Sequence[Sprite], side: float, scale: float) -> Scene:
    """The subject, with a longer side of `side`, standing on the second part; scale: see `around`."""
    base, figure = longer(sprites[1], 1), longer(sprites[0], side)
    half = min(0.3 * figure.width / base.width, 0.2)
    floor = sprites[1].top(0.5 - half, 0.5 + half) * base.height
    layers = [base.at(0, 0), figure.standing(0.5 * base.width, floor + 0.1 * figure.height)]
    return Scene(layers, around(sprites[1], scale))


def alone(sprites: Sequence[Sprite], second: str) -> Scene:
    """The subject as in its own picture."""
    return Scene([longer(sprites[0], 1).at(0, 0)], around(sprites[0]))


def _own_mouth(sprites: Sequence[Sprite]) -> list[Layer]:
    """The third sprite, a mouth, where the first one's own mouth was; nothing where there is no third."""
    spot = general_anchors.own_mouth(sprites[0])
    if spot is None or len(sprites) < 3:
        return []
    figure, mouth = longer(sprites[0], 1), wide(sprites[2], 0.9 * spot.width * longer(sprites[0], 1).width)
    if mouth.height > MAX_MOUTH * figure.height:
        mouth = wide(sprites[2], mouth.width * MAX_MOUTH * figure.height / mouth.height)
    return [mouth.centred(spot.x * figure.width, spot.y * figure.height)]


def faced(sprites: Sequence[Sprite], second: str) -> Scene:
    """A smiley's eyes and mouth (the second sprite) on the subject, over its eyes if it has some."""
    figure = longer(sprites[0], 1)
    eyes = general_anchors.own_eyes(sprites[0])
    if eyes:
        known = anchors.FACES.get(sprites[0].source, anchors.FACES["noto"]).eyes
        assert known is not None
        # The features are at most so wide that the mouth still lies on the figure.
        room = (0.97 - eyes.y) * figure.height / (0.88 - known.y) * sprites[1].aspect
        larger = 1.35 if eyes.width < 0.25 else 1.0
        features = wide(sprites[1], min(larger * eyes.width * figure.width / known.width, room))
        x = eyes.x * figure.width + (0.5 - known.x) * features.width
        y = eyes.y * figure.height + (0.5 - known.y) * features.height
        return Scene([figure.at(0, 0), features.centred(x, y), *_own_mouth(sprites)], around(sprites[0]))
    spot = general_anchors.face(sprites[0])
    features = wide(sprites[1], spot.width * figure.width * 1.25)
    layers = [figure.at(0, 0), features.centred(spot.x * figure.width, spot.y * figure.height)]
    return Scene(layers, around(sprites[0]))


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
