"""Where parts go in the kinds that only `arrange` makes, and where drawings lack the place that a kind needs."""

from collections.abc import Sequence
from math import ceil

from . import anchors, general_anchors
from .layers import Box, Layer, Opening, Scene, Window, around, longer, wide
from .layouts import PAIR, RIGHT, UNDER, Layout, head_of, held_size, neck_of
from .sprites import Sprite

# The hand that what is tiny stands on, where nothing else is named.
PALM = "palm up hand"

# How large things on the head are: their longer side, of the figure's; and how wide at most, of the figure's width.
ON_HEAD, MAX_ON_HEAD = 0.5, 0.8

# How wide a tie is at most, of the figure's width.
TIE_OF_HEAD = 0.45

# How large things are beside the subject, whose longer side is 1.
BESIDE = 0.52


def beside(sprites: Sequence[Sprite], second: str, side: int = RIGHT) -> Scene:
    """The second part smaller, in front, on the floor at the right (side 1) or left (-1)."""
    figure, other = longer(sprites[0], 1), held_size(sprites[1], BESIDE, sprites[0])
    # It covers a little of the subject, less of a narrow one.
    x = figure.width / 2 + side * (figure.width / 2 + 0.3 * other.width)
    window = around(sprites[0], 0.8)
    window = window._replace(left=window.left + side * 0.1 * window.side)
    return Scene([figure.at(0, 0), other.standing(x, figure.height * 1.03)], window)


def behind(sprites: Sequence[Sprite], second: str) -> Scene:
    """In what has no opening of its own: the subject looks out from behind the thing."""
    thing, figure = longer(sprites[1], 1), longer(sprites[0], 0.66)
    if sprites[1].role == "place":
        # Before a building, so that both are seen.
        figure = longer(sprites[0], 0.56)
        return Scene([thing.at(0, 0), figure.standing(thing.width / 2, thing.height * 1.03)], around(sprites[1], UNDER))
    x = general_anchors.middle(sprites[1]) * thing.width
    half = min(0.25 * figure.width, 0.4 * thing.width)
    top = sprites[1].top((x - half) / thing.width, (x + half) / thing.width) * thing.height
    hidden = 0.42 if sprites[1].role == "vehicle" else 0.36
    return Scene([figure.standing(x, top + hidden * figure.height), thing.at(0, 0)], around(sprites[1], UNDER))


def giant(sprites: Sequence[Sprite], second: str) -> Scene:
    """The subject over tiny ones of the second part, which show how large it is."""
    figure = longer(sprites[0], 1)
    layers = [figure.at(0, 0)]
    for x, side, mirrored in ((-0.06, 0.24, False), (1.06, 0.27, True), (0.3, 0.2, True)):
        small = longer(sprites[1], side)
        layers.append(small.standing(x * figure.width, figure.height + 0.06, mirrored))
    return Scene(layers, around(sprites[0], 0.85))


def tiny(sprites: Sequence[Sprite], second: str) -> Scene:
    """Small, on the palm of a hand."""
    hand = longer(sprites[1], 1)
    figure = longer(sprites[0], 0.54)
    return Scene([hand.at(0, 0), figure.standing(0.44 * hand.width, 0.34 * hand.height)], around(sprites[1], 0.7))


def place(sprites: Sequence[Sprite], second: str) -> Scene:
    """Before the picture of a place."""
    back = longer(sprites[1], 1)
    figure = longer(sprites[0], 0.64)
    return Scene([back.at(0, 0), figure.standing(back.width / 2, back.height * 0.97)], around(sprites[1]))


def frozen(sprites: Sequence[Sprite], second: str) -> Scene:
    """Snowflakes about the figure, which `scenes.prepared` has made the colour of ice."""
    figure = longer(sprites[0], 1)
    layers = [figure.at(0, 0)]
    for x, y, side, turned in ((0.04, 0.1, 0.26, -10), (0.97, 0.16, 0.32, 12), (0.98, 0.82, 0.26, 0)):
        layers.append(longer(sprites[1], side).centred(x * figure.width, y * figure.height, turned=turned))
    return Scene(layers, around(sprites[0], 0.85))


def group(sprites: Sequence[Sprite], second: str = "") -> Scene:
    """Two in a row, three as a triangle, four and more in two rows, the first sprite at the front left."""
    boxes = [longer(sprite, 1) for sprite in sprites]
    if len(boxes) <= 2:
        floor = max(box.height for box in boxes) / 2
        places = (-0.49, 0.49) if len(boxes) == 2 else (0.0,)
        return Scene([box.standing(x, floor) for box, x in zip(boxes, places, strict=True)], PAIR)
    front = ceil(len(boxes) / 2)
    back = len(boxes) - front
    layers = _spread(boxes[front:], -0.02, 1.0 if back > 1 else 0.0)
    layers += _spread(boxes[:front], 1.0, 1.0)
    side = 1.04 * front
    return Scene(layers, Window(-side / 2, 1.02 - side, side))


