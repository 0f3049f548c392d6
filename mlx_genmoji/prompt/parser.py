"""What a prompt says by itself, read by rules and never by a language model.

In: "👩🏿‍🚀 dancing". Out: the subject's own words ("woman astronaut dancing"), skin tone, person type, role, hair, the
kind of thing it is, and which optional fields the prompt already speaks of. The vocabulary is Unicode's: emojis by
their labels, five skin tones, person types and roles as emojibase-data has them. English and emoji are understood, the
words of other languages are kept as they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ..errors import UserError
from . import safety
from .lexicon import (
    ADULTS,
    AGES,
    COLOURS,
    EMOJI_ROLES,
    GARMENTS,
    HAIR,
    POSES,
    ROLES,
    SKIN_TONES,
    TONE_WORDS,
    Entry,
    emojis,
    kinds,
    label_nouns,
    moods,
    who_is,
)

TONE_SIGNS = {chr(0x1F3FB + index): tone for index, tone in enumerate(SKIN_TONES)}
LONGEST_EMOJI = 16

# An emoji in a text whose words are being read: a character for private use, which no cleaned text has.
FIRST_MARK, LAST_MARK = "\ue000", "\uf8ff"
MARK = f"[{FIRST_MARK}-{LAST_MARK}]"
WORD = re.compile(rf"{MARK}|[:,&(]|[^\W_][\w'’-]*")
MOST_WORDS = 100
"""How far into a text its words say what it is of."""

TONES = {word: tone for tone, words in TONE_WORDS.items() for word in words.split()}
ADVERB = r"(?:(?:very|really|quite|rather|so|extremely|super)\s+)*"
TONE_PHRASE = re.compile(
    r"(?:\s*,)?(?:\s*\band\b)?"
    r"(?:\s*\b(?:(?:who|that)\s+)?(?:with|of|in|has|have|having)\s+(?:(?:an?|the|her|his|their|its)\s+)?)?"
    rf"\s*\b{ADVERB}(?P<tone>(?:(?:medium|light|dark|deep|rich|pale)[-\s]+)?[a-z]+)"
    r"(?:[-\s]?skin(?:ned)?(?:[-\s](?:tone[sd]?|colou?r(?:ed)?|complexion))?|[-\s]complexion(?:ed)?)\b"
    r"(?P<and>(?:\s*,)?\s+and\b)?",
    re.IGNORECASE,
)
TONED_PERSON = re.compile(
    r"(?<!\band\s)\b(?P<tone>black|brown|white)\s+(?=(?:(?:old|older|elderly|young|little)\s+)?"
    r"(?:wom[ae]n|m[ae]n|boys?|girls?|guys?|lady|ladies|persons?|people|male|female|kids?"
    r"|child|children|baby|dad|mom|grandma|grandpa)\b(?!['’]))",
    re.IGNORECASE,
)
DENIED = re.compile(r"\b(?:without|no|not|non|isn['’]t)(?:\s+(?:an?|any|the|her|his|their))*\s*$", re.IGNORECASE)
TONED_KINDS = ("person", "creature", "unknown")
BODY = frozenset("arm ear finger fist foot hand leg nail nose palm thumb".split())
"""What Unicode gives a skin tone to, beside whole people."""

# Where the first noun phrase ends, which says what the picture is of.
PREPOSITIONS = frozenset(
    "with without on in at of as into over under from by for and or made dressed who that eating wearing holding is"
    " like near through to out around above below inside behind : , & (".split()
)
JOINING = frozenset("and or & , (".split())
HAIR_PHRASE = re.compile(
    rf"\b(?P<hair>(?:(?:{'|'.join(HAIR)})[- ])+)hair(?:ed)?\b|\bbald\b|\bbeard(?:ed)?\b|\bredhead\b|\bblonde?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parsed:
    subject: str
    skin_tone: str | None
    person_type: str | None
    role: str | None
    hair: str | None
    category: str
    """person, animal, creature, food, plant, vehicle, place, feeling, thing; unknown where no word is known."""
    said: frozenset[str]
    """The optional fields of a plan that the prompt speaks of itself, which nothing is added to."""
    dropped: dict[str, str] = field(default_factory=dict)
    """What of the prompt is not in the plan, and why."""


class Noun(NamedTuple):
    """A word, a pair of them or an emoji that names something."""

    phrase: str
    kind: str
    who: str | None
    place: int
    """0: in the first noun phrase; 1: joined to it, as the woman in "man and woman"; 2: elsewhere."""
    fixed: bool
    """Whether it is an emoji's, or a noun that emojis are named by, and no loose word of their tags."""


