"""What is combined with what: the parts of a picture, and how each is joined to the subject.

`reading` makes combinations from prompts, `arrange` from wishes, recipes carry them, and `assemble` draws them. Nothing
here draws, or imports what draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from . import anchors, general_anchors
from .relations import COUNTS, EMOTIONS, MORE_COLOURS, MORE_COUNTS, NAMES_OF

# The most things that a combination can have besides its subject.
MAX_JOINED = 4

# Kinds in the order in which they apply: changes of the subject itself; additions around it; placements of the result
# with something else; and what is behind all of it.
TRANSFORMS = ("colour", "frozen", "emotion")
ADDITIONS = ("fire", "wings", "wearing", "at neck", "on head", "with", "beside", "hearts", "sparkles", "weather")
PLACEMENTS = ("count", "in", "on", "riding", "tiny", "giant", "and", "on top")
SCENERY = ("place",)
ALL_KINDS = (*TRANSFORMS, *ADDITIONS, *PLACEMENTS, *SCENERY)

# Kinds of things that are joined at a part of the body and need not be garments -> where garments are worn there.
BODY_PLACES = {"at neck": "neck", "on head": "hat"}

# Kinds that stand for a name and have no picture of their own.
NAMES_ONLY = ("colour", "count")

# How many things can take a slot, where it is not one: two others can stand beside the subject, or three in a row with
# it.
ROOM = {"side": 2, "and": 3}

# The sets of emoji whose styles drawings can have.
SOURCES = frozenset(source for source in anchors.SOURCES.values() if source != "any")


@dataclass(frozen=True)
class Part:
    """An emoji to draw. text: the model's caption; label: the emoji whose drawing it resembles, by its Unicode label;
    role: a key of `names.ROLES`, or None.
    """

    text: str
    label: str
    role: str | None


@dataclass(frozen=True)
class Joined:
    """Something combined with the subject. kind: one of `ALL_KINDS`; second: the second part's name; part: the second
    part, None for a colour or a number.
    """

    kind: str
    second: str
    part: Part | None = None


@dataclass(frozen=True)
class Combination:
    """A subject and what is combined with it, in the order of `ALL_KINDS`. source: the set it is drawn like."""

    subject: Part
    joined: tuple[Joined, ...]
    source: str

    def __post_init__(self) -> None:
        """Raise ValueError if it cannot be drawn."""
        texts = [self.source, *(text for item in self.joined for text in (item.kind, item.second))]
        texts += [text for part in self.parts for text in (part.text, part.label, part.role or "")]
        sound = (
            all(isinstance(text, str) for text in texts)
            and self.source in SOURCES
            and can_be_joined(self.subject, self.joined, self.source)
        )
        if not sound:
            raise ValueError("There is no such combination.")

    @property
    def parts(self) -> list[Part]:
        """The different emoji to draw, the subject first."""
        return list(dict.fromkeys([self.subject, *(item.part for item in self.joined if item.part)]))

    def captioned(self, caption: Callable[[Part], str]) -> Combination:
        """The same combination with `caption(part)` as the text of each part."""
        captions = {part: replace(part, text=caption(part)) for part in self.parts}
        joined = tuple(replace(item, part=captions[item.part]) if item.part else item for item in self.joined)
        return Combination(captions[self.subject], joined, self.source)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Combination:
        """The inverse of `to_dict`, for recipes. Raises KeyError, TypeError or ValueError for anything else."""
        joined = tuple(
            Joined(item["kind"], item["second"], Part(**item["part"]) if item["part"] else None)
            for item in values["joined"]
        )
        return cls(Part(**values["subject"]), joined, values["source"])


@dataclass(frozen=True)
class Drawing:
    """A part as a set of emoji draws it: an `anchors.Figure` without its picture."""

    source: str
    label: str
    role: str | None


def can_be_joined(subject: Part, joined: Sequence[Joined], source: str) -> bool:
    """Whether each item is of a known kind and has what the kind needs, and each slot has room for what is in it."""
    slots = Counter(slot(item) for item in joined)
    return (
        0 < len(joined) <= MAX_JOINED
        and all(item.kind in ALL_KINDS and _is_whole(item) for item in joined)
        and all(taken <= ROOM.get(name, 1) for name, taken in slots.items())
        and sum(item.kind == "with" for item in joined) <= 1
        and subject.label not in {item.part.label for item in joined if item.part}
        and all(_has_room(subject, item, source) for item in joined)
    )


def slot(item: Joined) -> str:
    """The place that an item takes: two hats would be on the same head, what is held and what stands beside share the
    subject's two sides, and the subject is in, on or under one thing at most.
    """
    if item.kind == "wearing" and item.part:
        return f"wearing {general_anchors.worn_at(item.part.label)}"
    if item.kind in BODY_PLACES:
        return f"wearing {BODY_PLACES[item.kind]}"
    if item.kind in ("with", "beside"):
        return "side"
    return "placement" if item.kind in PLACEMENTS and item.kind not in ("count", "and") else item.kind


def _is_whole(item: Joined) -> bool:
    """Whether it has a part if its kind needs one, and a known name."""
    if (item.part is None) != (item.kind in NAMES_ONLY):
        return False
    if item.kind == "colour":
        return item.second in NAMES_OF["colour"] or item.second in MORE_COLOURS
    if item.kind == "emotion":
        return item.part is not None and (item.second in EMOTIONS or item.second == item.part.label)
    return item.kind != "count" or item.second in COUNTS or item.second in MORE_COUNTS


def _has_room(subject: Part, item: Joined, source: str) -> bool:
    """Whether the subject has, or can be given, the place that an item needs."""
    if item.part is None:
        # Skin is not recoloured.
        return item.kind != "colour" or subject.role != "person"
    other = Drawing(source, item.part.label, item.part.role)
    if item.kind == "emotion":
        return other.role == "face"
    if item.kind == "wearing":
        return general_anchors.worn_at(other.label) is not None
    if item.kind == "in":
        return general_anchors.can_hold(other)
    return item.kind != "riding" or general_anchors.can_carry(other)
