"""Prompts that name a combination: "flying pig" is a pig, and wings.

What can be put together is read off the drawings of a set of emoji (`compose.anchors`), so a combination is one for
drawings in that set's manner. How it is said is in `phrases`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

from ..english import plural
from ..prompt.lexicon import emojis
from ..prompt.words import Words
from . import anchors
from .colours import TARGETS
from .names import NAMES, name_of, role_of
from .phrases import AFTER, ALSO, BEFORE, CALLED, NO_ADJECTIVES, WHOLE, phrases
from .relations import ATTRIBUTES, CONTAINERS, COUNTS, EMOTIONS, GROUNDS, HEARTS, RAIN, SNOW, WORN

# A combination has at most so many words and characters in its prompt, and so many parts besides the subject.
MAX_WORDS, MAX_CHARACTERS, MAX_JOINED = 18, 300, 3

# How many ways to read a piece of a prompt are looked at, and how many words may describe an emoji.
MAX_READINGS, MAX_ADJECTIVES = 8, 2

# In the order in which they apply: to the subject alone, about it, and then it as a whole, once, with something else.
TRANSFORMS = ("colour", "emotion")
ADDITIONS = ("fire", "wings", "wearing", "with", "hearts", "sparkles", "weather")
PLACEMENTS = ("in", "on", "riding", "count", "tiny", "and", "on top")
ORDER = (*TRANSFORMS, *ADDITIONS, *PLACEMENTS)

# What an attribute's own emoji does to a subject that it is named beside; a heart can as well be held.
SHOWN_BY = {label: name for name, label in ATTRIBUTES.items() if name != HEARTS}
KIND_OF = {RAIN: "weather", SNOW: "weather"}

_OTHER_SIGNS = re.compile(r"[^\w\s&+,'’-]")

# The sets of emoji that drawings can be like.
SOURCES = frozenset(source for source in anchors.SOURCES.values() if source != "any")

# With these words there is more to read than one emoji.
_NO_ADJECTIVES = NO_ADJECTIVES | TARGETS.keys() | EMOTIONS.keys() | ALSO.keys()

# Commas are for lists alone: "a cat, with a hat", "wings, and a crown".
_COMMAS = re.compile(r"[\s,]*,[\s,]*(?:(and|with|wearing|holding|in|on)\s+)?")

Reading = tuple[Sequence["Part"], tuple["Joined", ...]]


@dataclass(frozen=True)
class Part:
    """An emoji to draw: what a model is asked for, whose drawing it is like (a label of Unicode), and its kind (a key
    of `compose.names.ROLES`, or None).
    """

    text: str
    label: str
    role: str | None


@dataclass(frozen=True)
class Joined:
    """What is put together with the subject: a kind of `compose.kinds`, the second part's name, and the part itself;
    None for a colour or a number.
    """

    kind: str
    second: str
    part: Part | None = None


@dataclass(frozen=True)
class Combination:
    """A subject, and what it is put together with, in the order of `ORDER`. source: the set that it is drawn like."""

    subject: Part
    joined: tuple[Joined, ...]
    source: str

    def __post_init__(self) -> None:
        """Raise ValueError where it could not be drawn."""
        texts = [self.source, *(text for one in self.joined for text in (one.kind, one.second))]
        texts += [text for part in self.parts for text in (part.text, part.label, part.role or "")]
        sound = (
            all(isinstance(text, str) for text in texts)
            and self.source in SOURCES
            and all(one.kind in ORDER and _is_whole(one) for one in self.joined)
            and len(self.joined) <= MAX_JOINED
            and _can_be_drawn(self.subject, self.joined, self.source)
        )
        if not sound:
            raise ValueError("There is no such combination.")

    @property
    def parts(self) -> list[Part]:
        """All that is to be drawn, each once, the subject first."""
        return list(dict.fromkeys([self.subject, *(one.part for one in self.joined if one.part)]))

    def captioned(self, caption: Callable[[Part], str]) -> Combination:
        """With other texts for its parts, such as what a model reads."""
        captions = {part: replace(part, text=caption(part)) for part in self.parts}
        joined = tuple(replace(one, part=captions[one.part]) if one.part else one for one in self.joined)
        return Combination(captions[self.subject], joined, self.source)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Combination:
        """That of a recipe. Raises KeyError, TypeError or ValueError where it is none."""
        joined = tuple(
            Joined(one["kind"], one["second"], Part(**one["part"]) if one["part"] else None) for one in values["joined"]
        )
        return cls(Part(**values["subject"]), joined, values["source"])


def read(prompt: str, words: Words, source: str) -> Combination | None:
    """The combination that a prompt names, of parts that there are emoji of; None where it names none.

    words: those that the model knows, for "hog with wings"; source: the set that the model's drawings are like. A
    prompt that is an emoji's own name ("heart on fire") is none, and none that drawings in this manner do not allow.
    """
    text = " ".join(prompt.lower().replace("w/", "with ").split())
    if len(text) > MAX_CHARACTERS or len(text.split()) > MAX_WORDS or _is_emoji(text, words):
        return None
    text = " ".join(_OTHER_SIGNS.sub(" ", text).split())
    text = _COMMAS.sub(lambda found: f" {found[1]} " if found[1] else ", ", text).strip(" ,")
    text = AFTER.sub("", text)
    # Of tones, what is left here is of several people.
    if not text or "skin" in text.split() or _is_emoji(text, words):
        return None
    reader = _Reader(words)
    for said in dict.fromkeys((text, text.replace("-", " "))):
        for subjects, joined in reader.readings(said, MAX_JOINED):
            found = _possible(subjects, joined, source)
            if found is not None:
                return found
    return None


@cache
def _parts() -> dict[str, list[Part]]:
    """Every emoji that can be a part, by what it is called; of several first the one whose label that is."""
    found: dict[str, list[Part]] = {}
    smileys = {label for labels in EMOTIONS.values() for label in labels}
    needed = {*ATTRIBUTES.values(), *WORN, *CONTAINERS, *GROUNDS, *smileys}
    for entry in emojis().values():
        role = role_of(entry.label, entry.subgroup)
        if role or entry.label in needed:
            part = Part(entry.label, entry.label, role)
            for name in {entry.label, name_of(entry.label)}:
                found.setdefault(name, []).append(part)
    for name, parts in found.items():
        parts.sort(key=lambda part: part.label != name)
    return found


@cache
def _singulars() -> dict[str, str]:
    called = {plural(name): label for name, label in CALLED.items() if not name.endswith("s")}
    return called | {plural(name): name for name in _parts()}


@cache
def _labels() -> frozenset[str]:
    return frozenset(entry.label for entry in emojis().values())


def _bare(text: str) -> str:
    """Without articles, and what says nothing of a picture."""
    return BEFORE.sub("", text, count=1) or text


def _is_emoji(text: str, words: Words) -> bool:
    """Whether a text is one emoji's name, or another word for one."""
    bare = _bare(text)
    return bare in _labels() or bare in NAMES.values() or bare in words.meant or bare in WHOLE