def parse(prompt: str, most: int | None = safety.MAX_CHARACTERS) -> Parsed:
    """Read a prompt, and of its words `most` characters. Raises UserError where nothing is left of it, UnsafePrompt
    where it is refused."""
    text = safety.clean(prompt)
    safety.check_safe(text)
    parts, tones = spell_out(text)
    entries = [part for part in parts if isinstance(part, Entry)]
    marked = iter(map(chr, range(ord(FIRST_MARK), ord(LAST_MARK))))
    text = " ".join("".join(next(marked, " ") if isinstance(part, Entry) else part for part in parts).split())
    dropped: dict[str, str] = {}
    rest, said_tones = _without_tones(text, entries)
    tones |= said_tones
    if len(tones) > 1:
        # Of "light skin and dark skin friends" nothing is left without them.
        dropped["skin_tone"] = f"more than one: {', '.join(sorted(tones))}"
    else:
        text = rest
    text, lost = _shortened(text, entries, most)
    if lost:
        dropped["subject"] = f"over {most} characters: {lost}"
    subject = _unmarked(text, entries)
    if not subject:
        raise UserError('The prompt is empty: say what to draw, for example "flying pig".')
    safety.check_safe(subject)
    category, role, who = _named(WORD.findall(text.lower())[:MOST_WORDS], entries)
    words = [word for word in WORD.findall(subject.lower()) if word not in ":,&("]
    return Parsed(
        subject=subject,
        skin_tone=tones.pop() if len(tones) == 1 else None,
        person_type=who,
        role=role,
        hair=_hair(subject) if category == "person" else None,
        category=category,
        said=frozenset(_said(words, category)),
        dropped=dropped,
    )


def spell_out(text: str) -> tuple[list[Entry | str], set[str]]:
    """`text` with its emojis as their entries, spaces around them, and the skin tones that they have."""
    if text.isascii():
        return [text], set()
    known = emojis()
    parts: list[Entry | str] = []
    tones: set[str] = set()
    start = 0
    while start < len(text):
        for end in range(min(len(text), start + LONGEST_EMOJI), start, -1):
            signs = [sign for sign in text[start:end] if sign in TONE_SIGNS]
            bare = "".join(char for char in text[start:end] if char not in TONE_SIGNS and char != "\ufe0f")
            entry = known.get(bare) if bare and text[start] not in TONE_SIGNS else None
            if entry is not None and text[end : end + 1] not in ("\u20e3", "\ufe0f", *TONE_SIGNS):
                parts += [" ", entry, " "]
                tones |= {TONE_SIGNS[sign] for sign in signs}
                start = end
                break
        else:
            if text[start] in TONE_SIGNS:
                tones.add(TONE_SIGNS[text[start]])
            elif text[start] not in "\ufe0f\u200d" or _between_letters(text, start):
                parts.append(text[start])
            start += 1
    return parts, tones


def in_words(parts: Iterable[Entry | str]) -> str:
    """What `spell_out` gives, as a text."""
    return " ".join("".join(part.label if isinstance(part, Entry) else part for part in parts).split())


def _between_letters(text: str, index: int) -> bool:
    """Whether a joiner stands in a word, as it does in Indic scripts, and not between emojis."""
    return 0 < index < len(text) - 1 and text[index + 1].isalpha()


