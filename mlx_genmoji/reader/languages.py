"""Prompts in other languages: "cochon volant", "roter Apfel", "一只戴墨镜的猫".

`translate` finds the language of a prompt, and puts it into English words as far as the tables of `language_tables` go:
the names of emoji become their labels, small words their English, in an order that the reader takes for English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

from ..english import stem
from .language_tables import CYRILLIC, LATIN, MAX_PHRASE_WORDS, UNSPACED, Entry, Language, fold, language, split
from .lexicon import TABLES
from .word_order import CONTENT, Token, european
from .word_order_asian import chinese, japanese_or_korean

MAX_CHARACTERS = 400
"""Only so much of a prompt is translated."""

SCRIPTS = (
    ("[\u3040-\u30ff]", ("ja",)),
    ("[\uac00-\ud7a3]", ("ko",)),
    ("[\u4e00-\u9fff]", ("zh", "ja")),
    ("[\u0400-\u04ff]", CYRILLIC),
)
"""The characters of a script, and the languages that are written in it."""

MARKERS = frozenset(
    "im am vom zum zur auf una el los las unos unas y con del gato perro der das dem den eine einen einem mit und ein"
    " ohne le les des du et avec dans sur qui une il gli uno che di della degli dos em um uma uns com sem na no do da"
    " een het met op en ett och som med og w z que au aux ist isst para por su nel sul al alla".split()
)
"""Small words of other languages: an English prompt has none of them."""

ENGLISH_TABLES = (
    "nouns.tsv",
    "nouns-more.tsv",
    "garments.tsv",
    "moods.tsv",
    "looks.tsv",
    "relations.tsv",
    "hair.tsv",
    "numbers.tsv",
    "verbs.tsv",
    "verbs-alone.tsv",
    "places.tsv",
    "roles.tsv",
    "fillers.txt",
    "negations.txt",
    "misspellings.tsv",
    "english.txt",
)
NOT_ENGLISH = frozenset(
    "abuela abuelo bonjour chocolat contadino danke et gracias luna merci nonna nonno oma opa queso terra tot triste"
    " vino".split()
)
"""Words of those tables that are as likely another language's."""

PACKAGE = Path(__file__).parents[1]
WORD_FILES = (PACKAGE / "builtin" / "words.tsv", PACKAGE / "prompt" / "words.tsv")

NAMING = frozenset(("name", "noun", "adj", "state", "verb"))
TIE = 0.3
"""So much less than English may a language cover that names what English does not: an ending makes a word less sure."""

MAX_ENGLISH_PHRASE = 4
COMPOUND_LANGUAGES = frozenset(("de", "nl", "sv", "da", "nb"))
COMPOUND_LINKS = ("", "s", "n", "en", "es", "er")
MIN_COMPOUND, MIN_PART = 7, 3
CERTAINTY_OF_A_COMPOUND = 0.6
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|&")
_FIRST_CELL = re.compile(r"^[^#\t\n][^\t\n]*", re.MULTILINE)
_HEAD_LAST_ROLES = re.compile(r"pirate|astronaut|cowboy|king|queen|wizard|witch|ninja|chef|cook|santa|superhero|knight")

_ACTIVITY = re.compile(r"(?:person|man|woman) \w+ing\b")


def translate(text: str) -> tuple[str, str] | None:
    """The language of `text` and the text in English words: ("fr", "flying pig") for "cochon volant".

    What the tables do not have stays as it is. None where the text is English, or nothing of it is known.
    """
    return _translate(" ".join(text.split())[:MAX_CHARACTERS])


@lru_cache(maxsize=64)
def _translate(text: str) -> tuple[str, str] | None:
    for script, codes in SCRIPTS:
        if re.search(script, text):
            return _in_script(text, codes)
    words = _WORD.findall(text.lower())
    # A word with accents alone is English where it is so without: "piñata", "éléphant".
    words = [word.replace("ñ", "n") for word in split(text)] if len(words) == 1 else words
    english = _english_words(words)
    count = sum(english)
    certain = text.isascii() and count > 0.5 * len(words) and MARKERS.isdisjoint(words)
    if count == len(words) or certain:
        return None
    return _best(text, LATIN, [word for word, known in zip(words, english, strict=True) if known])