class _Reader:
    """Reads the pieces of one prompt, each once."""

    def __init__(self, words: Words):
        self._words = words
        self._known: dict[tuple[str, int], list[Reading]] = {}

    def readings(self, text: str, most: int) -> list[Reading]:
        """The ways to read a text: drawings that its subject may be, and what is put together with it."""
        text = _bare(text)
        if (text, most) not in self._known:
            self._known[text, most] = list(islice(self._read(text, most), MAX_READINGS))
        return self._known[text, most]

    def _read(self, text: str, most: int) -> Iterator[Reading]:
        named = self._named(text)
        if named:
            yield named, ()
            return
        if most and text not in WHOLE:
            for phrase in phrases():
                for first, second in phrase.matches(text):
                    if phrase.second is not None:
                        others = [_attribute(phrase.kind, phrase.second)]
                    else:
                        others = list(self._seconds(phrase.kind, second))
                    for subjects, joined in self.readings(first, most - 1) if others else ():
                        for other in others:
                            yield subjects, (*joined, self._as_before(other, joined, second))
        described = self._described(text)
        if described:
            yield described, ()

    def _named(self, text: str) -> list[Part]:
        """The emoji that a text names: the drawings that it may be, none where there is none."""
        meant = self._words.meant.get(_bare(text))
        return _called(text) or (_called(meant.within) if meant else [])

    def _described(self, text: str, most: int = MAX_ADJECTIVES) -> list[Part]:
        """The emoji that a text ends with, drawn as the text says: "baby penguin" is a penguin to what it wears."""
        first, _, rest = _bare(text).partition(" ")
        if not rest or not most or first in _NO_ADJECTIVES or first.endswith((",", "ing")):
            return []
        found = _called(rest) or self._described(rest, most - 1)
        return [Part(self._words.own(f"{first} {rest}"), part.label, part.role) for part in found]

    def _seconds(self, kind: str, text: str) -> Iterator[Joined]:
        """What a text may be as the second part of a kind."""
        bare = _bare(text)
        if kind in ("colour", "emotion", "count"):
            known = {"colour": TARGETS.keys(), "emotion": EMOTIONS.keys(), "count": COUNTS.keys()}[kind]
            if (name := ALSO.get(bare, bare)) in known:
                yield _attribute(kind, name)
            return
        if kind == "weather":
            if bare in (RAIN, SNOW):
                yield _attribute(kind, bare)
            return
        limits = {"wearing": WORN, "in": CONTAINERS, "on": GROUNDS}
        for part in self._named(text) or self._described(text):
            shown = SHOWN_BY.get(part.label)
            if shown and kind in ("with", "and"):
                yield _attribute(KIND_OF.get(shown, shown), shown)
            elif part.label in limits.get(kind, (part.label,)) and (part.role or kind in limits):
                yield Joined(kind, name_of(part.label), part)

    def _as_before(self, other: Joined, before: Sequence[Joined], second: str) -> Joined:
        """In "with wings and a crown" the crown is worn as well."""
        if other.kind == "and" and before and before[-1].kind in ADDITIONS:
            for kind in ("wearing", "with"):
                for better in self._seconds(kind, second):
                    if better.part and better.part.role not in ("animal", "face", "person"):
                        return better
        return other


