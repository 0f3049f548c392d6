"""Synonyms: maps words that a model was not trained on to words that it knows.

A model's folder may have `words.tsv`, which `genmoji scrape synonyms` makes. A line has a word or phrase, its
replacement if it is the whole prompt, and its replacement inside a longer prompt. Without the last it is kept inside
longer prompts, where it may mean something else. A word alone on its line is one that the model knows:

    pig
    hog     pig
    piglet  pig     pig
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError

FILE = "words.tsv"

_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


class Meant(NamedTuple):
    """A word's replacement if it is the whole text, and inside a longer text."""

    alone: str
    within: str


class Words:
    """The synonyms of a model: `Words({"hog": Meant("pig", "pig")}).own("a hog")` is "pig"."""

    def __init__(self, meant: Mapping[str, Meant]):
        self.meant = meant
        self._longest = max((len(phrase.split()) for phrase in meant), default=0)

    @classmethod
    def load(cls, folder: Path) -> "Words":
        """Read a model's folder; a folder without the file has no synonyms. Raises UserError for a malformed file."""
        path = folder / FILE
        if not path.exists():
            return cls({})
        meant = {}
        try:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                word, *columns = line.split("\t")
                if not word or len(columns) > 2:
                    raise UserError(f"{path}: line {number} is not a word and up to two more columns.")
                meant[word] = Meant(*[*columns, word, word][:2])
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is no text ({error}).") from None
        return cls(meant)

    def own(self, text: str) -> str:
        """`text` with its synonyms replaced by words that the model knows; unknown words stay."""
        bare = " ".join(_ARTICLE.sub("", text.strip(" .!?"), count=1).lower().split())
        if bare in self.meant and self.meant[bare].alone != bare:
            return self.meant[bare].alone
        matches = list(_WORD.finditer(text))
        output: list[str] = []
        end, index = 0, 0
        while index < len(matches):
            count, replacement = self._phrase(text, matches, index)
            if replacement is not None:
                output += [text[end : matches[index].start()], replacement]
                end = matches[index + count - 1].end()
            index += count
        return "".join([*output, text[end:]])

    def _phrase(self, text: str, matches: list[re.Match[str]], index: int) -> tuple[int, str | None]:
        """The number of words of the longest known phrase at `index`, and its replacement; None to keep it."""
        for count in range(min(self._longest, len(matches) - index), 0, -1):
            phrase = text[matches[index].start() : matches[index + count - 1].end()]
            meant = self.meant.get(" ".join(phrase.lower().split()))
            if meant is not None:
                return count, None if meant.within == phrase.lower() else meant.within
        return 1, None
