"""The words of other languages: `tables/languages/*.tsv`, each read when a prompt first needs its language.

`XX.tsv` has the names of emoji (made by `genmoji scrape languages`), `everyday.tsv` the names that those lack, and
`words.tsv` the small words, with what kind of word each is:

    adj, state, verb    happy; sleeping; eating, which takes an object
    prep, of, to        with; "of" and "to", whose English depends on what follows
    noun, number        a thing that is no emoji; two
    and, or, as         between nouns
    drop                articles, pronouns, requests: not translated
    obj, subj, loc, pos, de    Japanese, Korean and Chinese particles; so are with and without there

Words are looked up without accents and, in languages with endings, without the ending too: "roter", "rote" and "rotes"
have one entry.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "tables" / "languages"

# The languages, those with a script of their own apart. Of languages that cover a prompt equally the first is taken.
LATIN = ("de", "es", "fr", "it", "pt", "nl", "sv", "da", "nb", "pl")
CYRILLIC = ("ru", "uk")
UNSPACED = ("ja", "ko", "zh")

TAGS = "# Tags"
"""The line of a language's table that the tags follow."""

NAME = "name"
"""The kind of the words whose English is an emoji's label."""

PHRASE = "phrase"
"""The kind of the nouns whose English has its preposition: "at the beach"."""

PHRASE_STARTS = ("at ", "in ")
WITHOUT_PREPOSITION = frozenset(("in love",))

PLURALS = ("s", "es", "n", "en", "x")
JOINING = frozenset(("drop", "prep", "of", "to", "and"))
"""The kinds of the words that start no phrase with another ending: "con gelato" is no "coni gelato"."""

CERTAINTY_OF_A_STEM = 0.8
MIN_STEM = 3
MAX_PHRASE_WORDS = 5

# What a word may end in, longest first, and what stands in its stem instead.
_SLAVIC = (
    "ами ями ими ыми ого его ому ему ою ею ой ей ом ем ам ям ах ях ая яя ое ее ые ие ый ий ую юю ых их ым им ов ев ів "
    "ій ої а я о е у ю ы и і ї ь й"
)
ENDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    language: tuple((ending, replacement) for ending, _, replacement in (rule.partition("=") for rule in rules.split()))
    for language, rules in {
        "de": "chen lein ern en er es em n e s",
        "es": "ecitos ecitas citos citas itos itas cito cita ito ita ces=z es os as o a e s",
        "fr": "eaux=eau aux=al euses=eux euse=eux elles=el elle=el es e s x",
        "it": "etti ette etto etta ini ine ino ina hi he i o e a",
        "pt": "oes=ao aes=ao ais=al inhos inhas inho inha es os as o a e s",
        "nl": "tjes tje jes je en e s",
        "sv": "orna arna erna ar or er en et na a t n e",
        "da": "erne ene er en et e t n",
        "nb": "ene er en et a e t n",
        "pl": "ami ach owi ego emu ymi ych iem em om ie ow a e i o u y",
        "ru": _SLAVIC,
        "uk": _SLAVIC,
    }.items()
}
DOUBLED_AT_ENDINGS = frozenset(("de", "nl", "sv", "da", "nb"))
"""The languages that double a letter before an ending: "kat", "katten"."""
DOUBLED = re.compile(r"([bdfgklmnprst])\1$")

