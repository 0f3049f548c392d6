"""Reading a prompt by rules, without a language model.

In: "👩🏿‍🚀 dancing". Out: the subject in the user's words ("woman astronaut dancing"), skin tone, person type, role,
hair, the kind of thing it is, and which optional fields the prompt already mentions. The vocabulary is Unicode's:
emojis by their labels, five skin tones, person types and roles as emojibase-data has them. English and emoji are
understood; words of other languages are kept as they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

from ..english import singular
from ..errors import UserError
from . import safety
from .lexicon import COLOURS, GARMENTS, HAIR, POSES, SKIN_TONES, TONE_WORDS, Entry, emojis, kinds, moods
from .nouns import FIRST_MARK, LAST_MARK, MARK, WORD, subject_of, words_of

TONE_SIGNS = {chr(0x1F3FB + index): tone for index, tone in enumerate(SKIN_TONES)}
INVISIBLE_SIGNS = frozenset((*TONE_SIGNS, "\ufe0f"))
"""What a text may have inside an emoji, and the table of emojis does not."""
MAX_EMOJI_LENGTH = 16

TONES = {word: tone for tone, words in TONE_WORDS.items() for word in words.split()}


def _not_after(words: Iterable[str], separator: str) -> str:
    """A pattern: none of `words` stands before here.

    A repeated group of words that begins with it is tried once for a row of such words, and not once for each of them:
    else a row of n words takes n * n steps.
    """
    return "".join(rf"(?<!\b{word}{separator})" for word in words)


WHITESPACE = r"\s"
ADVERBS = "very really quite rather so extremely super".split()
TONE_PHRASE = re.compile(
    r"(?:\s*,)?(?:\s*\band\b)?"
    r"(?:\s*\b(?:(?:who|that)\s+)?(?:with|of|in|has|have|having)\s+(?:(?:an?|the|her|his|their|its)\s+)?)?"
    rf"\s*\b{_not_after(ADVERBS, WHITESPACE)}(?:(?:{'|'.join(ADVERBS)})\s+)*"
    r"(?P<tone>(?:(?:medium|light|dark|deep|rich|pale)[-\s]+)?[a-z]+)"
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
DENIAL = re.compile(r"\b(?:without|no|not|non|isn['’]t)\b(?:\s+(?:an?|any|the|her|his|their)\b)*\s*", re.IGNORECASE)
TONED_KINDS = ("person", "creature", "unknown")
BODY = frozenset("arm ear finger fist foot hand leg nail nose palm thumb".split())
"""Parts of the body that Unicode gives a skin tone to."""

HAIR_PHRASE = re.compile(
    rf"\b{_not_after(HAIR, '[- ]')}(?P<hair>(?:(?:{'|'.join(HAIR)})[- ])+)hair(?:ed)?\b"
    r"|\bbald\b|\bbeard(?:ed)?\b|\bredhead\b|\bblonde?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parsed:
    """What a prompt says."""

    subject: str
    skin_tone: str | None
    person_type: str | None
    role: str | None
    hair: str | None
    category: str
    """person, animal, creature, food, plant, vehicle, place, feeling or thing; unknown if no word is known."""
    mentioned: frozenset[str]
    """The optional fields of a plan that the prompt itself specifies; a language model must not fill these."""
    dropped: dict[str, str] = field(default_factory=dict)
    """The parts of the prompt that were left out, by field, each with the reason."""


def parse(prompt: str, max_characters: int | None = safety.MAX_CHARACTERS) -> Parsed:
    """Read a prompt; of its subject at most `max_characters` are kept.

    Raises UserError if nothing is left of it, UnsafePrompt if it is refused.
    """
    text = safety.clean(prompt)
    safety.check_safe(text)
    parts, tones = spell_out(text)
    entries = [part for part in parts if isinstance(part, Entry)]
    text = _marked(parts)
    dropped: dict[str, str] = {}
    without_tones, tones_in_words = _without_tones(text, entries)
    tones |= tones_in_words
    if len(tones) > 1:
        # Without them, "light skin and dark skin friends" would say nothing of these friends.
        dropped["skin_tone"] = f"more than one: {', '.join(sorted(tones))}"
    else:
        text = without_tones
    text, lost = _shortened(text, entries, max_characters)
    if lost:
        dropped["subject"] = f"over {max_characters} characters: {lost}"
    subject = _unmarked(text, entries)
    if not subject:
        raise UserError('The prompt is empty: say what to draw, for example "flying pig".')
    safety.check_safe(subject)
    category, role, person_type = subject_of(words_of(text), entries)
    words = [word for word in WORD.findall(subject.lower()) if word not in ":,&("]
    return Parsed(
        subject=subject,
        skin_tone=tones.pop() if len(tones) == 1 else None,
        person_type=person_type,
        role=role,
        hair=_hair(subject) if category == "person" else None,
        category=category,
        mentioned=frozenset(_mentioned(words)),
        dropped=dropped,
    )


def spell_out(text: str) -> tuple[list[Entry | str], set[str]]:
    """`text` with its emojis replaced by their entries, spaces around them; and the skin tones of these emojis."""
    if text.isascii():
        return [text], set()
    # As text or as a picture, it is the same emoji.
    text = text.replace("\ufe0e", "\ufe0f")
    parts: list[Entry | str] = []
    tones: set[str] = set()
    start = 0
    while start < len(text):
        match = _emoji_at(text, start)
        if match is not None:
            entry, end = match
            parts += [" ", entry, " "]
            tones |= {TONE_SIGNS[char] for char in text[start:end] if char in TONE_SIGNS}
            start = end
            continue
        if text[start] in TONE_SIGNS:
            tones.add(TONE_SIGNS[text[start]])
        elif text[start] not in "\ufe0f\u200d" or _between_letters(text, start):
            parts.append(text[start])
        start += 1
    return parts, tones


def _emoji_at(text: str, start: int) -> tuple[Entry, int] | None:
    """The longest emoji that begins at `start`, and where it ends; None if there is none."""
    if text[start] not in _first_signs():
        return None
    longest = None
    plain = ""
    for end in range(start + 1, min(len(text), start + MAX_EMOJI_LENGTH) + 1):
        if text[end - 1] not in INVISIBLE_SIGNS:
            plain += text[end - 1]
        entry = emojis().get(plain)
        if entry is not None and text[end : end + 1] not in ("\u20e3", *INVISIBLE_SIGNS):
            longest = entry, end
    return longest


@cache
def _first_signs() -> frozenset[str]:
    return (frozenset(emoji[0] for emoji in emojis()) | {"\ufe0f"}) - TONE_SIGNS.keys()


def _between_letters(text: str, index: int) -> bool:
    """Whether a joiner is inside a word, as in Indic scripts, and not between emojis."""
    return 0 < index < len(text) - 1 and text[index + 1].isalpha()


def _marked(parts: Sequence[Entry | str]) -> str:
    """`spell_out`'s parts as one text, with a mark in the place of each emoji."""
    marks = iter(map(chr, range(ord(FIRST_MARK), ord(LAST_MARK))))
    return " ".join("".join(next(marks, " ") if isinstance(part, Entry) else part for part in parts).split())


