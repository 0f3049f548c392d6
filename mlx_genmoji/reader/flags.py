"""Flags of countries, which the built-in model does not draw: they are found in a prompt and said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from ..prompt.lexicon import emojis
from .lexicon import nationalities, rows, words_of

OTHERS = "white, black, pirate, rainbow and chequered flags"
"""Flags that are drawn."""

DRAWN_AS = "triangular flag"
"""What a country's flag is drawn as."""

_INDICATORS = "[\U0001f1e6-\U0001f1ff]{2}"
_SUBDIVISION = "\U0001f3f4[\U000e0061-\U000e007f]+"


@cache
def _pattern() -> re.Pattern[str]:
    names = {*(row[0] for row in rows("countries.tsv")), *nationalities(), *_flag_names()}
    country = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(
        rf"{_INDICATORS}|{_SUBDIVISION}|\bflag: (?:{country})"
        rf"|\b(?:national |country )?flags? of (?:the |my |a )*(?:{country}|country|nation)\b"
        rf"|\b(?:{country}|national|country)(?:['\u2019]s)? (?:national )?flags?\b",
        re.IGNORECASE,
    )


def _flag_names() -> Iterator[str]:
    """The countries and regions whose flags are emoji: the parser puts "flag: japan" in place of a flag."""
    for entry in emojis().values():
        if entry.label.startswith("flag: "):
            yield entry.label.removeprefix("flag: ")


def country_flags(text: str) -> list[str]:
    """The words for countries' flags in a text: "flag of france", "french flag", the emoji of a flag."""
    if "flag" not in text.lower() and not re.search(f"{_INDICATORS}|{_SUBDIVISION}", text):
        return []
    return _pattern().findall(text)


def with_plain_flags(text: str) -> str:
    """A text with "flag" in place of each country's flag."""
    return _pattern().sub(" flag ", text)


def note(flags: Sequence[str], drawn: str) -> str:
    """The sentence about flags that `country_flags` found. drawn: what they are drawn as."""
    listed = ", ".join(f'"{flag.replace("flag: ", "flag of ")}"' for flag in dict.fromkeys(flags))
    verb = "is" if len(set(flags)) == 1 else "are"
    return f"Country flags cannot be drawn: {listed} {verb} drawn as {drawn}; there are {OTHERS}."


def message() -> str:
    """The sentence for a prompt that names nothing but a country."""
    return f"Countries and their flags cannot be drawn; there are {OTHERS}."


def is_country(text: str) -> bool:
    """Whether a text names a country and nothing else."""
    return " ".join(words_of(text)).removeprefix("the ") in {row[0] for row in rows("countries.tsv")} | nationalities()