def _in_script(text: str, codes: Sequence[str]) -> tuple[str, str] | None:
    if not set(codes) <= set(UNSPACED):
        return _best(text, codes, [])
    best: tuple[float, str, list[Token]] | None = None
    for code in codes:
        tokens = segments(text, code)
        unknown = sum(len(token.english) for token in tokens if token.kind == "unknown" and not token.english.isascii())
        if any(token.kind in CONTENT for token in tokens) and (best is None or unknown < best[0]):
            best = unknown, code, tokens
    if best is None:
        return None
    _, code, tokens = best
    return code, chinese(tokens) if code == "zh" else japanese_or_korean(tokens)


def _best(text: str, codes: Sequence[str], english: Sequence[str]) -> tuple[str, str] | None:
    """The translation from the language that covers most of `text`: more than English does, or as much by other words.

    english: the English words of `text`.
    """
    best = None
    known, most = frozenset(split(" ".join(english))), 0.0
    for code in codes:
        tokens, covered = words_of(text, language(code))
        gains = any(
            token.source in MARKERS
            or (
                token.kind in NAMING and known.isdisjoint(token.source.split()) and token.source in language(code).words
            )
            for token in tokens
            if token.source not in known
        )
        if covered > most and (covered > len(english) or (gains and covered >= len(english) - TIE)):
            best, most = (code, tokens), covered
    return (best[0], european(best[1], best[0])) if best else None


def words_of(text: str, lookup: Language) -> tuple[list[Token], float]:
    """The words of `text` by the longest phrases that a language has, and how many words they cover.

    They cover none where all of them are small words.
    """
    tokens: list[Token] = []
    covered, known = 0.0, False
    for piece in _pieces(text):
        words = split(piece)
        if not words:
            tokens.append(Token(piece, "," if piece in ",;:" else "unknown", piece))
            continue
        start = 0
        while start < len(words):
            count, entries, certainty = _longest(words, start, lookup)
            source = " ".join(words[start : start + count])
            tokens += [Token(entry.english, entry.kind, source) for entry in entries]
            known = known or (certainty > 0 and any(entry.kind in CONTENT for entry in entries))
            covered += certainty * (count if len(source) > 1 else 0.5)
            start += count
    return tokens, covered if known else 0.0


def _pieces(text: str) -> list[str]:
    """Runs of words, commas, and runs of anything else, such as emoji."""
    return re.findall(r"[\w\s'’ʼ&-]+|[,;:]|[^\w\s'’ʼ&,;:.!?\"()\[\]…-]+", text)


def _longest(words: Sequence[str], start: int, lookup: Language) -> tuple[int, list[Entry], float]:
    for count in range(min(MAX_PHRASE_WORDS, len(words) - start), 0, -1):
        found = lookup.find(words[start : start + count])
        if found:
            return count, [found[0]], found[1]
    word = words[start]
    if lookup.code in COMPOUND_LANGUAGES and (parts := _compound(word, lookup)):
        return 1, parts, CERTAINTY_OF_A_COMPOUND
    return 1, [Entry(word, "unknown")], 0.0


def _compound(word: str, lookup: Language) -> list[Entry] | None:
    """The two words that a word is made of: "Feuerdrache" is fire, dragon. A role comes after who plays it."""
    if len(word) < MIN_COMPOUND:
        return None
    for middle in range(MIN_PART, len(word) - MIN_PART + 1):
        last = lookup.find((word[middle:].lstrip("-"),))
        if last is None or last[0].kind not in ("name", "noun"):
            continue
        for link in COMPOUND_LINKS:
            first = lookup.words.get(word[:middle].rstrip("-").removesuffix(link)) if middle > len(link) else None
            if first and first.kind in ("name", "noun", "adj"):
                parts = [first, last[0]]
                return parts[::-1] if _HEAD_LAST_ROLES.search(first.english) else parts
    return None


