"""What a prompt says by itself, read by rules and never by a language model.

In: "👩🏿‍🚀 dancing". Out: the subject's own words ("woman astronaut dancing"), skin tone, person type, role, hair, the
kind of thing it is, and which optional fields the prompt already speaks of. The vocabulary is Unicode's: emojis by
their labels, five skin tones, person types and roles as emojibase-data has them. English and emoji are understood, the
words of other languages are kept as they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import UserError
from . import guards
from .lexicon import (
    COLOURS,
    GARMENTS,
    HAIR,
    POSES,
    SKIN_TONES,
    TONE_WORDS,
    Entry,
    emojis,
    kinds,
    moods,
    people_in,
    person_types,
)

TONE_SIGNS = {chr(0x1F3FB + index): tone for index, tone in enumerate(SKIN_TONES)}
LONGEST_EMOJI = 16

TONES = {word: tone for tone, words in TONE_WORDS.items() for word in words.split()}
SKIN = r"[- ]?skin(?:ned)?(?:[- ](?:tone|colou?r|complexion))?\b"
TONE_PHRASE = re.compile(
    rf",?\s*(?:\b(?:with|of|in|has|having)\s+)?(?:\ba\s+)?\b(?P<tone>(?:medium[- ])?[a-z]+){SKIN}", re.IGNORECASE
)
TONED_PERSON = re.compile(
    r"\b(black|brown|white)\s+(?=(?:wom[ae]n|m[ae]n|boys?|girls?|guys?|lady|ladies|persons?|people|male|female|kids?"
    r"|child|children|baby|dad|mom|grandma|grandpa)\b)",
    re.IGNORECASE,
)

# Where the first noun phrase ends, which says what the picture is of.
PREPOSITIONS = frozenset(
    "with on in at of as into over under from by for and or made dressed who that eating wearing holding is"
    " like near through to out around above below inside behind".split()
)
HAIR_PHRASE = re.compile(rf"\b(?:(?:{'|'.join(HAIR)}|wavy)\s+)+hair\b|\bbald\b|\bbeard\b|\bblonde?\b", re.IGNORECASE)


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


def parse(prompt: str) -> Parsed:
    """Read a prompt. Raises UserError where nothing is left of it, UnsafePrompt where it is refused."""
    text = guards.clean(prompt)
    guards.check_safe(text)
    text, lost = guards.shorten(text)
    dropped = {"subject": f"over {guards.MAX_CHARACTERS} characters: {lost}"} if lost else {}
    named, tones = spell_out(text)
    text, said_tones = _without_tones(guards.clean(in_words(named)))
    tones |= said_tones
    if len(tones) > 1:
        dropped["skin_tone"] = f"more than one: {', '.join(sorted(tones))}"
    if not text:
        raise UserError('The prompt is empty: say what to draw, for example "flying pig".')
    guards.check_safe(text)
    words = re.findall(r"[^\W_][\w'’-]*", text.lower())
    category, role = _category(words)
    who = {part.person_type for part in named if isinstance(part, Entry) and part.person_type}
    who = who or set(people_in(words))
    hair = HAIR_PHRASE.search(text)
    return Parsed(
        subject=text,
        skin_tone=tones.pop() if len(tones) == 1 else None,
        person_type=who.pop() if category == "person" and len(who) == 1 else None,
        role=role,
        hair=hair[0].lower() if hair and category == "person" else None,
        category=category,
        said=frozenset(_said(words, category)),
        dropped=dropped,
    )


def spell_out(text: str) -> tuple[list[Entry | str], set[str]]:
    """`text` with its emojis as their entries, spaces around them, and the skin tones that they have."""
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


def said_by_emojis(text: str) -> tuple[str | None, str | None]:
    """The skin tone and the person type of the emojis in a text, each where there is one and no more."""
    if text.isascii():
        return None, None
    parts, tones = spell_out(text)
    who = {part.person_type for part in parts if isinstance(part, Entry)} - {""}
    return tones.pop() if len(tones) == 1 else None, who.pop() if len(who) == 1 else None


def in_words(parts: Iterable[Entry | str]) -> str:
    """What `spell_out` gives, as a text."""
    return " ".join("".join(part.label if isinstance(part, Entry) else part for part in parts).split())


def _between_letters(text: str, index: int) -> bool:
    """Whether a joiner stands in a word, as it does in Indic scripts, and not between emojis."""
    return 0 < index < len(text) - 1 and text[index + 1].isalpha()


def _without_tones(text: str) -> tuple[str, set[str]]:
    tones: set[str] = set()

    def take(match: re.Match[str]) -> str:
        tone = _tone(match["tone"])
        if tone is None:
            return match[0]
        tones.add(tone)
        # The comma stays where words go on behind the phrase.
        return "" if match[0].startswith(",") else " "

    def take_person(match: re.Match[str]) -> str:
        tones.add({"black": "dark", "brown": "medium-dark", "white": "light"}[match[1].lower()])
        return ""

    text = TONED_PERSON.sub(take_person, TONE_PHRASE.sub(take, text))
    return " ".join(text.split()).strip(" ,"), tones


def _tone(words: str) -> str | None:
    """The skin tone that words before "skin" name, with a slip of the pen allowed."""
    name = "-".join(words.lower().replace("-", " ").split())
    if name in TONES:
        return TONES[name]
    close = [word for word in difflib.get_close_matches(name, TONES, 3, 0.74) if word[0] == name[0]]
    return TONES[close[0]] if close else None


def _category(words: list[str]) -> tuple[str, str | None]:
    """The kind of the thing that the first noun phrase names, and a person's role."""
    found = list(_nouns(words)) or list(_nouns([_spelled(word) for word in words]))
    if not found:
        return "unknown", None
    first_phrase = [(word, kind) for word, kind, inside in found if inside]
    named = first_phrase or [(word, kind) for word, kind, _ in found]
    animals = [kind for _, kind in named if kind == "animal"]
    category = "animal" if animals and named[-1][1] == "person" else named[-1][1]
    people = (
        " ".join(part for part in word.split() if part not in person_types())
        for word, kind in named
        if kind == "person"
    )
    roles = [word for word in people if word]
    return category, roles[-1] if roles and category == "person" else None


def _nouns(words: list[str]) -> Iterator[tuple[str, str, bool]]:
    """The words, or pairs of them, that the vocabulary has; their kinds; whether they are in the first noun phrase."""
    inside, index, seen = True, 0, False
    while index < len(words):
        word = words[index]
        verb = word.endswith("ing") and (word in POSES or word in moods())
        if seen and (word in PREPOSITIONS or verb):
            inside = False
        for length in (2, 1):
            phrase = " ".join(words[index : index + length])
            kind = None if len(words) < index + length else kinds().get(phrase) or kinds().get(_singular(phrase))
            if (
                kind
                and phrase not in PREPOSITIONS
                and not (length == 1 and (verb or word in COLOURS or word in moods()))
            ):
                yield phrase, kind, inside
                seen = True
                index += length
                break
        else:
            index += 1


def _spelled(word: str) -> str:
    """The word of the vocabulary that a long word differs from by a letter or two; itself where there is none."""
    close = difflib.get_close_matches(word, kinds(), 1, 0.82) if len(word) >= 6 else []
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