def _without_tones(text: str, entries: Sequence[Entry]) -> tuple[str, set[str]]:
    """`text` without the phrases that say a skin tone, and these tones, where it is of something that has one."""
    tones: set[str] = set()

    def take(match: re.Match[str]) -> str:
        tone = _tone(match["tone"])
        if tone is None or DENIED.search(text[: match.start("tone")]):
            return match[0]
        tones.add(tone)
        if match["and"] is None:
            return " "
        # Where words stand before the phrase it was their "and", and a word of the user's.
        return " and " if text[: match.start()].strip() else " "

    rest = TONE_PHRASE.sub(take, text)
    rest = re.sub(r"\s+,", ",", " ".join(rest.split())).strip(" ,") if tones else text
    if not rest or not (tones or TONED_PERSON.search(rest)):
        return rest, tones
    words = WORD.findall(rest.lower())[:MOST_WORDS]
    category = _named(words, entries)[0]
    if tones and category not in TONED_KINDS and not BODY & {_singular(word) for word in words}:
        return text, set()
    if category != "person":
        return rest if tones else text, tones

    def take_person(match: re.Match[str]) -> str:
        tones.add(TONES[match["tone"].lower()])
        return ""

    return TONED_PERSON.sub(take_person, rest), tones


def _tone(words: str) -> str | None:
    """The skin tone that words before "skin" name, with a slip of the pen allowed."""
    name = "-".join(words.lower().replace("-", " ").split())
    if name in TONES:
        return TONES[name]
    close = [word for word in difflib.get_close_matches(name, TONES, 3, 0.74) if word[0] == name[0]]
    return TONES[close[0]] if close and name.count("-") == close[0].count("-") else None


def people_named(text: str) -> set[str]:
    """The person types that a text gives to what it is of: in "woman with a baby" the woman's."""
    return {noun.who for noun in _nouns(WORD.findall(text.lower())[:MOST_WORDS], []) if noun.who and noun.place < 2}


def _unmarked(text: str, entries: Sequence[Entry]) -> str:
    """`text` with the emojis' names in the place of their marks."""
    spelled = re.sub(MARK, lambda mark: f" {entries[ord(mark[0]) - ord(FIRST_MARK)].label} ", text)
    return safety.clean(spelled)


def _shortened(text: str, entries: Sequence[Entry], most: int | None) -> tuple[str, str]:
    """`text` up to `most` characters of what it spells, cut between words where there are any, and what fell off."""
    if most is None or len(_unmarked(text, entries)) <= most:
        return text, ""
    kept, length = 0, 0
    words = text.split()
    for word in words:
        length += len(_unmarked(word, entries)) + (length > 0)
        if length > most:
            break
        kept += 1
    short = " ".join(words[:kept])
    if len(_unmarked(short, entries)) < most // 2:
        # A word without end.
        short = f"{short} {words[kept]}".strip()[:most].strip()
    return short, _unmarked(text[len(short) :], entries)


def _named(words: list[str], entries: Sequence[Entry]) -> tuple[str, str | None, str | None]:
    """The kind of the thing that the first noun phrase names, and of a person the role and who that is."""
    found = list(_nouns(words, entries)) or list(_nouns([_spelled(word) for word in words], entries))
    if not found:
        return "unknown", None, None
    first = [noun for noun in found if noun.place == 0] or found
    last = first[-1]
    category = last.kind
    if category == "person":
        if any(noun.kind == "animal" for noun in first) and last.phrase not in ADULTS:
            category = "animal"
    elif category in ("thing", "place", "plant", "feeling") and not last.fixed and any(noun.who for noun in first):
        # Tags of emojis make nouns of many a word.
        category = "person"
    if category != "person":
        return category, None, None
    who = {noun.who for noun in found if noun.who and noun.place < 2}
    if "baby" in who and who < {"baby", "boy", "girl"}:
        who = {"baby"}
    roles = [role for noun in found if noun.place < 2 and noun.kind == "person" and (role := _role(noun.phrase))]
    return category, roles[-1] if roles else None, who.pop() if len(who) == 1 else None


