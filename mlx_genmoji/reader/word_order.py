"""The order of words: what is translated word by word from a European language, as English has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..english import plural


class Token(NamedTuple):
    """A word or phrase: its English, its kind (see `language_tables`, or "unknown" or ","), and what was written."""

    english: str
    kind: str
    source: str


NOUNS = frozenset(("name", "noun", "unknown"))
CONTENT = frozenset(("name", "noun", "phrase", "adj", "state", "verb"))
MODIFIERS = frozenset(("adj", "state"))
JOINTS = frozenset(("prep", "to", "of", "as", "verb"))

ADJECTIVES_FOLLOW = frozenset(("es", "fr", "it", "pt"))
VERBS_COME_LAST = frozenset(("de", "nl"))
PARTICIPLE = re.compile(r"ende?[rsnm]?$")

WORN = frozenset(
    "glasses sunglasses goggles hat cap crown scarf necktie ribbon headphone beanie beret helmet cape suit costume coat"
    " sweater moustache beard mask wings tongue hair dress t-shirt jeans backpack gloves ring kimono pajamas raincoat"
    " spacesuit tutu monocle".split()
) | frozenset(
    "top hat,billed cap,bow tie,cowboy hat,party hat,santa hat,wizard hat,witch hat,pirate hat,chef hat,straw hat,"
    "graduation cap,woman's hat,woman's boot,running shoe,diving mask,heart eyes,military helmet,"
    "rescue worker's helmet".split(",")
)
"""What somebody has on, whatever word joins it: "gato de óculos" is a cat with glasses."""

GARMENTS = frozenset("hat cap helmet costume mask suit crown cape dress wings".split()) | {
    "top hat",
    "billed cap",
}
"""What is called by its wearer: "chapeau de pirate" is a pirate hat."""

PLACES = frozenset(
    "space forest city sky snow beach school mountain desert bed house volcano church hospital camping park".split()
) | {"crescent moon", "full moon", "beach with umbrella", "water wave", "desert island", "sun", "stadium"}

STOOD_ON = frozenset(
    "crescent moon,full moon,cloud,skateboard,surfboard,bicycle,motorcycle,kick scooter,horse,chair,mountain,sled,"
    "throne,couch and lamp".split(",")
)
"""What is on and not in: "en la luna"."""

RIDDEN = frozenset(("bicycle", "skateboard", "motorcycle", "kick scooter", "automobile"))
"""What "macaco de bicicleta" rides."""

COLOURS = frozenset("red orange yellow green blue purple pink black white brown grey golden silver rainbow".split())

MOODS = frozenset(
    "smiling laughing crying winking happy sad angry grumpy surprised scared nervous tired sick cool crazy confused"
    " bored shy evil hungry drunk dead funny".split()
) | {"in love"}
"""Adjectives of who has a face: "gato con corona feliz" is a happy cat."""


def european(tokens: Sequence[Token], code: str) -> str:
    """The English of a prompt in a language with spaces."""
    words = [token for token in tokens if token.kind != "drop"]
    words = _joints(words, code)
    if code in VERBS_COME_LAST:
        words = _verb_second(words)
    words = _adjectives_first(words, code in ADJECTIVES_FOLLOW)
    while words and words[-1].kind in ("prep", "to", "of", "and", ",", "as"):
        words.pop()
    return in_words(words)


def in_words(words: Sequence[Token]) -> str:
    """The English words in a row: nouns after a number in the plural, a face where only moods are named."""
    output = []
    many = False
    words = _long_modifiers_last(words)
    for index, token in enumerate(words):
        english = token.english
        if english == "in" and words[index + 1 : index + 2] and words[index + 1].english in STOOD_ON:
            english = "on"
        colour, _, thing = english.partition(" ")
        if thing and colour in COLOURS and index and words[index - 1].english in COLOURS:
            english = thing
        if token.kind == "number":
            many = True
        elif token.kind in NOUNS:
            last = index + 1 == len(words) or words[index + 1].kind not in NOUNS
            if many and last and token.kind != "unknown":
                english = plural(english)
            many = many and not last
        output.append(english)
    if words and all(token.kind in MODIFIERS for token in words) and any(token.english in MOODS for token in words):
        output.append("face")
    return " ".join(output).replace(" ,", ",")


def _long_modifiers_last(words: Sequence[Token]) -> list[Token]:
    """Modifiers of several words after their noun: "dragon breathing fire", "robot in love"."""
    output: list[Token] = []
    waiting: list[Token] = []
    for index, token in enumerate(words):
        if token.kind in MODIFIERS and " " in token.english:
            waiting.append(token)
            continue
        output.append(token)
        last = index + 1 == len(words) or words[index + 1].kind not in NOUNS
        if waiting and token.kind in NOUNS and last:
            output += waiting
            waiting = []
    return [*output, *waiting]


def _joints(words: list[Token], code: str) -> list[Token]:
    """The words with "of" and "to" in the English that their object asks for; none at the start."""
    while words and words[0].kind in ("of", "to", ",", "and", "prep"):
        words = words[1:]
    output: list[Token] = []
    index = 0
    while index < len(words):
        token = words[index]
        head = next((word.english for word in words[index + 1 :] if word.kind in NOUNS or word.kind == "phrase"), "")
        if token.kind == "of" and output and output[-1].english in GARMENTS and words[index + 1 : index + 2]:
            output.insert(len(output) - 1, words[index + 1])
            index += 1
        elif token.kind in ("of", "to"):
            output.append(Token(_joint(token.kind, head, code), "prep", token.source))
        elif token.english == "in" and head in WORN:
            output.append(Token("wearing", "verb", token.source))
        elif token.english == "in" and head in STOOD_ON:
            output.append(Token("on", "prep", token.source))
        elif token.english.endswith(" in") and head in STOOD_ON:
            output.append(Token(f"{token.english.removesuffix('in')}on", token.kind, token.source))
        elif token.kind == "prep" and words[index + 1 : index + 2] and words[index + 1].kind == "phrase":
            pass
        else:
            output.append(token)
        index += 1
    return output


def _joint(kind: str, head: str, code: str) -> str:
    if head in WORN:
        return "with"
    if kind == "of":
        if head in RIDDEN:
            return "riding"
        return "in" if head in PLACES else "of"
    if head in PLACES:
        return "at"
    return "with" if code in ("fr", "it") else "at"


def _verb_second(words: list[Token]) -> list[Token]:
    """A verb at the end goes before its object: "Hund, der eine Pizza isst", "Katze, die auf dem Bett schläft".

    So does a participle before its noun: "Pizza essender Hund".
    """
    if any(token.kind in ("verb", "state") for token in words):
        words = [token for token in words if token.kind != ","]
    if len(words) > 3 and words[-1].kind == "state":
        joint = next((index for index, token in enumerate(words) if token.kind == "prep"), 0)
        if joint and words[joint - 1].kind in NOUNS:
            words = [*words[:joint], words[-1], *words[joint:-1]]
    for index, token in enumerate(words):
        if token.kind != "verb" or (index + 1 < len(words) and words[index + 1].kind not in ("prep", "and", "verb")):
            if token.kind == "verb" and PARTICIPLE.search(token.source) and 0 < index < len(words) - 1:
                start = _phrase_start(words, index)
                rest = [*words[index + 1 :], token, *words[start:index]]
                return [*words[:start], *rest]
            continue
        start = _phrase_start(words, index)
        if start > 0:
            if words[start - 1].kind == "prep" and token.english.partition(" ")[2]:
                return [*words[: start - 1], token, *words[start:index], *words[index + 1 :]]
            if words[start - 1].kind == "prep" and start > 1:
                start -= 1
            return [*words[:start], token, *words[start:index], *words[index + 1 :]]
    return words


def _phrase_start(words: Sequence[Token], end: int) -> int:
    """Where the noun phrase that ends before `end` starts: its last noun, and the adjectives and numbers before it."""
    start = end - 1
    while start > 0 and words[start - 1].kind in ("adj", "number"):
        start -= 1
    return max(start, 0)


def _adjectives_first(words: list[Token], follow: bool) -> list[Token]:
    """Adjectives after a noun go before it; where they usually stand before it, only those at the end of a phrase."""
    output: list[Token] = []
    for index, token in enumerate(words):
        following = words[index + 1].kind if index + 1 < len(words) else ""
        closes = following not in (NOUNS | MODIFIERS) if not follow else True
        takes_object = token.kind == "state" and following in ("prep", "phrase", "to")
        if token.kind in MODIFIERS and output and output[-1].kind in NOUNS and closes and not takes_object:
            output.insert(_noun_of(output, token), token)
        else:
            output.append(token)
    return output


def _noun_of(words: Sequence[Token], adjective: Token) -> int:
    """Where an adjective after `words` goes: before the last nouns; a mood goes before those that have it."""
    end = len(words)
    start = end
    while start > 0 and words[start - 1].kind in NOUNS:
        start -= 1
    mood = adjective.english in MOODS or adjective.kind == "state"
    if mood and start > 1 and words[start - 1].kind in JOINTS and words[end - 1].english in WORN:
        return next((index for index, word in enumerate(words) if word.kind in NOUNS), start)
    while start > 0 and words[start - 1].kind in MODIFIERS and words[start - 1].english not in ("tiny", "giant"):
        start -= 1
    return start
