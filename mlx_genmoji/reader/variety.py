"""How the candidates of a prompt differ: choices by the seed, before anything is drawn.

A seed counts through what can be chosen, so that the neighbouring seeds of one call's candidates choose differently:
first each part's drawing ("pig", "pig face"), then its hue. One in four looks the other way. Small amounts (degrees,
per cent, the shade) are terms of additive recurrences (Weyl, 1916), which spread evenly over neighbouring seeds.

    variants.tsv      which labels show the same thing
    hues.tsv          what has any colour
    unmirrored.txt    what a mirror would make wrong
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

from ..generation.variation import Shade, Variation
from ..prompt.lexicon import emojis
from . import Reading
from .lexicon import Key, Lexicon, key, rows, words_of

if TYPE_CHECKING:
    from ..combinations.combination import Combination, Part

TURN = 2.5
"""Degrees at most."""
STEADY_TURN = 1.5
"""Of buildings and vehicles, which stand upright."""
STEADY = ("place-", "transport-")
SMALLEST = 0.95
"""The least scale."""
STRETCH = 0.02
MIRRORED_OF = 4
"""One of so many neighbouring seeds looks the other way."""

NATURAL = Shade(hue=6.0, saturation=0.1, brightness=0.05)
"""How far hue, saturation and brightness go to each side."""
NAMED = Shade(hue=4.0, saturation=0.08, brightness=0.04)
"""Of a thing whose colour has a name in its label or the prompt."""
YELLOW = Shade(hue=2.5, saturation=0.08, brightness=0.04)
"""Of smileys."""

PEOPLE = ("person", "family", "hand", "body-parts", "hair-style", "skin-tone")
"""Subgroups with skin: their colours stay."""
FIXED = frozenset(
    "alphanum arrow av-symbol country-flag currency flag gender geometric heart hotel keycap math other-symbol"
    " punctuation religion subdivision-flag time transport-sign warning zodiac".split()
)
"""Subgroups that are not mirrored: letters, digits, clocks, flags, symbols; hearts, whose light falls from the left."""
DIRECTIONS = {"left", "right", "leftwards", "rightwards", "down-left", "down-right", "up-left", "up-right"}
GENDERS = frozenset("he she him her his man woman men women boy girl male female".split())


class Choices:
    """What a seed chooses; the same for the same calls."""

    def __init__(self, seed: int, variety: float):
        self.variety = variety
        self._seed = self._digits = seed
        self._primes = primes()

    def option(self, number: int) -> int:
        """One below `number`; neighbouring seeds get different ones. 0 the oftener, the less variety."""
        self._digits, digit = divmod(self._digits, number)
        return digit if self._fraction() < self.variety else 0

    def one_in(self, number: int) -> bool:
        """True for the last of every `number` neighbouring seeds; the less variety, the more seldom."""
        return self._seed % number == number - 1 and self._fraction() < self.variety

    def amount(self, most: float) -> float:
        """A number from -most to most, times the variety."""
        return round((2 * self._fraction() - 1) * most * self.variety, 4)

    def _fraction(self) -> float:
        """A number from 0 to 1: the seed's term of the next recurrence, in steps of a prime's square root."""
        step = math.isqrt(next(self._primes) << 128)
        return (self._seed + 1) * step % 2**64 / 2**64


def primes() -> Iterator[int]:
    return (number for number in count(2) if all(number % divisor for divisor in range(2, number)))


def vary(
    reading: Reading, seed: int, variety: float, lexicon: Lexicon, caption: Callable[[str], str]
) -> tuple[Reading, Variation]:
    """The reading of the candidate with this seed, and what is done to its picture.

    caption: makes a label's caption. A combination keeps its layout; where another drawing has no place for what is
    joined to it, the plain one stays.
    """
    choices, words = Choices(seed, variety), words_of(reading.words)
    combination = reading.combination
    if combination is None:
        options = drawings(reading.label, reading, words, lexicon)
        label = options[choices.option(len(options))]
        labels = [label]
        reading = replace(reading, label=label, final_prompt=caption(label))
    else:
        combination = _varied(combination, reading, words, lexicon, choices, caption)
        reading = replace(reading, combination=combination)
        labels = [part.label for part in reversed(combination.parts)]
    coloured = combination is not None and any(item.kind == "colour" for item in combination.joined)
    shades = [shade_of(label, words, coloured, lexicon, choices) for label in labels]
    may_turn = not any(is_fixed(label) for label in labels) and not DIRECTIONS & set(words)
    # A combination was laid out for the side that its subject looks to.
    mirrored = may_turn and combination is None and choices.one_in(MIRRORED_OF)
    steady = any(subgroup(label).startswith(STEADY) for label in labels)
    variation = Variation(
        variety,
        mirrored,
        choices.amount(STEADY_TURN if steady else TURN),
        round(1 - abs(choices.amount(1 - SMALLEST)), 4),
        round(1 + choices.amount(STRETCH), 4),
        tuple(shades) if any(shade != Shade() for shade in shades) else (),
    )
    return reading, variation


def drawings(label: str, reading: Reading, words: Sequence[str], lexicon: Lexicon) -> list[str]:
    """The labels that show what the prompt names as this one, itself first; it alone where it is named exactly."""
    if reading.has_emoji or any(label in note for note in reading.notes):
        return [label]
    named = variants()
    options = [label, *named.get((label,), ())]
    for word, labels in named.items():
        if label in labels and not _contains(words, key(label)) and _is_generic(key(word[0]), words, lexicon):
            options += labels
    bare = label.removeprefix("person ")
    genders = [f"man {bare}", f"woman {bare}"]
    if reading.person_type is None and not GENDERS & set(words) and all(who in lexicon.vocabulary for who in genders):
        options += genders
    return [option for option in dict.fromkeys(options) if option in lexicon.vocabulary]


def shade_of(label: str, words: Sequence[str], coloured: bool, lexicon: Lexicon, choices: Choices) -> Shade:
    """The shade of a part. coloured: whether the prompt gives it a colour, which then stays."""
    toned = any(lexicon.vocabulary.labels.get(label, {}).values())
    group = subgroup(label)
    if toned or group.startswith(PEOPLE) or group.endswith("flag"):
        return Shade()
    colours = _colours() & {*label.split(), *words}
    limits = YELLOW if group.startswith("face-") else NAMED if colours or coloured else NATURAL
    free = hues().get(label, ()) if limits is NATURAL else ()
    paint = free[choices.option(len(free))] if free else 0.0
    return Shade(
        choices.amount(limits.hue),
        paint,
        round(1 + choices.amount(limits.saturation), 4),
        round(1 + choices.amount(limits.brightness), 4),
    )


def is_fixed(label: str) -> bool:
    """Whether a mirror would make a drawing wrong."""
    return label in unmirrored() or subgroup(label) in FIXED or bool(DIRECTIONS & set(label.split()))


def subgroup(label: str) -> str:
    """The Unicode subgroup of a label; "" for one that is none of Unicode's."""
    return _subgroups().get(label, "")


