"""Reading a combination from a prompt: "flying pig" is a pig with wings.

A combination is read for one emoji set, the style that it is drawn in, because whether two emoji can be combined
depends on that set's drawings (`anchors`). The wordings are in `phrases`. This module imports no code that draws.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

from ..english import plural
from ..prompt.lexicon import emojis
from ..prompt.words import Words
from . import anchors
from .combination import ADDITIONS, ALL_KINDS, PLACEMENTS, SOURCES, TRANSFORMS, Combination, Drawing, Joined, Part
from .names import NAMES, name_of, role_of
from .phrases import AFTER, ALSO, BEFORE, CALLED, NO_ADJECTIVES, WHOLE, Phrase, phrases
from .relations import ATTRIBUTES, CONTAINERS, EMOTIONS, GROUNDS, HEARTS, KINDS, NAMES_OF, RAIN, SNOW, WORN

__all__ = ["ORDER", "SOURCES", "Combination", "Joined", "Part", "read"]

# The longest prompt, in words and in characters, and the most parts besides the subject.
MAX_WORDS, MAX_CHARACTERS, MAX_JOINED = 18, 300, 3

# The most ways to read a piece of a prompt that are tried, and the most adjectives before an emoji's name.
MAX_READINGS, MAX_ADJECTIVES = 8, 2

# The kinds of combinations that are read, in the order in which they are applied to the subject.
ORDER = tuple(kind for kind in ALL_KINDS if kind in {kind.name for kind in KINDS})

# Label of an emoji -> the attribute that it means beside a subject: in "pig + wing", wings. Hearts are not in it: they
# can also be held.
ATTRIBUTE_OF = {label: name for name, label in ATTRIBUTES.items() if name != HEARTS}
KIND_OF = {RAIN: "weather", SNOW: "weather"}

_WITHOUT = re.compile(r"\bw/o(?:ut)?\b")
_OTHER_SIGNS = re.compile(r"[^\w\s&+,'’-]")

# Words that are not adjectives of the emoji's name after them: colours and emotions are parts of a combination.
_NO_ADJECTIVES = NO_ADJECTIVES | NAMES_OF["colour"] | NAMES_OF["emotion"] | ALSO.keys()

# A comma, with the joining word after it: "a cat, with a hat" means the same without the comma.
_COMMAS = re.compile(r"[\s,]*,[\s,]*(?:(and|with|wearing|holding|in|on)\s+)?")

Reading = tuple[Sequence[Part], tuple[Joined, ...]]


def read(prompt: str, words: Words, source: str) -> Combination | None:
    """The combination that a prompt names; None if it names none, or one that cannot be drawn in this style.

    words: the model's synonyms, which turn "hog" into "pig". source: the emoji set whose style the model draws. Every
    part must be an emoji. A prompt that is the name of an emoji ("heart on fire") is not a combination.
    """
    text = " ".join(_WITHOUT.sub("without ", prompt.lower()).replace("w/", "with ").split())
    if len(text) > MAX_CHARACTERS or len(text.split()) > MAX_WORDS or _is_emoji(text, words):
        return None
    text = " ".join(_OTHER_SIGNS.sub(" ", text).split())
    text = _COMMAS.sub(lambda match: f" {match[1]} " if match[1] else ", ", text).strip(" ,")
    text = AFTER.sub("", text)
    # The parser leaves a skin tone in the text if it belongs to one of several people; such a text is not read.
    if not text or "skin" in text.split() or _is_emoji(text, words):
        return None
    reader = _Reader(words)
    for spelling in dict.fromkeys((text, text.replace("-", " "))):
        for subjects, joined in reader.readings(spelling, MAX_JOINED):
            combination = _drawable(subjects, joined, source)
            if combination is not None:
                return combination
    return None


@cache
def _parts() -> dict[str, list[Part]]:
    """Name -> the emoji of that name that can be parts; one whose label is the name comes first."""
    by_name: dict[str, list[Part]] = {}
    smileys = {label for labels in EMOTIONS.values() for label in labels}
    needed = {*ATTRIBUTES.values(), *WORN, *CONTAINERS, *GROUNDS, *smileys}
    for entry in emojis().values():
        role = role_of(entry.label, entry.subgroup)
        if role or entry.label in needed:
            part = Part(entry.label, entry.label, role)
            for name in {entry.label, name_of(entry.label)}:
                by_name.setdefault(name, []).append(part)
    for name, parts in by_name.items():
        parts.sort(key=lambda part: part.label != name)
    return by_name


@cache
def _singulars() -> dict[str, str]:
    """Plural of a name -> the name."""
    called = {plural(name): label for name, label in CALLED.items() if not name.endswith("s")}
    return called | {plural(name): name for name in _parts()}


@cache
def _labels() -> frozenset[str]:
    """The labels of all emoji."""
    return frozenset(entry.label for entry in emojis().values())


def _bare(text: str) -> str:
    """`text` without articles and phrases such as "draw me a" at its start."""
    return BEFORE.sub("", text, count=1) or text


def _is_emoji(text: str, words: Words) -> bool:
    """Whether a text names a single emoji, by its label, its name in captions or a synonym."""
    bare = _bare(text)
    return bare in _labels() or bare in NAMES.values() or bare in words.meant or bare in WHOLE


class _Reader:
    """Reads the pieces of one prompt; the readings of a piece are cached."""

    def __init__(self, words: Words):
        self._words = words
        self._known: dict[tuple[str, int], list[Reading]] = {}

    def readings(self, text: str, most: int) -> list[Reading]:
        """The ways to read a text: the candidates for its subject, and up to `most` parts combined with the subject."""
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
                    yield from self._combined(phrase, first, second, most)
        described = self._described(text)
        if described:
            yield described, ()

    def _combined(self, phrase: Phrase, first: str, second: str, most: int) -> Iterator[Reading]:
        """The readings of a text that matches `phrase`.

        first, second: the text of the subject and of the second part ("" if the phrase implies it).
        """
        if phrase.second is not None:
            others = [_attribute(phrase.kind, phrase.second)]
        else:
            others = list(self._seconds(phrase.kind, second))
        if not others:
            return
        for subjects, joined in self.readings(first, most - 1):
            for other in others:
                yield subjects, (*joined, self._as_before(other, joined, second))

    def _named(self, text: str) -> list[Part]:
        """The emoji that a text may name, by a name or a synonym."""
        meant = self._words.meant.get(_bare(text))
        return _called(text) or (_called(meant.within) if meant else [])

    def _described(self, text: str, most: int = MAX_ADJECTIVES) -> list[Part]:
        """The emoji that a text with adjectives ends in, drawn with the whole text as its caption.

        "baby penguin" is the emoji penguin with the caption "baby penguin". most: how many adjectives may precede it.
        """
        first, _, rest = _bare(text).partition(" ")
        if not rest or not most or first in _NO_ADJECTIVES or first.endswith((",", "ing")):
            return []
        found = _called(rest) or self._described(rest, most - 1)
        return [Part(self._words.own(f"{first} {rest}"), part.label, part.role) for part in found]

    def _seconds(self, kind: str, text: str) -> Iterator[Joined]:
        """The parts or attributes that a text may mean as the second part of a kind."""
        bare = _bare(text)
        if kind in NAMES_OF:
            if (name := ALSO.get(bare, bare)) in NAMES_OF[kind]:
                yield _attribute(kind, name)
            return
        if kind == "weather":
            if bare in (RAIN, SNOW):
                yield _attribute(kind, bare)
            return
        limits = {"wearing": WORN, "in": CONTAINERS, "on": GROUNDS}
        for part in self._named(text) or self._described(text):
            attribute = ATTRIBUTE_OF.get(part.label)
            if attribute and kind in ("with", "and"):
                yield _attribute(KIND_OF.get(attribute, attribute), attribute)
            elif part.label in limits.get(kind, (part.label,)) and (part.role or kind in limits):
                yield Joined(kind, name_of(part.label), part)

    def _as_before(self, other: Joined, before: Sequence[Joined], second: str) -> Joined:
        """`other`, or its meaning after `before`: in "with wings and a crown" the crown is worn, not put beside.

        second: the text that `other` was read from.
        """
        if other.kind == "and" and before and before[-1].kind in ADDITIONS:
            for kind in ("wearing", "with"):
                for better in self._seconds(kind, second):
                    if better.part and better.part.role not in ("animal", "face", "person"):
                        return better
        return other


def _called(text: str) -> list[Part]:
    """The emoji of this name, which may be in the plural; empty if there is none."""
    bare = _bare(text)
    names = (CALLED.get(bare), bare, _singulars().get(bare))
    return next((_parts()[name] for name in names if name in _parts()), [])


def _attribute(kind: str, second: str) -> Joined:
    """The second part of this name: a colour, a number, an emotion or an attribute such as wings."""
    if kind in ("colour", "count"):
        return Joined(kind, second)
    label = EMOTIONS[second][0] if kind == "emotion" else ATTRIBUTES.get(second, second)
    return Joined(kind, second, _parts()[label][0])


def _drawable(subjects: Sequence[Part], joined: Sequence[Joined], source: str) -> Combination | None:
    """The combination with the first candidate for the subject that can be drawn; None if none can.

    source: the emoji set whose style it is drawn in.
    """
    joined = list(dict.fromkeys(_seated(item, source) for item in joined))
    kinds = [item.kind for item in joined]
    # "a cat and a dog with hats" does not say who wears what.
    if "and" in kinds and any(kind in (*TRANSFORMS, *ADDITIONS) for kind in kinds[kinds.index("and") :]):
        return None
    ordered = tuple(sorted(joined, key=lambda item: ORDER.index(item.kind)))
    subject = next((subject for subject in subjects if _can_be_drawn(subject, ordered, source)), None)
    return None if subject is None else Combination(subject, ordered, source)


def _can_be_drawn(subject: Part, joined: Sequence[Joined], source: str) -> bool:
    """Whether the subject's drawing has a place for each part, and no two parts need the same place."""
    places = [_place(item) for item in joined]
    others = {item.part.label for item in joined if item.part}
    return (
        bool(joined and subject.role)
        and len(set(places)) == len(places)
        and subject.label not in others
        and all(_allowed(subject, item, source) for item in joined)
    )


