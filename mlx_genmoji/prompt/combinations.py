"""Prompts that name a combination: "flying pig" is a pig, and wings.

The phrases are those of `compose.kinds`, and others that people use. What can be put together is read off the drawings
of a set of emoji (`compose.anchors`), so a combination is one for drawings in that set's manner.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from ..compose import anchors
from ..compose.colours import TARGETS
from ..compose.kinds import ATTRIBUTES, CONTAINERS, COUNTS, EMOTIONS, GROUNDS, KINDS, WORN
from ..compose.names import NAMES, name_of, plural, role_of
from .lexicon import emojis
from .words import Words

# No longer prompt is taken for a combination, and none of more parts than these beside the subject.
MOST_WORDS, MOST_JOINED = 14, 3

# In the order in which they apply: to the subject alone, about it, and then it as a whole, once, with something else.
TRANSFORMS = ("colour", "emotion")
ADDITIONS = ("wings", "wearing", "with", "fire", "hearts", "sparkles", "weather")
PLACEMENTS = ("in", "on", "riding", "count", "tiny", "and", "on top")
ORDER = (*TRANSFORMS, *ADDITIONS, *PLACEMENTS)

# Kinds whose phrases leave open which they are, after those that do not.
OPEN = ("count", "with", "and", "on top")

# What people say besides the phrases that captions have; by kind, or by kind and second part.
MORE: Mapping[str, tuple[str, ...]] = {
    "wearing": ("{x} who wears {y}", "{x} has {y}", "{x} in {Y}"),
    "with": ("{x} with {Y}", "{x} eating {y}", "{x} drinking {y}", "{x} playing {y}", "{x} reading {y}"),
    "in": ("{x} sat in {y}", "{x} swimming in {y}", "{x} sleeping in {y}"),
    "on": ("{x} sleeping on {y}", "{x} standing on {y}"),
    "riding": ("{x} in {y}", "{x} driving {y}", "{x} rides {y}", "{x} sitting on {y}", "{x} flying {y}"),
    "fire": ("{x} burning", "fiery {x}", "{x} with flames"),
    "hearts": ("{x} with love", "{x} surrounded by love"),
    "sparkles": ("glittering {x}", "glittery {x}", "{x} sparkling", "magic {x}"),
    "colour": ("{Y}-coloured {x}", "{Y} colored {x}", "{x} in {Y}"),
    "emotion": ("{x} that is {Y}", "{x} feeling {Y}", "{x} with a {Y} face", "{x} with an {Y} face"),
    "and": ("{x} & {y}", "{x} plus {y}", "{x} + {y}", "{x}, {y}", "{x} with {y}"),
    "tiny": ("tiny {x} on top of {y}",),
    "on top": ("{x} atop {y}", "{x} sitting on {y}", "{x} sitting on top of {y}"),
}
MORE_OF: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("wings", "wings"): (
        *("{x} that flies", "{x} that can fly", "{x} flying", "{x} with angel wings", "{x} with a pair of wings"),
        *("{x} with big wings", "{x} has wings", "angel {x}"),
    ),
    ("wearing", "sunglasses"): ("cool {x}", "{x} wearing shades", "{x} with shades"),
    ("wearing", "top hat"): ("{x} wearing a hat", "{x} with a hat", "{x} in a hat", "fancy {x}"),
    ("wearing", "crown"): ("royal {x}", "crowned {x}"),
    ("in", "cup of coffee"): ("{x} in a cup", "{x} in a teacup"),
    ("in", "bathtub"): ("{x} in a bath", "{x} in the bath", "{x} in a tub"),
    ("in", "pot of food"): ("{x} in a pot", "{x} cooking in a pot"),
    ("in", "canoe"): ("{x} in a boat",),
    ("riding", "skateboard"): ("{x} skateboarding", "skateboarding {x}"),
    ("riding", "bicycle"): ("{x} riding a bike", "{x} on a bike", "{x} cycling"),
    ("on", "crescent moon"): ("{x} on the moon",),
    ("weather", "rain cloud"): ("{x} in rain", "{x} when it rains"),
    ("weather", "snow cloud"): ("{x} in snow", "{x} when it snows"),
    ("count", "two"): ("2 {xs}", "couple of {xs}"),
    ("count", "three"): ("3 {xs}", "trio of {xs}"),
    ("emotion", "happy"): ("{x} with a face", "{x} with a smile"),
}

# Other words for colours and emotions.
ALSO = {
    **dict.fromkeys(("violet", "lilac"), "purple"),
    **dict.fromkeys(("gold", "golden"), "yellow"),
    **dict.fromkeys(("smiling", "smiley", "cheerful", "joyful", "glad"), "happy"),
    **dict.fromkeys(("unhappy", "gloomy"), "sad"),
    **dict.fromkeys(("mad", "furious", "grumpy"), "angry"),
    **dict.fromkeys(("weeping", "sobbing", "tearful"), "crying"),
    **dict.fromkeys(("shocked", "astonished", "amazed"), "surprised"),
    **dict.fromkeys(("goofy", "crazy"), "silly"),
    "in love": "lovestruck",
    "rainbow-coloured": "rainbow",
}

# What people call the parts of a combination, where a model's own words mean something else or nothing.
CALLED = {
    "beer": "beer mug",
    "bike": "bicycle",
    "box": "package",
    "cake": "birthday cake",
    "champagne": "bottle with popping cork",
    "coffee": "hot beverage",
    "cup": "hot beverage",
    "hat": "top hat",
    "king": "prince",
    "mug": "hot beverage",
    "noodles": "steaming bowl",
    "phone": "mobile phone",
    "pumpkin": "jack-o-lantern",
    "queen": "princess",
    "shades": "sunglasses",
    "tea": "teacup without handle",
    "tub": "bathtub",
    "wine": "wine glass",
}

_BEFORE = re.compile(r"^(?:(?:an?|the|my|some|one|very|really|cute|adorable|cartoon|kawaii|single)\s+)+")
_ANYTHING = re.compile(r"[^\w\s&+,'’-]")


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
        if not joined or any(one.kind not in ORDER for one in joined):
            raise ValueError("there is no such combination")
        return cls(Part(**values["subject"]), joined, values["source"])


def read(prompt: str, words: Words, source: str) -> Combination | None:
    """The combination that a prompt names, of parts that there are emoji of; None where it names none.

    words: those that the model knows, for "hog with wings"; source: the set that the model's drawings are like. A
    prompt that is an emoji's own name ("heart on fire") is none, and none that drawings in this manner do not allow.
    """
    if _is_emoji(" ".join(prompt.lower().split()), words):
        return None
    text = " ".join(_ANYTHING.sub(" ", prompt.lower()).replace(",", " , ").replace(" ,", ",").split()).strip(" ,")
    said = text.split()
    # Of tones, what is left here is of several people.
    if len(said) > MOST_WORDS or "skin" in said or _is_emoji(text, words):
        return None
    for subjects, joined in _readings(text, words, MOST_JOINED):
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
    return {plural(name): name for name in _parts()}


def _bare(text: str) -> str:
    """Without articles, and what says nothing of a picture."""
    return _BEFORE.sub("", text, count=1) or text


def _is_emoji(text: str, words: Words) -> bool:
    """Whether a text is one emoji's name, or another word for one."""
    bare = _bare(text)
    return any(entry.label == bare for entry in emojis().values()) or bare in NAMES.values() or bare in words.meant


