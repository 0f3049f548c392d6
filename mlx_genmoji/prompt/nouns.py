"""The nouns of a prompt, and what they say its subject is: "old woman with a cat" is a person, an old woman."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..english import singular
from .lexicon import (
    ADULTS,
    AGES,
    COLOURS,
    EMOJI_ROLES,
    POSES,
    ROLES,
    Entry,
    kinds,
    label_nouns,
    moods,
    who_is,
)

# While words are read, each emoji is one character for private use, which a cleaned text never has.
FIRST_MARK, LAST_MARK = "\ue000", "\uf8ff"
MARK = f"[{FIRST_MARK}-{LAST_MARK}]"
WORD = re.compile(rf"{MARK}|[:,&(]|[^\W_][\w'’-]*")
MAX_WORDS = 100
"""Only so many words at the start of a text are searched for nouns."""

# These end the first noun phrase, which names the subject.
PREPOSITIONS = frozenset(
    "with without on in at of as into over under from by for and or made dressed who that eating wearing holding is"
    " like near through to out around above below inside behind : , & (".split()
)
JOINING = frozenset("and or & , (".split())

# Where a noun stands: in the first noun phrase; joined to it, as the woman in "man and woman"; elsewhere.
FIRST, JOINED, ELSEWHERE = 0, 1, 2


class Noun(NamedTuple):
    """A word, a pair of words or an emoji that names something."""

    phrase: str
    kind: str
    person_type: str | None
    place: int
    fixed: bool
    """Whether it is an emoji or the name of one; False for words that are only tags of emojis."""


class Subject(NamedTuple):
    """What a prompt shows: its category, and of a person the role and the person type, if exactly one is named."""

    category: str
    role: str | None = None
    person_type: str | None = None


def words_of(text: str) -> list[str]:
    """The lower-case words, marks and signs between words at the start of `text`, at most `MAX_WORDS`."""
    return WORD.findall(text.lower())[:MAX_WORDS]


def subject_of(words: Sequence[str], entries: Sequence[Entry]) -> Subject:
    """The subject that `words` name; of category "unknown" if no word is known. entries: the marked emojis."""
    nouns = list(find_nouns(words, entries)) or list(find_nouns([_corrected(word) for word in words], entries))
    if not nouns:
        return Subject("unknown")
    category = _category([noun for noun in nouns if noun.place == FIRST] or nouns)
    if category != "person":
        return Subject(category)
    whole = [noun for noun in nouns if noun.place != ELSEWHERE]
    people = {noun.person_type for noun in whole if noun.person_type}
    if "baby" in people and people < {"baby", "boy", "girl"}:
        people = {"baby"}
    roles = [role for noun in whole if noun.kind == "person" and (role := _role(noun.phrase))]
    return Subject(category, roles[-1] if roles else None, people.pop() if len(people) == 1 else None)


def people_named(text: str) -> set[str]:
    """The person types that a text gives to its subject: "woman with a baby" gives woman."""
    nouns = find_nouns(words_of(text), [])
    return {noun.person_type for noun in nouns if noun.person_type and noun.place != ELSEWHERE}


def find_nouns(words: Sequence[str], entries: Sequence[Entry]) -> Iterator[Noun]:
    """The nouns among `words`: emojis by their marks, and the words and pairs of words that the vocabulary has."""
    place: int = FIRST
    index, seen = 0, False
    before: list[str] = []
    while index < len(words):
        word = words[index]
        if FIRST_MARK <= word[0] <= LAST_MARK:
            yield from _nouns_of_emoji(entries[ord(word) - ord(FIRST_MARK)], place)
            index, seen = index + 1, True
            continue
        if seen and (word in PREPOSITIONS or _is_verb(word)):
            place = JOINED if word in JOINING and place != ELSEWHERE else ELSEWHERE
            before = []
        if word == "is" and words[index - 1] in ("who", "that") and place == ELSEWHERE:
            place = JOINED
        noun = _noun_at(words, index, place, before)
        if noun is None:
            before.append(word)
            index += 1
        else:
            yield noun
            before = [] if noun.fixed or noun.person_type else [*before, noun.phrase]
            index, seen = index + len(noun.phrase.split()), True


def _nouns_of_emoji(entry: Entry, place: int) -> Iterator[Noun]:
    """An emoji is one noun; a symbol, such as a sign with words, has the nouns of its label."""
    if entry.kind != "symbol":
        yield Noun(entry.label, entry.kind, entry.person_type or None, place, True)
        return
    for noun in find_nouns(entry.label.split(), []):
        yield noun._replace(place=max(place, noun.place))


def _noun_at(words: Sequence[str], index: int, place: int, before: Sequence[str]) -> Noun | None:
    """The noun of two words, or else of one, that begins at `index`; None if there is none.

    before: the words of the same phrase before it, for "old" in "old and wise man".
    """
    for length in (2, 1):
        chunk = words[index : index + length]
        if len(chunk) < length or PREPOSITIONS.intersection(chunk) or (length == 1 and _describes(chunk[0])):
            continue
        phrase = " ".join(chunk)
        alone = singular(phrase)
        person_type = who_is(phrase) or who_is(alone)
        kind = "person" if person_type else kinds().get(phrase) or kinds().get(alone)
        if not kind:
            continue
        if length == 2 and kind == "person" and not person_type:
            person_type = next(filter(None, map(who_is, chunk)), None)
        if person_type in ("man", "woman", "person") and AGES.intersection(before[-3:]):
            person_type = f"old {person_type}"
        fixed = phrase in label_nouns() or alone in label_nouns()
        return Noun(phrase, kind, person_type, place, fixed)
    return None


def _describes(word: str) -> bool:
    """Whether a word alone is an adjective or a verb, although the vocabulary has it as a noun too."""
    return _is_verb(word) or word in COLOURS or word in moods()


def _is_verb(word: str) -> bool:
    return word.endswith("ing") and (word in POSES or word in moods())


def _category(nouns: Sequence[Noun]) -> str:
    """The kind of thing that a noun phrase names, by its last noun and, where that misleads, the others."""
    last = nouns[-1]
    if last.kind == "person":
        # "dog chef" is an animal, "cat lady" a person.
        is_animal = last.phrase not in ADULTS and any(noun.kind == "animal" for noun in nouns)
        return "animal" if is_animal else "person"
    # Tags of emojis make nouns of many a word, so a person before one counts more.
    loose = last.kind in ("thing", "place", "plant", "feeling") and not last.fixed
    return "person" if loose and any(noun.person_type for noun in nouns) else last.kind


def _role(phrase: str) -> str | None:
    """The role in a person's name: of "woman astronaut", "astronaut"."""
    words = phrase.split()
    for length in (2, 1):
        for end in range(len(words), length - 1, -1):
            role = " ".join(words[end - length : end])
            if role in EMOJI_ROLES or role in ROLES or role.removesuffix("s") in ROLES:
                return role
    return None


@lru_cache(maxsize=1024)
def _corrected(word: str) -> str:
    """The word of the vocabulary that a long word differs from by a letter or two; else the word itself."""
    if len(word) < 6:
        return word
    similar = [known for known in kinds() if known[0] == word[0] and abs(len(known) - len(word)) <= 3]
    closest = difflib.get_close_matches(word, similar, 1, 0.82)
    return closest[0] if closest else word