def _place(item: Joined) -> str:
    """The place that a part takes. Each place has room for one part, so a subject cannot wear two hats."""
    if item.kind == "wearing" and item.part:
        return f"wearing {anchors.place_of(item.part.label)}"
    return "placement" if item.kind in PLACEMENTS else item.kind


def _seated(item: Joined, source: str) -> Joined:
    """`item`, unchanged or, for a vehicle whose drawing has no seat, changed from riding to standing on top."""
    seatless = item.kind == "riding" and item.part is not None and item.part.role == "vehicle"
    if seatless and item.part and anchors.seat(Drawing(source, item.part.label, item.part.role)) is None:
        return replace(item, kind="on top")
    return item


def _allowed(subject: Part, item: Joined, source: str) -> bool:
    """Whether the drawings have the anchors that `item` needs: a head for a hat, a seat for a rider."""
    figure = Drawing(source, subject.label, subject.role)
    if item.part is None:
        return item.kind != "colour" or subject.role != "person"
    other = Drawing(source, item.part.label, item.part.role)
    if item.kind == "emotion":
        return anchors.face(figure) is not None
    if item.kind == "wearing":
        # A thing without eyes wears glasses where a face would have its eyes.
        eyeless = figure.role not in ("animal", "face", "person") and anchors.place_of(other.label) == "eyes"
        return anchors.can_wear(figure, other.label) or (eyeless and bool(anchors.spot("eyes", source, other.label)))
    if item.kind == "in":
        return anchors.rim(source, other.label) is not None
    return item.kind != "riding" or anchors.seat(other) is not None