# Articles and prepositions that lose their vowel and are written with the next word: "l'", "d'", "dell'".
ELIDED = re.compile(r"^((?:l|d|qu|s|j|n|m|t|c|un|dell|all|nell|sull|dall|quell)')(?=\w)")
WORD = re.compile(r"'n\b|[^\W_]+(?:['’-][^\W_]+)*'?|&")
LETTERS = str.maketrans({"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "ё": "е", "’": "'", "ʼ": "'", "đ": "d"})
KEPT = frozenset("йїñ")
"""Letters of their own, though Unicode has them as a letter and a mark: "moño" is no "mono"."""

KATAKANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
TRADITIONAL = str.maketrans(
    "貓鳥魚馬龍豬雞鴨鵝貝獅長頸鹿羅烏龜鯊鯨蝦蟲蜂蝸蘋紅黃藍綠橙紫銀飛開車電腦機間陽鏡帽圍條隻個兩雙頭騎著戴衛視樂彈讀書寫畫歡傷憤驚"
    "睏愛戀誕聖節禮氣鐘錶筆國會場門風雲雨雪電鬼魂屍醫師護農員隊業學藝術麵飯餅乾湯餃酒茶啡糖蛋奶冰淇淋塊顆鑽戒劍槍棒鑰匙燈傘"
    "熱葉樹蘭蓮麥邊裡這還後來東經過給說話對發點無見買賣連遊歲絲綢緞鬍鬚髮臉滿滾熊貓恐",
    "猫鸟鱼马龙猪鸡鸭鹅贝狮长颈鹿罗乌龟鲨鲸虾虫蜂蜗苹红黄蓝绿橙紫银飞开车电脑机间阳镜帽围条只个两双头骑着戴卫视乐弹读书写画欢伤愤惊"
    "困爱恋诞圣节礼气钟表笔国会场门风云雨雪电鬼魂尸医师护农员队业学艺术面饭饼干汤饺酒茶啡糖蛋奶冰淇淋块颗钻戒剑枪棒钥匙灯伞"
    "热叶树兰莲麦边里这还后来东经过给说话对发点无见买卖连游岁丝绸缎胡须发脸满滚熊猫恐",
)


class Entry(NamedTuple):
    """What a word of another language is in English, and what kind of word it is."""

    english: str
    kind: str


class Language:
    """The words of one language. `words` has them as they are folded, `stems` without their endings."""

    def __init__(self, code: str):
        self.code = code
        self.words: dict[str, Entry] = {}
        self.stems: dict[str, Entry] = {}
        # Small words win over everyday names, and these over emojibase's.
        self._add([*_shared("words.tsv").get(code, ()), *_shared("everyday.tsv").get(code, ())])
        names, tags = _emojibase(code)
        self._add(names)
        self.names = frozenset(self.words)
        self._add(tags)
        for key in [key for key in self.words if "ñ" in key]:
            self.words.setdefault(key.replace("ñ", "n"), self.words[key])
        self.longest = max(map(len, self.words))
        if code not in UNSPACED:
            for key, entry in self.words.items():
                self.stems.setdefault(self.stem(key), entry)

    def _add(self, entries: Iterable[tuple[str, Entry]]) -> None:
        for word, entry in entries:
            if self.code in UNSPACED:
                key = fold(word, self.code)
                self.words.setdefault(key if self.code == "ko" else key.replace(" ", ""), entry)
                continue
            self.words.setdefault(" ".join(split(word)), entry)

    def stem(self, phrase: str) -> str:
        """`phrase` with each word's ending cut off."""
        return " ".join(self._stem(word) for word in phrase.split(" "))

    def _stem(self, word: str) -> str:
        for ending, replacement in ENDINGS[self.code]:
            if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM:
                word = word[: -len(ending)] + replacement
                break
        return DOUBLED.sub(r"\1", word) if self.code in DOUBLED_AT_ENDINGS else word

    def _singular(self, phrase: str) -> Entry | None:
        """The name that a tag is the plural of: "bougies" is on a cake, and are candles."""
        if phrase in self.names:
            return None
        for ending in PLURALS:
            if phrase.endswith(ending) and (singular := phrase.removesuffix(ending)) in self.names:
                return self.words[singular]
        return None

    def find(self, words: Sequence[str]) -> tuple[Entry, float] | None:
        """The entry of a phrase of folded words, and how sure it is: 1 as written, less by other endings."""
        phrase = " ".join(words)
        if entry := self._singular(phrase) or self.words.get(phrase):
            return entry, 1.0
        first = self.words.get(words[0])
        joins = len(words) > 1 and first is not None and first.kind in JOINING
        if not joins and len(phrase) > MIN_STEM and (entry := self.stems.get(self.stem(phrase))):
            return entry, CERTAINTY_OF_A_STEM
        for ending, replacement in () if joins else ENDINGS[self.code]:
            if phrase.endswith(ending) and (entry := self.words.get(phrase.removesuffix(ending) + replacement)):
                return entry, CERTAINTY_OF_A_STEM
        return None


@cache
def language(code: str) -> Language:
    """The words of a language, read once."""
    return Language(code)


@cache
def _shared(file: str) -> dict[str, list[tuple[str, Entry]]]:
    """The rows of `words.tsv` or `everyday.tsv` by language."""
    rows: dict[str, list[tuple[str, Entry]]] = {}
    for code, word, english, *kind in _rows(FOLDER / file):
        rows.setdefault(code, []).append((word, Entry(english, _kind(english, kind[0]) if kind else NAME)))
    return rows


def _emojibase(code: str) -> tuple[list[tuple[str, Entry]], list[tuple[str, Entry]]]:
    """The names and the tags of a language's table."""
    names, _, tags = (FOLDER / f"{code}.tsv").read_text("utf-8").partition(TAGS + "\n")
    first, second = (
        [(word, Entry(label, NAME)) for word, _, label in (line.partition("\t") for line in part.splitlines()) if label]
        for part in (names, tags)
    )
    return first, second


def _rows(path: Path) -> Iterator[list[str]]:
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            yield line.split("\t")


def _kind(english: str, kind: str) -> str:
    named = kind == "noun" and english.startswith(PHRASE_STARTS) and english not in WITHOUT_PREPOSITION
    return PHRASE if named else kind


def fold(text: str, code: str = "") -> str:
    """`text` in lower case without accents; Japanese in hiragana, Chinese in simplified characters."""
    text = text.lower()
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    if code == "ja":
        return text.translate(KATAKANA)
    if code == "zh":
        return text.translate(TRADITIONAL)
    if code == "ko":
        return text
    letters = (letter if letter in KEPT else _plain(letter) for letter in text.translate(LETTERS))
    return "".join(letters)


@cache
def _plain(letter: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFD", letter) if not unicodedata.combining(part))


def split(text: str) -> list[str]:
    """The folded words of a text in a language with spaces; elided articles are words: "l'", "arc"."""
    words = []
    for word in WORD.findall(fold(text)):
        while match := ELIDED.match(word):
            words.append(match[1])
            word = word[match.end() :]
        words.append(word)
    return words
