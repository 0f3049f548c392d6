"""Where on a picture a head, eyes, a back, a rim or a seat is: `anchors.tsv`, read off each set's drawings by eye.

Coordinates are tenths of a drawing's own box, from its upper left corner; widths are tenths of the box's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

FILE = Path(__file__).with_name("anchors.tsv")


@dataclass(frozen=True)
class Spot:
    """A place on a drawing, and a width there, as fractions of its box."""

    x: float
    y: float
    width: float = 0.0


@dataclass(frozen=True)
class Body:
    """A figure's places: the top of its head, its eyes, and its back if seen from the side. None: not shown."""

    head: Spot | None
    eyes: Spot | None
    back: Spot | None


@dataclass(frozen=True)
class Rim:
    """A container's opening: the ellipse's centre and half axes, as fractions of its box."""

    x: float
    y: float
    half_width: float
    half_height: float


@cache
def table() -> dict[tuple[str, str, str], tuple[float, ...]]:
    """What is known, by what it is (`body`, `rim`, ...), set and label; missing numbers are NaN."""
    return read_table(FILE)


def read_table(file: Path) -> dict[tuple[str, str, str], tuple[float, ...]]:
    """The rows of a file like `anchors.tsv`: (what, set, label) -> numbers, as fractions."""
    found = {}
    for line in file.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            what, label, *sets = line.split("\t")
            for cell in sets:
                source, numbers = cell.split("=")
                found[what, SOURCES[source], label] = tuple(
                    float("nan") if number == "-" else float(number) / 10 for number in numbers.split(",")
                )
    return found


# The sets that the table was read off; another one is taken to be drawn as Noto is, which Apple's and most others are.
SOURCES = {"f": "fluent", "n": "noto", "t": "twemoji", "o": "openmoji", "a": "any"}


Table = Mapping[tuple[str, str, str], tuple[float, ...]]


def find(rows: Table, what: str, source: str, label: str) -> tuple[float, ...] | None:
    """The numbers of a row; of a set that the table does not have, those of Noto."""
    known = source if source in SOURCES.values() else "noto"
    return rows.get((what, known, label)) or rows.get((what, "any", label))


def _find(what: str, source: str, label: str) -> tuple[float, ...] | None:
    return find(table(), what, source, label)


def body(source: str, label: str) -> Body | None:
    """The places of a figure that the table has."""
    numbers = _find("body", source, label)
    if numbers is None:
        return None
    spots = [Spot(*numbers[:3]), Spot(*numbers[3:6]), Spot(*numbers[6:8])]
    head, eyes, back = (spot if spot.x == spot.x else None for spot in spots)
    return Body(head, eyes, back)


def spot(what: str, source: str, label: str) -> Spot | None:
    """A place of another kind: what of a hat lies on the head, where a rider sits, where a face goes."""
    numbers = _find(what, source, label)
    return Spot(*numbers) if numbers else None


def rim(source: str, label: str) -> Rim | None:
    numbers = _find("rim", source, label)
    return Rim(*numbers) if numbers else None


# Smileys, and people's heads, by set: nearly all are drawn alike.
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
    """The places of a figure: the table's, or else those of its kind. None for a thing, whose top is all there is."""
    found = body(part.source, part.label)
    if found is not None or part.role not in ("face", "person", "animal"):
        return found
    if part.role == "animal":
        return CATS if "cat" in part.label.split() else None
    kind = FACES if part.role == "face" else HEADS
    return kind.get(part.source, kind["noto"])


def place_of(item: str) -> str | None:
    """Where an item is worn: the kind of its row in the table."""
    return next((what for what, _, label in table() if label == item and what in PLACES), None)


def can_wear(part: Figure, item: str) -> bool:
    """Whether a figure shows the place where an item goes, and the item is drawn as one that can go there."""
    what = place_of(item)
    if what is None or spot(what, part.source, item) is None:
        return False
    figure, given = body_of(part), face(part)
    if what == "eyes":
        return bool((figure and figure.eyes) or given)
    if what == "neck":
        return figure is not None and figure.back is None and figure.head is not None and figure.head.width >= 0.5
    return figure is None or figure.head is not None


def face(part: Figure) -> Spot | None:
    """Where a face goes on a thing that has none."""
    return spot("face", part.source, part.label)


def seat(part: Figure) -> Spot | None:
    """Where a rider sits on a vehicle or an animal."""
    figure = body(part.source, part.label)
    return figure.back if figure and figure.back else spot("seat", part.source, part.label)


class Figure(Protocol):
    """A part, or its picture."""

    @property
    def source(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def role(self) -> str | None: ...


PLACES = ("hat", "over", "eyes", "neck")