def _spread(boxes: Sequence[Box], floor: float, step: float) -> list[Layer]:
    """In a row on a floor, `step` apart, about 0."""
    first = -step * (len(boxes) - 1) / 2
    return [box.standing(first + number * step, floor) for number, box in enumerate(boxes)]


def inside(sprites: Sequence[Sprite], second: str) -> Scene:
    """In a thing without a rim in `anchors.tsv`: before its upper part, as in an open car, or behind it."""
    thing = longer(sprites[1], 1)
    rim = general_anchors.sill(sprites[1])
    if rim is None:
        return behind(sprites, second)
    x, y = rim.x * thing.width, rim.y * thing.height
    half_width, half_height = rim.half_width * thing.width, max(rim.half_height * thing.height, 0.01)
    opening = Opening(x, y, half_width * 1.6, half_height)
    figure = longer(sprites[0], 0.62)
    top = y + half_height - 0.7 * figure.height
    layer = Layer(sprites[0], x - figure.width / 2, top, figure.width, figure.height, inside=opening)
    return Scene([thing.at(0, 0), layer], around(sprites[1], UNDER))


def dressed(sprites: Sequence[Sprite], second: str) -> Scene:
    """In a garment: a head above it, a figure with a body behind it."""
    figure = longer(sprites[0], 1)
    if general_anchors.is_head(sprites[0]):
        garment = wide(sprites[1], 1.2 * max(figure.width, 0.7))
        layers = [garment.at((figure.width - garment.width) / 2, 0.84 * figure.height), figure.at(0, 0)]
        return Scene(layers, around(sprites[0], 0.55))
    neck = general_anchors.neck(sprites[0])
    garment = wide(sprites[1], min(1.05 * figure.width, 2.1 * neck.width * figure.width))
    layers = [figure.at(0, 0), garment.at(neck.x * figure.width - garment.width / 2, (neck.y - 0.02) * figure.height)]
    return Scene(layers, around(sprites[0], 0.9))


def seated(sprites: Sequence[Sprite], second: str) -> Scene:
    """On the back of an animal, or the top of a vehicle, that has no seat in `anchors.tsv`."""
    mount, rider = longer(sprites[1], 1), longer(sprites[0], 0.55)
    x = general_anchors.middle(sprites[1])
    top = sprites[1].top(x - 0.08, x + 0.08)
    return Scene(
        [mount.at(0, 0), rider.standing(x * mount.width, top * mount.height + 0.08)], around(sprites[1], UNDER)
    )


def on_head(sprites: Sequence[Sprite], second: str) -> Scene:
    """The second part standing on the figure's head, not wider than the figure."""
    figure = longer(sprites[0], 1)
    head = head_of(sprites[0])
    thing = longer(sprites[1], ON_HEAD)
    if thing.width > MAX_ON_HEAD * figure.width:
        thing = wide(sprites[1], MAX_ON_HEAD * figure.width)
    standing = thing.standing(head.x * figure.width, head.y * figure.height + 0.06 * thing.height)
    return Scene([figure.at(0, 0), standing], around(sprites[0], 0.72))


def at_neck(sprites: Sequence[Sprite], second: str) -> Scene:
    """The second part at the figure's neck, as a bow tie is worn."""
    figure = longer(sprites[0], 1)
    neck = neck_of(sprites[0])
    is_head = general_anchors.is_head(sprites[0])
    tie = wide(sprites[1], (TIE_OF_HEAD if is_head else min(0.55 * neck.width, TIE_OF_HEAD)) * figure.width)
    # At the chin of a head alone; a little below a figure's beak or chin.
    y = max(neck.y, 0.93) if is_head else neck.y + 0.02
    return Scene([figure.at(0, 0), tie.centred(neck.x * figure.width, y * figure.height)], around(sprites[0], 0.9))


LAYOUTS: dict[str, Layout] = {
    "at neck": at_neck,
    "on head": on_head,
    "beside": beside,
    "giant": giant,
    "place": place,
    "frozen": frozen,
}


def general_layout(kind: str, sprites: Sequence[Sprite]) -> Layout | None:
    """The layout of a kind that `layouts` lacks, or of one whose place in `anchors.tsv` the drawings lack."""
    if kind == "in" and anchors.rim(sprites[1].source, sprites[1].label) is None:
        return inside
    if kind == "tiny" and sprites[1].label == PALM:
        return tiny
    if kind == "wearing" and general_anchors.worn_at(sprites[1].label) == "body":
        return dressed
    if kind == "riding" and anchors.seat(sprites[1]) is None:
        return seated
    return LAYOUTS.get(kind)
