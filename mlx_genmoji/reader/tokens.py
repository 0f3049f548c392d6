"""The words of a prompt as tokens: the longest phrases that the tables know, and single words that they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..prompt.lexicon import emojis
from .lexicon import Lexicon, Meanings, words_of

MAX_WORDS = 60
"""Words of a prompt that are read; the rest is reported."""


INTERJECTIONS = frozenset("lol lmao rofl haha hahaha hehe omg xd idk tbh".split())
"""Words at the end of a message that are no part of the picture."""


ALIVE = ("animal", "creature", "person")
"""The kinds of emoji that do something."""


@dataclass(frozen=True)
class Token:
    """Some words of a prompt and their meanings; None where they have none."""

    text: str
    meanings: Meanings | None


def tokenize(text: str, lexicon: Lexicon, generous: bool = False) -> list[Token]:
    """The longest known phrases of a text, from left to right; fillers are left out. generous: see `synonym`."""
    words = words_of(text)[:MAX_WORDS]
    tokens: list[Token] = []
    place = 0
    while place < len(words):
        found = lexicon.longest(words, place) or lexicon.synonym(words, place, generous)
        length, meanings = found or (1, None)
        if meanings is None or not _only_filler(meanings):
            tokens.append(Token(" ".join(words[place : place + length]), meanings))
        place += length
    if len(tokens) > 1 and tokens[-1].text in INTERJECTIONS:
        tokens.pop()
    return [_colour_of_later(tokens, place, lexicon) for place in range(len(tokens))]


def _colour_of_later(tokens: Sequence[Token], place: int, lexicon: Lexicon) -> Token:
    """The token at a place; without its noun where it is one of several colours: "an orange and black cat"."""
    token = tokens[place]
    joint, *others = (*tokens[place + 1 :], token)
    if token.meanings is None or not token.meanings.noun or not _is_colour(token.meanings) or not others:
        return token
    first = lexicon.entries.get((others[0].text.split()[0],))
    joined = joint.meanings is not None and joint.meanings.relation in ("and", ",")
    if joined and first and _is_colour(first) and any(map(names_something, others)):
        return Token(token.text, replace(token.meanings, noun=None))
    return token


def _is_colour(meanings: Meanings) -> bool:
    return bool(meanings.look and meanings.look.startswith("colour:"))


def _only_filler(meanings: Meanings) -> bool:
    return meanings.filler and not (meanings.noun or meanings.negation or meanings.relation)


def names_something(token: Token) -> bool:
    meanings = token.meanings
    return meanings is not None and bool(meanings.noun or meanings.garment or meanings.roles)


def takes_object(meanings: Meanings) -> bool:
    """Whether a word is a verb and nothing else, and what follows is its object: "eating", "riding"."""
    return bool(meanings.verb and not meanings.noun and not meanings.verb[1] and meanings.verb[0])


def is_alive(token: Token) -> bool:
    """Whether a noun is an animal or a person."""
    label = token.meanings.noun.label if token.meanings and token.meanings.noun else ""
    return any(entry.label == label and entry.kind in ALIVE for entry in emojis().values())
