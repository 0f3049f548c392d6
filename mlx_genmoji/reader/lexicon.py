"""The words that the reader knows: tables of `tables/`, and the labels of a model's vocabulary.

A phrase is looked up by its words in lower case, without accents and punctuation: "T-Rex" is ("t", "rex").
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from ..prompt.words import Words
from .vocabulary import Vocabulary

TABLES = Path(__file__).parent / "tables"

MAX_PHRASE = 7
"""Words of the longest phrase that is looked up."""

LOOKS = ("fire", "wings", "sparkles", "hearts")
"""What verbs may stand for that have no object: "breathing fire"."""

ARTICLES = ("a", "an", "the", "one")

Key = tuple[str, ...]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[+&,#*]|[\U0001f000-\U0001faff]")
_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "`": "'", "\u02bc": "'", "ß": "ss", "ø": "o", "æ": "ae"})
_LEAST_LETTERS = 3
"""Letters of the shortest word that has a synonym."""


@dataclass(frozen=True)
class Noun:
    """What a noun is drawn as."""

    label: str
    exact: bool = True
    """False for the nearest drawing, which the user is told of."""
    extra: str = ""
    """A look or mood to add, such as "colour:yellow"."""


@dataclass
class Meanings:
    """All that a phrase can mean, by its part of speech."""

    noun: Noun | None = None
    garment: Noun | None = None
    mood: str | None = None
    look: str | None = None
    verb: tuple[str, str] | None = None
    """Relation and label; the label is "" where an object follows."""
    alone: tuple[str, str] | None = None
    """What a verb that takes an object is drawn as where none follows."""
    place: tuple[str, str] | None = None
    roles: list[tuple[str, str]] = field(default_factory=list)
    relation: str | None = None
    number: int | None = None
    hair: str | None = None
    filler: bool = False
    negation: bool = False
    body_place: str | None = None
    """The kind in which a thing is joined that is at a part of the subject's body: "on its head"."""
    stand_in: tuple[str, str] | None = None
    """A thing that a place, verb, role or hair names, and what is drawn instead of it."""
    read_as: str = ""
    """The word that a misspelled one was read as."""


def words_of(text: str) -> list[str]:
    """The words of a text, and `+ & , # *`, as keys are made of them."""
    text = text.lower()
    if not text.isascii():
        folded = unicodedata.normalize("NFKD", text.translate(_QUOTES))
        text = unicodedata.normalize("NFC", "".join(char for char in folded if not "\u0300" <= char <= "\u036f"))
    return [_without_genitive(word) for word in _WORD.findall(text)]


def _without_genitive(word: str) -> str:
    return word.removesuffix("'s") if len(word) > 3 else word


