"""Corrects a misspelled word to the known word that is spelled like it.

A real English word is never corrected: "pregnant" is no "pennant". `tables/real-words.txt` has the English words that
would be taken for misspellings. `scrape/real_words.py` makes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping, Sequence

MIN_LETTERS = 6
"""Letters of the shortest word that is corrected."""

MAX_DIFFERENCE = 2
"""Letters that a word may have more or less than the one it is read as."""


def by_first_letter(words: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Words in lists by their first letter, in which `corrected` looks."""
    letters: dict[str, list[str]] = {}
    for word in words:
        letters.setdefault(word[:1], []).append(word)
    return letters


def corrected(word: str, known: Mapping[str, Sequence[str]], real: Container[str]) -> str | None:
    """The known word that is meant by a misspelled one; None for a real word, or where none is spelled like it.

    known: see `by_first_letter`. real: English words.
    """
    nearest = nearest_spelling(word, known)
    return None if nearest is None or word in real else nearest


def nearest_spelling(word: str, known: Mapping[str, Sequence[str]]) -> str | None:
    """The known word with the same first letter that is spelled most like a word; None where none is near."""
    if len(word) < MIN_LETTERS:
        return None
    near = [other for other in known.get(word[0], ()) if abs(len(other) - len(word)) <= MAX_DIFFERENCE]
    cutoff = 0.84 if len(word) < 8 else 0.8
    close = difflib.get_close_matches(word, near, 1, cutoff)
    return close[0] if close else None
