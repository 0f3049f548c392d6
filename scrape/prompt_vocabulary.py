"""Makes the two tables that the prompt's rules read, from emojibase-data:

    python -m scrape.prompt_vocabulary mlx_genmoji/prompt

`emoji.tsv`: each emoji without its skin tone, its label, its kind, its person type, and its subgroup in Unicode.
`words.tsv`: each word of the labels and tags, and the kind of most of its emoji.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from .emojibase import Emoji, read_emojis

KINDS = {
    "person": "person.*|family",
    "animal": "animal.*|monkey-face|cat-face",
    "food": "food.*|drink",
    "plant": "plant.*",
    "vehicle": "transport-(ground|air|water)",
    "place": "place.*|hotel|sky-weather",
    "creature": "face-costume",
    "feeling": "face-.*|heart|emotion",
    "symbol": "transport-sign|warning|arrow|religion|zodiac|av-symbol|gender|math|punctuation|currency|other-symbol"
    "|keycap|alphanum|geometric|.*flag|skin-tone|hair-style",
}
OTHER = "thing"

# The votes of an emoji's label, of the noun in it, and of each tag for the kind of a word.
LABEL, HEAD, TAG = 100, 10, 1
AFTER_THE_NOUN = re.compile(r":| (?:with|in|of|on|and|wearing|holding) ")

# Words of tags that name no thing.
NO_NOUNS = frozenset(
    "and at back bad big bye cute do down front go good hello hi is it left little me my new nice no not of off ok okay"
    " old on out over pretty right small so the this to under up very what where with without yes you young".split()
)


def kind(emoji: Emoji) -> str:
    return next((name for name, subgroups in KINDS.items() if re.fullmatch(subgroups, emoji.subgroup)), OTHER)


def emoji_rows(emojis: Iterable[Emoji]) -> Iterator[str]:
    """The lines of `emoji.tsv`. An emoji with a skin tone has one only if no other has its characters without it."""
    seen = set()
    for emoji in emojis:
        characters = re.sub("[\U0001f3fb-\U0001f3ff]", "", emoji.emoji) or emoji.emoji
        if characters.replace("\ufe0f", "") not in seen:
            seen.add(characters.replace("\ufe0f", ""))
            yield "\t".join((characters, emoji.label, kind(emoji), emoji.person_type or "", emoji.subgroup))


def word_rows(emojis: Iterable[Emoji]) -> Iterator[str]:
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for emoji in emojis:
        if kind(emoji) == "symbol":
            continue
        words = re.findall(r"[a-z][a-z'-]+", emoji.label)
        votes[" ".join(words)][kind(emoji)] += LABEL
        if noun := re.findall(r"[a-z][a-z'-]+", AFTER_THE_NOUN.split(emoji.label)[0]):
            votes[noun[-1]][kind(emoji)] += HEAD
        # The tags of people are what they do or have ("day", "old", "hair").
        for tag in emoji.tags if kind(emoji) != "person" else ():
            if re.fullmatch(r"[a-z][a-z '-]+", tag):
                votes[tag][kind(emoji)] += TAG
    for word, kinds in sorted(votes.items()):
        if len(word.split()) <= 2 and word and word not in NO_NOUNS:
            yield f"{word}\t{kinds.most_common(1)[0][0]}"


def tables(path: Path | None = None) -> dict[str, str]:
    """The text of each table by its file's name; `path` is emojibase-data where it is not npm's."""
    emojis = sorted(read_emojis(path).values(), key=lambda emoji: (bool(emoji.skin_tone), emoji.order))
    rows = {"emoji.tsv": emoji_rows(emojis), "words.tsv": word_rows(emoji for emoji in emojis if not emoji.skin_tone)}
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in rows.items()}


if __name__ == "__main__":
    for name, text in tables().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
