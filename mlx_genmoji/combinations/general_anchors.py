"""Where heads, faces, eyes, openings and seats are on drawings that `anchors.tsv` does not have.

`anchors.tsv` has what was read off drawings by eye; here are the rules for all others: a head is the top of the
silhouette, a face fits into the widest part of it, and whoever is in a thing looks out from behind it. The rows of
`general_anchors.tsv` are as those of `anchors.tsv`; they are separate because the captions of composed datasets, and
which prompts `reading` reads, follow from `anchors.tsv`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

from . import anchors
from .anchors import Figure, Spot
from .names import name_of
from .relations import HEADS

FILE = Path(__file__).with_name("general_anchors.tsv")

# Roles of what can hold something that looks out of it, and of what can be ridden, whatever it is.
HOLDERS = ("vehicle", "place", "thing", "food", "drink", "plant")
MOUNTS = ("vehicle", "animal")


@cache
def table() -> dict[tuple[str, str, str], tuple[float, ...]]:
    return anchors.read_table(FILE)


def spot(what: str, source: str, label: str) -> Spot | None:
    """A place from `general_anchors.tsv`."""
    numbers = anchors.find(table(), what, source, label)
    return Spot(*numbers) if numbers else None


@cache
def worn_at(label: str) -> str | None:
    """Where an item is worn: `hat`, `over`, `eyes`, `neck` or `body`; None for what is not worn."""
    known = anchors.place_of(label)
    return known or next((what for what, _, item in table() if item == label and what in WORN), None)


# A person that is so narrow, width over height, is drawn from head to foot.
SLENDER = 0.75

# Heads whose eyes are at their top.
HEADS_ALONE = frozenset(("frog",))

WORN = ("hat", "eyes", "neck", "body")


def hold(source: str, label: str) -> Spot:
    """The point of a worn item that lies on the place where it is worn, and its width in widths of that place."""
    what = worn_at(label) or "hat"
    found = anchors.spot(what, source, label) or spot(what, source, label)
    return found or Spot(0.5, 0.9, 1.0)


def can_hold(part: Figure) -> bool:
    """Whether something can be in a thing: it has an opening, or can be looked out of."""
    return anchors.rim(part.source, part.label) is not None or part.role in HOLDERS


def can_carry(part: Figure) -> bool:
    """Whether something can ride on it: it has a seat, or is a vehicle or an animal."""
    return anchors.seat(part) is not None or part.role in MOUNTS


def is_ridden(part: Figure) -> bool:
    """Whether who is on it rides it: it has a seat, or is an animal. On other things one stands."""
    return anchors.seat(part) is not None or part.role == "animal"


class Silhouette(Figure, Protocol):
    """A drawing of a part, whose outline can be looked at."""

    @property
    def core(self) -> tuple[float, float, float]: ...
    @property
    def face(self) -> tuple[float, float, float] | None: ...
    @property
    def aspect(self) -> float: ...
    def span(self, top: float, bottom: float) -> tuple[float, float]: ...
    def top(self, left: float, right: float) -> float: ...


def middle(part: Silhouette) -> float:
    """The column in the middle of a figure's upper half, as a fraction of its width."""
    left, right = part.span(0, 0.5)
    return (left + right) / 2


def face(part: Silhouette) -> Spot:
    """Where a face goes: on the spot that `anchors.tsv` has, or on the largest disc that fits into the figure."""
    found = anchors.face(part) or spot("face", part.source, part.label)
    if found:
        return found
    x, y, width = part.core
    return Spot(x, y, 0.72 * width)


def own_eyes(part: Silhouette) -> Spot | None:
    """The eyes of what has some; None for what is given a face."""
    found = spot("own eyes", part.source, part.label)
    if found or anchors.face(part):
        return found
    if part.role == "person" and not is_head(part):
        if part.face:
            x, y, width = part.face
            return Spot(x, y - 0.06 * width * part.aspect, width)
        if part.aspect < SLENDER:
            left, right = part.span(0.02, 0.16)
            return Spot((left + right) / 2, 0.1, 0.9 * (right - left))
    figure = anchors.body_of(part)
    return figure.eyes if figure else None


def own_mouth(part: Figure) -> Spot | None:
    """The mouth of a face that was measured."""
    return spot("own mouth", part.source, part.label)


def is_head(part: Figure) -> bool:
    """Whether a drawing shows a head alone, or is a thing: what is worn below it hangs from its lower edge."""
    figure = anchors.body(part.source, part.label)
    if part.role == "person":
        return name_of(part.label) in HEADS
    if figure is None or figure.eyes is None or part.role != "animal":
        return True
    return figure.back is None and (figure.eyes.y > 0.34 or part.label.endswith(" face") or part.label in HEADS_ALONE)


def neck(part: Silhouette) -> Spot:
    """Where the neck of a figure with a body is."""
    if part.role == "person" and part.face:
        x, y, width = part.face
        return Spot(x, y + 0.52 * width * part.aspect, 1.3 * width)
    figure = anchors.body(part.source, part.label)
    if figure is None or figure.eyes is None:
        return Spot(0.5, 0.68, 0.7)
    if figure.back is None:
        return Spot(figure.eyes.x, figure.eyes.y + 0.24, 1.4 * figure.eyes.width)
    head = figure.head or figure.eyes
    return Spot(head.x + 0.07, figure.eyes.y + 0.2, 1.1 * head.width)


def sill(part: Figure) -> anchors.Rim | None:
    """The upper edge of the body of a vehicle, whose roof and windows are behind who is in it."""
    numbers = anchors.find(table(), "rim", part.source, part.label)
    if numbers:
        return anchors.Rim(*numbers)
    return anchors.Rim(0.5, 0.52, 0.3, 0.02) if part.role == "vehicle" else None