def _named(text: str, words: Words) -> list[Part]:
    """The emoji that a text names: the drawings that it may be, none where there is none."""
    meant = words.meant.get(_bare(text))
    return _called(text) or (_parts().get(meant.alone, []) if meant else [])


def _called(text: str) -> list[Part]:
    """Those that are called so, or of which one is."""
    bare = _bare(text)
    names = (bare, CALLED.get(bare), _singulars().get(bare))
    return next((_parts()[name] for name in names if name in _parts()), [])


def _described(text: str, words: Words) -> list[Part]:
    """The emoji that a text ends with, drawn as the text says: "baby penguin" is a penguin to what it wears."""
    first, _, rest = _bare(text).partition(" ")
    if not rest or first in _NO_ADJECTIVES:
        return []
    found = _called(rest) or _described(rest, words)
    return [Part(words.own(f"{first} {rest}"), part.label, part.role) for part in found]


# After these words comes another thing than the one before them.
_NO_ADJECTIVES = frozenset(
    "and with in on at of to for from by under over next beside inside without no not two three 2 3".split()
)


def _readings(text: str, words: Words, most: int) -> Iterator[tuple[list[Part], tuple[Joined, ...]]]:
    """The ways to read a text: drawings that its subject may be, and what is put together with it."""
    text = _bare(text)
    if subjects := _named(text, words):
        yield subjects, ()
        return
    if not most:
        return
    for kind, phrase, fixed in _phrases():
        for first, second in phrase.matches(text):
            others = list(_seconds(kind, second, words)) if fixed is None else [_attribute(kind, fixed)]
            if not others:
                continue
            for subjects, joined in _readings(first, words, most - 1):
                for other in others:
                    yield subjects, (*joined, _also(other, joined, second, words))
    if subjects := _described(text, words):
        yield subjects, ()


def _also(other: Joined, before: Sequence[Joined], second: str, words: Words) -> Joined:
    """In "with wings and a crown" the crown is worn as well."""
    if other.kind == "and" and before and before[-1].kind in ("wings", "wearing", "with"):
        for kind in ("wings", "wearing", "with"):
            for better in _seconds(kind, second, words):
                return better
    return other


