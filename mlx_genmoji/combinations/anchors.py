"""Anchors: the positions of heads, eyes, backs, rims and seats in the drawings of each emoji set.

They were measured by eye and are listed in `anchors.tsv`, in tenths of the drawing's box from its upper left corner;
widths are in tenths of the box's width. The functions here return fractions of the box.
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
    """A point of a drawing and the figure's width there, as fractions of the drawing's box."""

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
    """A container's opening: the ellipse's centre and half axes, as fractions of its box."""

    x: float
    y: float
    half_width: float
    half_height: float


@cache
def table() -> dict[tuple[str, str, str], tuple[float, ...]]:
    """The rows of `anchors.tsv`: (kind of anchor, set, label) -> numbers, as fractions; missing numbers are NaN.

    The kinds are `body`, `rim`, `seat`, `face` and so on; each has numbers of its own.
    """
    return read_table(FILE)


def read_table(file: Path) -> dict[tuple[str, str, str], tuple[float, ...]]:
    """The rows of a file in the format of `anchors.tsv`: (kind of anchor, set, label) -> numbers, as fractions."""
    rows = {}
    for line in file.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            what, label, *sets = line.split("\t")
            for cell in sets:
                source, numbers = cell.split("=")
                rows[what, SOURCES[source], label] = tuple(
                    float("nan") if number == "-" else float(number) / 10 for number in numbers.split(",")
                )
    return rows


# The emoji sets that were measured, by their letter in the file. Other sets use Noto's anchors, because Apple's
# drawings and most others resemble Noto's.
SOURCES = {"f": "fluent", "n": "noto", "t": "twemoji", "o": "openmoji", "a": "any"}


Table = Mapping[tuple[str, str, str], tuple[float, ...]]


def find(rows: Table, what: str, source: str, label: str) -> tuple[float, ...] | None:
    """The numbers of a drawing's anchor; Noto's for a set that was not measured. None if there is no such row."""
    known = source if source in SOURCES.values() else "noto"
    return rows.get((what, known, label)) or rows.get((what, "any", label))


def _find(what: str, source: str, label: str) -> tuple[float, ...] | None:
    return find(table(), what, source, label)


def body(source: str, label: str) -> Body | None:
    """The head, eyes and back of a drawing; None if the table has no row for it."""
    numbers = _find("body", source, label)
    if numbers is None:
        return None
    spots = [Spot(*numbers[:3]), Spot(*numbers[3:6]), Spot(*numbers[6:8])]
    head, eyes, back = (spot if spot.x == spot.x else None for spot in spots)
    return Body(head, eyes, back)


def spot(what: str, source: str, label: str) -> Spot | None:
    """An anchor that is one spot; None if the table has no row for it.

    what: the kind of anchor, such as `hat` (the point of a hat that lies on the head), `seat` or `face`.
    """
    numbers = _find(what, source, label)
    return Spot(*numbers) if numbers else None


def rim(source: str, label: str) -> Rim | None:
    """The opening of a container; None if the table has no row for it."""
    numbers = _find("rim", source, label)
    return Rim(*numbers) if numbers else None


# Anchors of smileys and of people's heads by set: within a set nearly all are drawn alike.
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
    """The head, eyes and back of a figure: those of its own row, or the usual ones of its role. None for a thing."""
    measured = body(part.source, part.label)
    if measured is not None or part.role not in ("face", "person", "animal"):
        return measured
    if part.role == "animal":
        return CATS if "cat" in part.label.split() else None
    kind = FACES if part.role == "face" else HEADS
    return kind.get(part.source, kind["noto"])


def place_of(item: str) -> str | None:
    """The place where an item is worn, one of `PLACES`; None if it cannot be worn. item: a label."""
    return next((what for what, _, label in table() if label == item and what in PLACES), None)


def can_wear(part: Figure, item: str) -> bool:
    """Whether a figure can wear an item in its emoji set: both drawings must have the anchors that this needs.

    item: a label.
    """
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
    """The spot for a face on a thing that has none; None if there is no room for one."""
    return spot("face", part.source, part.label)


def seat(part: Figure) -> Spot | None:
    """The spot where a rider sits on a vehicle or an animal; None if it cannot be ridden."""
    figure = body(part.source, part.label)
    return figure.back if figure and figure.back else spot("seat", part.source, part.label)


class Figure(Protocol):
    """What finds the anchors of a drawing: a part of a combination, or its sprite."""

    @property
    def source(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def role(self) -> str | None: ...


PLACES = ("hat", "over", "eyes", "neck")