@cache
def variants() -> dict[tuple[str], tuple[str, ...]]:
    return {(name,): tuple(labels) for name, *labels in rows("variants.tsv")}


@cache
def hues() -> dict[str, tuple[float, ...]]:
    return {label: tuple(map(float, degrees)) for label, *degrees in rows("hues.tsv")}


@cache
def unmirrored() -> frozenset[str]:
    return frozenset(label for (label,) in rows("unmirrored.txt"))


@cache
def _subgroups() -> dict[str, str]:
    return {entry.label: entry.subgroup for entry in emojis().values()}


@cache
def _colours() -> frozenset[str]:
    """The words for colours."""
    return frozenset(word for word, look in rows("looks.tsv") if look.startswith("colour:"))


def _varied(
    combination: Combination,
    reading: Reading,
    words: Sequence[str],
    lexicon: Lexicon,
    choices: Choices,
    caption: Callable[[str], str],
) -> Combination:
    """The combination with other drawings of its parts, where they can be joined as well."""
    from ..combinations.arrange import part_of

    for part in combination.parts:
        options = drawings(part.label, reading, words, lexicon)
        label = options[choices.option(len(options))]
        if label == part.label or label in [other.label for other in combination.parts]:
            continue
        try:
            combination = _replaced(combination, part, replace(part_of(label), text=caption(label)))
        except ValueError:
            continue
    return combination


def _replaced(combination: Combination, old: Part, new: Part) -> Combination:
    """Raises ValueError where the new part has no place for what is joined."""
    if (old.role == "person") != (new.role == "person"):
        raise ValueError("Another kind of figure.")
    joined = tuple(
        replace(item, part=new, second=new.label if item.second == old.label else item.second)
        if item.part == old
        else item
        for item in combination.joined
    )
    subject = new if combination.subject == old else combination.subject
    return replace(combination, subject=subject, joined=joined)


def _is_generic(word: Key, words: Sequence[str], lexicon: Lexicon) -> bool:
    """Whether a prompt has a word, and not within a longer phrase that means something of its own."""
    for start in range(len(words) - len(word) + 1):
        found = tuple(words[start : start + len(word)])
        if found != word and found != (*word[:-1], f"{word[-1]}s"):
            continue
        longer = (
            (*words[first:start], *word, *words[start + len(word) : last])
            for first in range(max(start - 3, 0), start + 1)
            for last in range(start + len(word), min(start + len(word) + 3, len(words)) + 1)
            if (first, last) != (start, start + len(word))
        )
        return not any(phrase in lexicon.entries for phrase in longer)
    return False


def _contains(words: Sequence[str], phrase: Key) -> bool:
    return any(tuple(words[i : i + len(phrase)]) == phrase for i in range(len(words) - len(phrase) + 1))