def key(text: str) -> Key:
    """The key of a phrase."""
    return tuple(words_of(text))


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a table."""
    path = TABLES / name
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return tuple(tuple(line.split("\t")) for line in lines if line and not line.startswith("#"))


class Entries(dict[Key, Meanings]):
    """The known phrases, each with its meanings."""

    def of(self, name: str) -> Meanings:
        """The meanings of a phrase, to which the caller may add."""
        return self.setdefault(key(name), Meanings())

    def add_noun(self, name: str, noun: Noun) -> None:
        """Make a phrase a noun, unless it is one already."""
        entry = self.of(name)
        entry.noun = entry.noun or noun


class Lexicon:
    """Everything that can be looked up for one model. The tables are read when something is first looked up."""

    def __init__(self, vocabulary: Vocabulary, synonyms: Words):
        self.vocabulary = vocabulary
        self._synonyms = synonyms

    @cached_property
    def entries(self) -> Entries:
        """What each known phrase can mean."""
        entries = Entries()
        for label in self.vocabulary.labels:
            entries.add_noun(label, Noun(label))
        self._add_nouns(entries)
        self._add_the_rest(entries)
        self._add_by_rule(entries)
        return entries

    @cached_property
    def _labels(self) -> dict[Key, str]:
        return {key(label): label for label in self.vocabulary.labels}

    @cached_property
    def smileys(self) -> frozenset[str]:
        return frozenset(label for _, label in rows("moods.tsv"))

    @cached_property
    def worn(self) -> frozenset[str]:
        return frozenset(row[1] for row in rows("garments.tsv"))

    @cached_property
    def known_words(self) -> frozenset[str]:
        """The words of all phrases of the tables, and the English words that are listed as such."""
        return self.english | {word for phrase in self.entries for word in phrase}

    @cached_property
    def english(self) -> frozenset[str]:
        """The English words that are listed as such."""
        return frozenset(word for table in ("english.txt", "real-words.txt") for (word,) in rows(table))

    @cached_property
    def misspellings(self) -> dict[Key, Key]:
        return {key(typed): key(meant) for typed, meant in rows("misspellings.tsv")}

    def _add_nouns(self, entries: Entries) -> None:
        for name, label, exact, *more in (*rows("nouns.tsv"), *rows("nouns-more.tsv")):
            if label in self.vocabulary and key(name) not in self._labels:
                entries.add_noun(name, Noun(label, exact == "=", more[0] if more else ""))
        for name, label, exact, *more in rows("garments.tsv"):
            if label in self.vocabulary:
                entries.of(name).garment = Noun(label, exact == "=", more[0] if more else "")

    def _add_the_rest(self, entries: Entries) -> None:
        for table, field_name in (
            ("moods.tsv", "mood"),
            ("looks.tsv", "look"),
            ("relations.tsv", "relation"),
            ("hair.tsv", "hair"),
        ):
            for name, value, *more in rows(table):
                setattr(entries.of(name), field_name, value)
                if more:
                    entries.of(name).stand_in = more[0], value
        for name, number in rows("numbers.tsv"):
            entries.of(name).number = int(number)
        for name, relation, *more in rows("verbs.tsv"):
            if relation in LOOKS:
                entries.of(name).look = relation
            else:
                entries.of(name).verb = relation, more[0] if more else ""
                _add_stand_in(entries.of(name), *more)
        for name, relation, *more in rows("verbs-alone.tsv"):
            entries.of(name).alone = relation, more[0] if more else ""
        for name, relation, label, *more in rows("places.tsv"):
            entries.of(name).place = relation, label
            _add_stand_in(entries.of(name), label, *more)
        for name, relation, label, *more in rows("roles.tsv"):
            entries.of(name).roles.append((relation, label))
            _add_stand_in(entries.of(name), label, *more)
        for (name,) in rows("fillers.txt"):
            entries.of(name).filler = True
        for (name,) in rows("negations.txt"):
            entries.of(name).negation = True

    def _add_by_rule(self, entries: Entries) -> None:
        """Phrases that a table's row stands for: whose head it is, colours after articles, nationalities."""
        for name, kind in rows("body-places.tsv"):
            for whose in ("its", "his", "her", "their", "my", "your", "the", "a"):
                entries.of(name.replace("its", whose)).body_place = kind
        for phrase, meanings in entries.items():
            if len(phrase) == 2 and phrase[0] in ARTICLES and (known := entries.get(phrase[1:])):
                # "an orange" is a fruit, and of "an orange cat" the colour.
                meanings.look = meanings.look or known.look
        for name in nationalities():
            entry = entries.of(name)
            if entry == Meanings():
                entry.look = "leave"

    def label(self, text: str) -> str | None:
        """The label that a text is, spelled in any way: "T-REX!", "heart eyes"."""
        return self._labels.get(key(text))

    def longest(self, words: Sequence[str], start: int) -> tuple[int, Meanings] | None:
        """How many words from `start` on make the longest known phrase, and its meanings; None where none is known."""
        for length in range(min(MAX_PHRASE, len(words) - start), 0, -1):
            for phrase in _singulars(tuple(words[start : start + length])):
                meanings = self.entries.get(self.misspellings.get(phrase, phrase))
                if meanings is not None and (
                    meanings.noun or meanings.garment or phrase == tuple(words[start : start + length])
                ):
                    return length, meanings
        return None

    @cached_property
    def misleading(self) -> frozenset[str]:
        """Words whose synonyms show a sense that nobody means: "class" is no bicycle."""
        return frozenset(word for (word,) in rows("misleading.txt"))

    def synonym(self, words: Sequence[str], start: int, generous: bool = False) -> tuple[int, Meanings] | None:
        """The same by WordNet's synonyms and kinds (`words.tsv` of the model), and by correcting the spelling.

        Within a longer prompt only words that mean one thing there have a synonym, unless `generous`.
        """
        for length in range(min(3, len(words) - start), 0, -1):
            for form in _forms(" ".join(words[start : start + length])):
                meant = self._synonyms.meant.get(form)
                if meant is None or len(form) < _LEAST_LETTERS or form in self.misleading:
                    continue
                own = meant.alone if generous or length == len(words) else meant.within
                if own in self.vocabulary:
                    return length, Meanings(noun=Noun(own, own == form))
                if own != form and (known := self.entries.get(key(own))) and known.noun:
                    return length, Meanings(noun=Noun(known.noun.label, False, known.noun.extra))
        from .spelling import corrected

        word = corrected(words[start], self.spellings, self.english)
        return None if word is None else (1, replace(self.entries[word,], read_as=word))

    @cached_property
    def spellings(self) -> Mapping[str, Sequence[str]]:
        """The single words that a misspelled one can be read as, by their first letter."""
        from .spelling import by_first_letter

        return by_first_letter(
            phrase[0]
            for phrase, meanings in self.entries.items()
            if len(phrase) == 1
            and (meanings.noun or meanings.mood or meanings.garment or meanings.verb or meanings.look or meanings.roles)
            and phrase[0] not in nationalities()
        )

    def nearest(self, text: str, count: int = 3) -> list[str]:
        """Labels that are spelled like a text or one of its words, to suggest."""
        labels = list(self.vocabulary.labels)
        near = [difflib.get_close_matches(word, labels, count, 0.7) for word in (text.lower(), *words_of(text))]
        return list(dict.fromkeys(label for labels in near for label in labels))[:count]