def _unmarked(text: str, entries: Sequence[Entry]) -> str:
    """`text` with the emojis' labels in the place of their marks, joined by "+" where emojis stand in a row."""
    text = re.sub(rf"({MARK})\s*(?={MARK})", r"\1 + ", text)
    spelled = re.sub(MARK, lambda mark: f" {entries[ord(mark[0]) - ord(FIRST_MARK)].label} ", text)
    return safety.clean(spelled)


def _without_tones(text: str, entries: Sequence[Entry]) -> tuple[str, set[str]]:
    """`text` without its phrases of a skin tone, and these tones, if its subject is something that has a skin tone."""
    rest, tones = _without_tone_phrases(text)
    if not rest or not (tones or TONED_PERSON.search(rest)):
        return rest, tones
    words = words_of(rest)
    category = subject_of(words, entries).category
    if tones and category not in TONED_KINDS and BODY.isdisjoint(map(singular, words)):
        return text, set()
    if category == "person":
        tones |= {TONES[match["tone"].lower()] for match in TONED_PERSON.finditer(rest)}
        rest = TONED_PERSON.sub("", rest)
    return rest, tones


def _without_tone_phrases(text: str) -> tuple[str, set[str]]:
    """`text` without phrases such as "with dark skin", and their skin tones; "without dark skin" stays."""
    tones: set[str] = set()
    denied = {match.end() for match in DENIAL.finditer(text)}

    def cut(match: re.Match[str]) -> str:
        tone = _tone(match["tone"])
        if tone is None or match.start("tone") in denied:
            return match[0]
        tones.add(tone)
        # An "and" after the phrase joins what follows to the words before the phrase, if there are any.
        return " and " if match["and"] is not None and text[: match.start()].strip() else " "

    rest = TONE_PHRASE.sub(cut, text)
    if not tones:
        return text, tones
    return re.sub(r"\s+,", ",", " ".join(rest.split())).strip(" ,"), tones


@lru_cache(maxsize=1024)
def _tone(words: str) -> str | None:
    """The skin tone that the words before "skin" name, also with a small spelling mistake; None if they name none."""
    name = "-".join(words.lower().replace("-", " ").split())
    if name in TONES:
        return TONES[name]
    close = [word for word in difflib.get_close_matches(name, TONES, 3, 0.74) if word[0] == name[0]]
    return TONES[close[0]] if close and name.count("-") == close[0].count("-") else None


def _shortened(text: str, entries: Sequence[Entry], max_characters: int | None) -> tuple[str, str]:
    """`text`, cut to `max_characters` of its spelled-out form, between words if possible; and the lost end."""
    if max_characters is None or len(_unmarked(text, entries)) <= max_characters:
        return text, ""
    kept, length = 0, 0
    words = text.split()
    for word in words:
        length += len(_unmarked(word, entries)) + (length > 0)
        if length > max_characters:
            break
        kept += 1
    short = " ".join(words[:kept])
    if len(_unmarked(short, entries)) < max_characters // 2:
        # The next word alone is very long: cut inside it.
        short = f"{short} {words[kept]}".strip()[:max_characters].strip()
    return short, _unmarked(text[len(short) :], entries)


def _hair(text: str) -> str | None:
    """The hair that a text gives to a person, as words to compare with: "curly red hair", "beard"."""
    match = HAIR_PHRASE.search(text)
    if not match:
        return None
    if match["hair"]:
        return f"{match['hair'].lower().replace('-', ' ')}hair"
    return {"bearded": "beard", "redhead": "red hair"}.get(match[0].lower(), match[0].lower())


def _mentioned(words: Sequence[str]) -> Iterator[str]:
    """The optional fields of a plan that the words already specify."""
    if any(word in moods() for word in words):
        yield "expression"
    verbs = [index for index, word in enumerate(words) if word in POSES]
    if verbs:
        yield "pose"
    if any(word in GARMENTS or word in ("wearing", "dressed") for word in words):
        yield "wearing"
    # Hands that hold something or do something to something are not free; in "a flying pig" they are.
    subject = next((index for index, word in enumerate(words) if word in kinds() and word not in moods()), 0)
    if {"with", "holding", "carrying"} & set(words) or any(subject < index < len(words) - 1 for index in verbs):
        yield "holding"
    if any(word in COLOURS for word in words):
        yield "colours"
