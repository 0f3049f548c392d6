"""Where on an emoji's drawing the head, eyes, back, rim or seat is: the table `anchors.tsv`, made by eye for each set.

The table gives coordinates in tenths of the drawing's bounding box, from its upper left corner, and widths in tenths of
the box's width. This module returns both as fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

FILE = Path(__file__).with_name("anchors.tsv")


@dataclass(frozen=True)
class Spot:
    """A place on a drawing and the width there, as fractions of the drawing's box."""

    x: float
    y: float
    width: float = 0.0


@dataclass(frozen=True)
class Body:
    """The top of a figure's head, its eyes, and its back if it is seen from the side; None for what is not visible."""

    head: Spot | None
    eyes: Spot | None
    back: Spot | None


@dataclass(frozen=True)
class Rim:
    """A container's opening, an ellipse: its centre and half axes, as fractions of the drawing's box."""

    x: float
    y: float
    half_width: float
    half_height: float


@cache
def table() -> dict[tuple[str, str, str], tuple[float, ...]]:
    """The numbers of `anchors.tsv` as fractions, by kind (`body`, `rim`, ...), set and label; NaN if missing."""
    anchors = {}
    for line in FILE.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, label, *cells = line.split("\t")
            for cell in cells:
                source, numbers = cell.split("=")
                anchors[kind, SOURCES[source], label] = tuple(
                    float("nan") if number == "-" else float(number) / 10 for number in numbers.split(",")
                )
    return anchors


# The sets in the table. Noto's numbers serve for every other set: Apple's and most others are drawn alike.
SOURCES = {"f": "fluent", "n": "noto", "t": "twemoji", "o": "openmoji", "a": "any"}


def _find(kind: str, source: str, label: str) -> tuple[float, ...] | None:
    known = source if source in SOURCES.values() else "noto"
    return table().get((kind, known, label)) or table().get((kind, "any", label))


def body(source: str, label: str) -> Body | None:
    """A figure's head, eyes and back; None if the table has no such row."""
    numbers = _find("body", source, label)
    if numbers is None:
        return None
    spots = [Spot(*numbers[:3]), Spot(*numbers[3:6]), Spot(*numbers[6:8])]
    head, eyes, back = (spot if spot.x == spot.x else None for spot in spots)
    return Body(head, eyes, back)


def spot(kind: str, source: str, label: str) -> Spot | None:
    """The place in a row of this kind, such as a hat's brim or a vehicle's seat. None if there is no such row."""
    numbers = _find(kind, source, label)
    return Spot(*numbers) if numbers else None


def rim(source: str, label: str) -> Rim | None:
    """A container's opening; None if the table has no such row."""
    numbers = _find("rim", source, label)
    return Rim(*numbers) if numbers else None


# Smileys, and people's heads, by set: within a set nearly all have the same proportions.
FACES = {
    "fluent": Body(Spot(0.5, 0.05, 0.78), Spot(0.5, 0.36, 0.72), None),
    "noto": Body(Spot(0.5, 0.05, 0.78), Spot(0.5, 0.38, 0.66), None),
    "twemoji": Body(Spot(0.5, 0.05, 0.78), Spot(0.5, 0.41, 0.66), None),
    "openmoji": Body(Spot(0.5, 0.05, 0.78), Spot(0.5, 0.36, 0.6), None),
}
HEADS = {
    "fluent": Body(Spot(0.5, 0.03, 0.8), Spot(0.5, 0.5, 0.62), None),
    "noto": Body(Spot(0.5, 0.04, 0.8), Spot(0.5, 0.54, 0.62), None),
    "twemoji": Body(Spot(0.5, 0.04, 0.8), Spot(0.5, 0.54, 0.56), None),
    "openmoji": Body(Spot(0.5, 0.04, 0.5), Spot(0.5, 0.32, 0.36), None),
}
CATS = Body(Spot(0.5, 0.18, 0.55), Spot(0.5, 0.48, 0.5), None)


def body_of(part: Figure) -> Body | None:
    """A figure's head, eyes and back: from the table, else those typical of its role; None for a thing."""
    tabled = body(part.source, part.label)
    if tabled is not None or part.role not in ("face", "person", "animal"):
        return tabled
    if part.role == "animal":
        return CATS if "cat" in part.label.split() else None
    typical = FACES if part.role == "face" else HEADS
    return typical.get(part.source, typical["noto"])


def place_of(item: str) -> str | None:
    """Where an item is worn, one of `PLACES`; None if the table has no such row."""
    return next((kind for kind, _, label in table() if label == item and kind in PLACES), None)


def can_wear(part: Figure, item: str) -> bool:
    """Whether the place where an item is worn is visible on a figure, and the item's own anchor is known."""
    place = place_of(item)
    if place is None or spot(place, part.source, item) is None:
        return False
    figure, added_face = body_of(part), face(part)
    if place == "eyes":
        return bool((figure and figure.eyes) or added_face)
    if place == "neck":
        return figure is not None and figure.back is None and figure.head is not None and figure.head.width >= 0.5
    return figure is None or figure.head is not None


def face(part: Figure) -> Spot | None:
    """Where a face can be added to a thing; None if nowhere."""
    return spot("face", part.source, part.label)


def seat(part: Figure) -> Spot | None:
    """Where a rider sits on a vehicle or an animal; None if the table does not say."""
    figure = body(part.source, part.label)
    return figure.back if figure and figure.back else spot("seat", part.source, part.label)


class Figure(Protocol):
    """A `Part` or a `Sprite`: anything that has a set, a label and a role."""

    @property
    def source(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def role(self) -> str | None: ...


PLACES = ("hat", "over", "eyes", "neck")