def segments(text: str, code: str) -> list[Token]:
    """The words of a text without spaces: those of the fewest unknown characters, then the fewest words.

    In Korean a word of the text is one or more of the table's, or words of the text are one of the table's.
    """
    lookup, folded = language(code), fold(text, code)
    if code != "ko":
        return [token for piece in _runs(folded) for token in _fewest(piece, lookup)]
    tokens: list[Token] = []
    words = re.findall(r"[^\s,.!?]+|,", folded)
    while words:
        for count in range(min(MAX_PHRASE_WORDS, len(words)), 0, -1):
            found = _fewest(" ".join(words[:count]), lookup)
            if count == 1 or (found[0].kind != "unknown" and " " in found[0].source and _all_known(found)):
                tokens += found if _all_known(found) or len(found) == 1 else [Token(words[0], "unknown", words[0])]
                del words[:count]
                break
    return tokens


def _all_known(tokens: Sequence[Token]) -> bool:
    return all(token.kind != "unknown" for token in tokens)


def _runs(text: str) -> list[str]:
    """Runs of Latin letters and digits, of emoji, and of the rest without its spaces and stops."""
    return re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*(?=[^a-z0-9]|$)|[,、，]|[^\s,、，。.!！?？~「」『』a-z0-9]+", text)


def _fewest(text: str, lookup: Language) -> list[Token]:
    """The segmentation of `text` of the lowest cost: 1 a word, more for each unknown character."""
    costs: list[tuple[float, int, Token | None]] = [(0.0, 0, None)]
    for end in range(1, len(text) + 1):
        unknown = costs[end - 1][0] + 4.0
        best: tuple[float, int, Token | None] = (unknown, end - 1, Token(text[end - 1], "unknown", text[end - 1]))
        for start in range(max(0, end - lookup.longest), end):
            word = text[start:end]
            entry = lookup.words.get(word)
            if entry and (cost := costs[start][0] + _cost(word, entry)) < best[0]:
                best = cost, start, Token(entry.english, entry.kind, word)
        costs.append(best)
    tokens: list[Token] = []
    end = len(text)
    while end:
        _, start, token = costs[end]
        assert token is not None
        if tokens and token.kind == tokens[-1].kind == "unknown":
            token = Token(*(token.english + tokens[-1].english, "unknown", token.source + tokens.pop().source))
        tokens.append(token)
        end = start
    return tokens[::-1]


def _cost(word: str, entry: Entry) -> float:
    """The cost of a word in a segmentation. A character alone and a person's activity are less likely than others.

    "骑自行车的熊" is no bear with a person biking.
    """
    return 1.0 + (0.3 if len(word) == 1 else 0.0) + (1.5 if _ACTIVITY.match(entry.english) else 0.0)


def _english_words(words: Sequence[str]) -> list[bool]:
    """Which of the words are English."""
    known = _english()
    flags: list[bool] = []
    while len(flags) < len(words):
        start = len(flags)
        for length in range(min(MAX_ENGLISH_PHRASE, len(words) - start), 0, -1):
            phrase = " ".join(words[start : start + length])
            if phrase in known and phrase not in NOT_ENGLISH:
                flags += [True] * length
                break
        else:
            word = words[start].removesuffix("'s").replace("'", "")
            flags.append(word not in NOT_ENGLISH and (word in known or stem(word) in known or word.isdigit()))
    return flags


@cache
def _english() -> frozenset[str]:
    """The English phrases and words: of the reader's tables, the prompt's words, and the labels with their synonyms."""
    phrases: set[str] = set()
    for path in (*(TABLES / name for name in ENGLISH_TABLES), *WORD_FILES):
        phrases.update(_FIRST_CELL.findall(path.read_text("utf-8").lower()))
    # Most phrases are letters, digits and spaces alone, and their words are joined as they are: a cold start is faster.
    others = {phrase for phrase in phrases if not phrase.replace(" ", "").isalnum()}
    return frozenset(phrases - others | {" ".join(_WORD.findall(phrase)) for phrase in others})