def _add_stand_in(entry: Meanings, label: str = "", thing: str = "") -> None:
    """thing: what the phrase names, where a table says that the label is drawn instead of it."""
    if thing:
        entry.stand_in = thing, label


@cache
def nationalities() -> frozenset[str]:
    """Adjectives of countries: "french"."""
    return frozenset(adjective for _, *adjectives in rows("countries.tsv") for adjective in adjectives)


def _forms(word: str) -> Iterator[str]:
    """A word, and what it may be the plural of."""
    yield word
    if word in _singular_forms():
        yield _singular_forms()[word]
    for ending, instead in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            yield word.removesuffix(ending) + instead


def _singulars(phrase: Key) -> Iterator[Key]:
    """A phrase, and what it may be the plural of: "cups of tea", "polar bears"."""
    yield phrase
    if len(phrase) > 2 and phrase[1] == "of":
        yield from ((form, *phrase[1:]) for form in _forms(phrase[0]))
    if phrase[-1].endswith("s") or phrase[-1] in _singular_forms():
        yield from ((*phrase[:-1], form) for form in _forms(phrase[-1]))


@cache
def _singular_forms() -> dict[str, str]:
    """The singulars of irregular plurals of one word."""
    from ..english import IRREGULAR_PLURALS

    return {plural: singular for singular, plural in IRREGULAR_PLURALS.items() if " " not in singular} | {
        "men": "man",
        "women": "woman",
        "people": "person",
        "babies": "baby",
        "feet": "foot",
        "loaves": "loaf",
        "dice": "die",
    }