def _seconds(kind: str, text: str, words: Words) -> Iterator[Joined]:
    """What a text may be as the second part of a kind."""
    bare = _bare(text)
    if kind in ("colour", "emotion", "count"):
        known = {"colour": TARGETS.keys(), "emotion": EMOTIONS.keys(), "count": COUNTS.keys()}[kind]
        if (name := ALSO.get(bare, bare)) in known:
            yield _attribute(kind, name)
    elif kind in ("wings", "weather", "fire", "hearts", "sparkles"):
        if bare in ATTRIBUTES and kind in (bare, "weather") and (kind != "weather" or "cloud" in bare):
            yield _attribute(kind, bare)
    else:
        limits = {"wearing": WORN, "in": CONTAINERS, "on": GROUNDS}
        for part in _named(text, words) or _described(text, words):
            if part.label in limits.get(kind, (part.label,)) and (part.role or kind in limits):
                yield Joined(kind, name_of(part.label), part)


def _attribute(kind: str, second: str) -> Joined:
    """A second part by its name."""
    if kind in ("colour", "count"):
        return Joined(kind, second)
    label = EMOTIONS[second][0] if kind == "emotion" else ATTRIBUTES.get(second, second)
    return Joined(kind, second, _parts()[label][0])


def _possible(subjects: Sequence[Part], joined: Sequence[Joined], source: str) -> Combination | None:
    """The combination, of the first drawing of the subject that allows it."""
    if not joined or sum(one.kind in PLACEMENTS for one in joined) > 1:
        return None
    joined = [_seated(one, source) for one in joined]
    ordered = tuple(sorted(dict.fromkeys(joined), key=lambda one: ORDER.index(one.kind)))
    others = {one.part.label for one in ordered if one.part}
    for subject in subjects:
        if subject.role and subject.label not in others and all(_allowed(subject, one, source) for one in ordered):
            return Combination(subject, ordered, source)
    return None


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
        return True
    other = _Drawing(source, one.part.label, one.part.role)
    if one.kind == "emotion":
        return anchors.face(figure) is not None
    if one.kind == "wearing":
        return anchors.can_wear(figure, other.label)
    if one.kind == "in":
        return anchors.rim(source, other.label) is not None
    return one.kind != "riding" or anchors.seat(other) is not None


@dataclass(frozen=True)
class _Phrase:
    """A phrase taken apart: what stands before, between and after its one or two names."""

    before: str
    between: str | None
    after: str
    turned: bool
    """Whether the second part stands first."""

    @classmethod
    def of(cls, phrase: str) -> _Phrase:
        before, *rest = re.split(r"\{(?:xs|x|y|Y)\}", phrase)
        first = re.search(r"\{(\w+)\}", phrase)
        turned = first is not None and first[1] in ("y", "Y")
        return cls(before, rest[0] if len(rest) == 2 else None, rest[-1], turned)

    def matches(self, text: str) -> Iterator[tuple[str, str]]:
        """The subject and the second part ("" where the phrase has none), for each way that the text is this phrase."""
        if not (text.startswith(self.before) and text.endswith(self.after)):
            return
        middle = text[len(self.before) : len(text) - len(self.after)]
        if self.between is None:
            if middle.strip() and len(self.before) + len(self.after) < len(text):
                yield middle.strip(), ""
            return
        place = middle.find(self.between, 1)
        while place > 0:
            first, second = middle[:place].strip(), middle[place + len(self.between) :].strip()
            if first and second:
                yield (second, first) if self.turned else (first, second)
            place = middle.find(self.between, place + 1)


@cache
def _phrases() -> tuple[tuple[str, _Phrase, str | None], ...]:
    """Each kind's phrases, taken apart, those that say most first; the second part's name where the phrase says it."""
    found: list[tuple[str, str, str]] = []
    for kind in KINDS:
        found += [(kind.name, phrase, second) for second, phrases in kind.more.items() for phrase in phrases]
        found += [(kind.name, phrase, kind.name) for phrase in (*kind.phrases, *MORE.get(kind.name, ()))]
    found += [(kind, phrase, second) for (kind, second), phrases in MORE_OF.items() for phrase in phrases]
    order = {kind.name: place for place, kind in enumerate(sorted(KINDS, key=lambda kind: kind.name in OPEN))}
    found.sort(key=lambda one: (-len(re.sub(r"\{\w+\}", "", one[1])), order[one[0]]))
    return tuple(
        (kind, _Phrase.of(phrase), None if re.search(r"\{y\}", phrase, re.IGNORECASE) else second)
        for kind, phrase, second in dict.fromkeys(found)
    )
