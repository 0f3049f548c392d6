"""What a model calls things: a small model knows few words, and says of others which of its own is meant.

Its folder may hold `words.tsv`, which `genmoji scrape synonyms` makes. Each line has a word or phrase, what is meant by
it where nothing else is said, and what to say for it in a longer text. Without the last it stays as it is there, where
it may mean something else; alone on its line it is one of the model's own:

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
    """What is meant by a word alone, and what it becomes in a longer text."""

    alone: str
    within: str


class Words:
    """The words of a model: `Words({"hog": Meant("pig", "pig")}).own("a hog")` is "pig"."""

    def __init__(self, meant: Mapping[str, Meant]):
        self.meant = meant
        self._longest = max((len(phrase.split()) for phrase in meant), default=0)

    @classmethod
    def load(cls, folder: Path) -> "Words":
        """Those of a model's folder; none where it has no such file. Raises UserError for a file laid out otherwise."""
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
        """`text` in words that the model knows; those that it knows already, and those that nobody knows, stay."""
        bare = " ".join(_ARTICLE.sub("", text.strip(" .!?"), count=1).lower().split())
        if bare in self.meant and self.meant[bare].alone != bare:
            return self.meant[bare].alone
        found = list(_WORD.finditer(text))
        said, last, place = [], 0, 0
        while place < len(found):
            count, within = self._phrase(text, found, place)
            if within is not None:
                said += [text[last : found[place].start()], within]
                last = found[place + count - 1].end()
            place += count
        return "".join([*said, text[last:]])

    def _phrase(self, text: str, found: list[re.Match[str]], place: int) -> tuple[int, str | None]:
        """How many words the longest known phrase from `place` on has, and what to say for it: None for itself."""
        for count in range(min(self._longest, len(found) - place), 0, -1):
            between = text[found[place].start() : found[place + count - 1].end()]
            meant = self.meant.get(" ".join(between.lower().split()))
            if meant is not None:
                return count, None if meant.within == between.lower() else meant.within
        return 1, None