def _called(text: str) -> list[Part]:
    """The drawings of the emoji that is called so, or of which several are."""
    bare = _bare(text)
    names = (CALLED.get(bare), bare, _singulars().get(bare))
    return next((_parts()[name] for name in names if name in _parts()), [])


def _attribute(kind: str, second: str) -> Joined:
    """A second part by its name."""
    if kind in ("colour", "count"):
        return Joined(kind, second)
    label = EMOTIONS[second][0] if kind == "emotion" else ATTRIBUTES.get(second, second)
    return Joined(kind, second, _parts()[label][0])


def _is_whole(one: Joined) -> bool:
    """Whether what is joined has all that its kind needs."""
    known = {"colour": TARGETS.keys(), "count": COUNTS.keys(), "emotion": EMOTIONS.keys()}.get(one.kind)
    return (one.part is None) == (one.kind in ("colour", "count")) and (known is None or one.second in known)


def _possible(subjects: Sequence[Part], joined: Sequence[Joined], source: str) -> Combination | None:
    """The combination, of the first drawing of the subject that allows it."""
    joined = list(dict.fromkeys(_seated(one, source) for one in joined))
    kinds = [one.kind for one in joined]
    # In "a cat and a dog with hats" there is no telling who has what.
    if "and" in kinds and any(kind in (*TRANSFORMS, *ADDITIONS) for kind in kinds[kinds.index("and") :]):
        return None
    ordered = tuple(sorted(joined, key=lambda one: ORDER.index(one.kind)))
    subject = next((subject for subject in subjects if _can_be_drawn(subject, ordered, source)), None)
    return None if subject is None else Combination(subject, ordered, source)


def _can_be_drawn(subject: Part, joined: Sequence[Joined], source: str) -> bool:
    """Whether there is room for all, and a place on the subject."""
    once = [_once(one) for one in joined]
    others = {one.part.label for one in joined if one.part}
    return (
        bool(joined and subject.role)
        and len(set(once)) == len(once)
        and subject.label not in others
        and all(_allowed(subject, one, source) for one in joined)
    )


def _once(one: Joined) -> str:
    """Of what there is room for one: two hats would be on the same head."""
    if one.kind == "wearing" and one.part:
        return f"wearing {anchors.place_of(one.part.label)}"
    return "placement" if one.kind in PLACEMENTS else one.kind


def _seated(one: Joined, source: str) -> Joined:
    """Whoever drives what has no seat is on top of it."""
    seatless = one.kind == "riding" and one.part is not None and one.part.role == "vehicle"
    if seatless and one.part and anchors.seat(_Drawing(source, one.part.label, one.part.role)) is None:
        return replace(one, kind="on top")
    return one


@dataclass(frozen=True)
class _Drawing:
    """A part as a drawing of a set."""

    source: str
    label: str
    role: str | None


def _allowed(subject: Part, one: Joined, source: str) -> bool:
    figure = _Drawing(source, subject.label, subject.role)
    if one.part is None:
        return one.kind != "colour" or subject.role != "person"
    other = _Drawing(source, one.part.label, one.part.role)
    if one.kind == "emotion":
        return anchors.face(figure) is not None
    if one.kind == "wearing":
        # What has no eyes of its own wears glasses where they might be.
        eyeless = figure.role not in ("animal", "face", "person") and anchors.place_of(other.label) == "eyes"
        shown = anchors.spot("eyes", source, other.label) is not None
        return anchors.can_wear(figure, other.label) or (eyeless and shown)
    if one.kind == "in":
        return anchors.rim(source, other.label) is not None
    return one.kind != "riding" or anchors.seat(other) is not None