def _role(phrase: str) -> str | None:
    """The role in what a person is called: of "woman astronaut", "astronaut"."""
    words = phrase.split()
    for length in (2, 1):
        for end in range(len(words), length - 1, -1):
            role = " ".join(words[end - length : end])
            if role in EMOJI_ROLES or role in ROLES or role.removesuffix("s") in ROLES:
                return role
    return None


def _hair(text: str) -> str | None:
    found = HAIR_PHRASE.search(text)
    if not found:
        return None
    if found["hair"]:
        return f"{found['hair'].lower().replace('-', ' ')}hair"
    return {"bearded": "beard", "redhead": "red hair"}.get(found[0].lower(), found[0].lower())


def _nouns(words: list[str], entries: Sequence[Entry]) -> Iterator[Noun]:
    """The words, or pairs of them, that the vocabulary has, and the emojis."""
    place, index, seen = 0, 0, False
    before: list[str] = []
    while index < len(words):
        word = words[index]
        entry = entries[ord(word) - ord(FIRST_MARK)] if FIRST_MARK <= word[0] <= LAST_MARK else None
        if entry is not None:
            if entry.kind == "symbol":
                yield from (noun._replace(place=max(place, noun.place)) for noun in _nouns(entry.label.split(), []))
            else:
                yield Noun(entry.label, entry.kind, entry.person_type or None, place, True)
            seen = True
            index += 1
            continue
        verb = _is_verb(word)
        if seen and (word in PREPOSITIONS or verb):
            place = 1 if word in JOINING and place < 2 else 2
            before = []
        if word == "is" and words[index - 1] in ("who", "that"):
            place = min(place, 1)
        for length in (2, 1):
            phrase = " ".join(words[index : index + length])
            who = who_is(phrase) or who_is(_singular(phrase))
            kind = "person" if who else kinds().get(phrase) or kinds().get(_singular(phrase))
            if (
                kind
                and index + length <= len(words)
                and not PREPOSITIONS & set(words[index : index + length])
                and not (length == 1 and (verb or word in COLOURS or word in moods()))
            ):
                if length == 2 and kind == "person" and not who:
                    who = next(filter(None, map(who_is, phrase.split())), None)
                if who in ("man", "woman", "person") and AGES & set(before[-3:]):
                    who = f"old {who}"
                fixed = phrase in label_nouns() or _singular(phrase) in label_nouns()
                yield Noun(phrase, kind, who, place, fixed)
                seen, before = True, [] if fixed or who else [*before, phrase]
                index += length
                break
        else:
            before.append(word)
            index += 1


def _is_verb(word: str) -> bool:
    return word.endswith("ing") and (word in POSES or word in moods())


@lru_cache(maxsize=1024)
def _spelled(word: str) -> str:
    """The word of the vocabulary that a long word differs from by a letter or two; itself where there is none."""
    if len(word) < 6:
        return word
    near = [known for known in kinds() if known[0] == word[0] and abs(len(known) - len(word)) <= 3]
    close = difflib.get_close_matches(word, near, 1, 0.82)
    return close[0] if close else word


def _singular(word: str) -> str:
    return word[:-2] if word.endswith(("ches", "shes", "oes", "xes")) else word.removesuffix("s")


def _said(words: list[str], category: str) -> Iterator[str]:
    """The optional fields that the words speak of."""
    if any(word in moods() for word in words):
        yield "expression"
    verbs = [index for index, word in enumerate(words) if word in POSES]
    if verbs:
        yield "pose"
    if any(word in GARMENTS or word in ("wearing", "dressed") for word in words):
        yield "wearing"
    # Hands that hold, or do something to something, are not free; in "a flying pig" they are.
    who = next((index for index, word in enumerate(words) if word in kinds() and word not in moods()), 0)
    if {"with", "holding", "carrying"} & set(words) or any(who < index < len(words) - 1 for index in verbs):
        yield "holding"
    if any(word in COLOURS for word in words):
        yield "colours"
