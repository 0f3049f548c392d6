"""Makes the tables of emoji's names in other languages, which the reader of prompts takes: `XX.tsv`, one per language.

A line is a name or tag in that language, and the English label of its emoji. Names come first, then tags: those of one
animal, plant, food, place, thing or role, and those of many emoji of which one is the plain thing ("Katze", which is on
the cat and on eleven faces of cats, is the cat). Of a tag that names many different things no line is made.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlx_genmoji.files import write_text
from mlx_genmoji.reader.language_tables import TAGS

from .dataset import cannot_write
from .emojibase import PACKAGE as ENGLISH
from .emojibase import Emoji, key, read_emojis
from .errors import ScrapeError
from .inputs import read_dataset
from .packages import Package

# The languages with tags, and those with names and the tags that name a plain thing.
WITH_TAGS = ("de", "es", "fr", "it", "ja", "ko", "pt", "zh")
NAMES_ONLY = ("da", "nb", "nl", "pl", "ru", "sv", "uk")
LANGUAGES = tuple(sorted((*WITH_TAGS, *NAMES_ONLY)))

PACKAGE = Package(ENGLISH.name, ENGLISH.version, tuple(f"{language}/data.json" for language in LANGUAGES))

MAX_EMOJI_OF_A_PLAIN_TAG = 30
"""So many emoji a tag may have of which one is the plain thing that the others show too."""

MAX_WORDS, MAX_WORDS_OF_A_TAG = 4, 2
MAX_CHARACTERS, MAX_CHARACTERS_OF_A_TAG = 26, 16
"""Longer names and tags are sentences that nobody types."""

# Emoji whose full name nobody types: clocks, keys, families, buttons, arrows, signs and variants of other emoji.
NOT_NAMED = re.compile(
    r"o'clock$|-thirty$|^keycap|: |button|square|large .*diamond|small .*diamond|^circled|arrow|^japanese \"|triangle|"
    r"kneeling|cartwheel|gesturing|tipping|steamy|handball|water polo|massage|haircut|wheelchair|white cane|bunny ears|"
    r"^(?:input|no|non|baggage|customs|passport) |mailbox|mark$|white flag|moon face|gibbous|waning|waxing|"
    r"quarter moon|index pointing|wards hand|circle|letters|symbol|ball with|tray|card index|folder|"
    r"^(?:man|woman) (?:frowning|pouting|shrugging|facepalming|bowing|bouncing|lifting|biking|mountain|rowing|golfing)"
)
WORD = re.compile(r"\w")

# The groups and subgroups whose tags name the emoji; those of faces, gestures and signs say what they mean.
TAGS_ARE_NAMES = frozenset(
    "animals-nature food-drink travel-places activities objects body-parts person-role person-fantasy heart emotion"
    " face-costume clothing".split()
)


class Row(NamedTuple):
    """A line of a table."""

    name: str
    label: str


def languages(datasets: Sequence[Path], output: Path, *, package: Path | None = None) -> str:
    """Write `XX.tsv` of each language into the folder `output`, and return a line that counts what was written.

    datasets: the image sets that a model is trained on; names of emoji that none of them has are left out.
    package: a tarball or folder of emojibase-data, None for npm's.
    Raises ScrapeError for a package of another layout and a folder that cannot be written.
    """
    drawn = frozenset(str(row["label"]) for folder in datasets for row in read_dataset(folder) if row.get("label"))
    emojis = read_emojis(package)
    files = PACKAGE.read(package)
    counts = {}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for language in LANGUAGES:
            records = json.loads(files[f"{language}/data.json"])
            names, tags = rows_of(records, emojis, drawn, with_tags=language in WITH_TAGS)
            write_text(output / f"{language}.tsv", table(language, names, tags))
            counts[language] = len(names) + len(tags)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScrapeError(f"{PACKAGE.spec} is not laid out as expected ({error!r}); fetch it again.") from error
    except OSError as error:
        raise cannot_write(output, error) from error
    return f"{sum(counts.values())} names in {len(counts)} languages: {output}"


def rows_of(
    records: Sequence[Mapping[str, Any]], emojis: Mapping[str, Emoji], drawn: frozenset[str], *, with_tags: bool
) -> tuple[list[Row], list[Row]]:
    """The lines of one language: its names, and its tags, each in order.

    records: emojibase's, in that language; emojis: the English ones by key; drawn: the labels to keep.
    with_tags: False keeps of the tags only those of a plain thing.
    """
    names: dict[str, str] = {}
    tagged: defaultdict[str, list[Emoji]] = defaultdict(list)
    for record in records:
        emoji = emojis.get(key(record["hexcode"]))
        if emoji is None or emoji.label not in drawn or not is_named(emoji):
            continue
        if usable(name := plain(record.get("label", "")), MAX_WORDS if with_tags else MAX_WORDS - 1):
            names.setdefault(name, emoji.label)
        for tag in dict.fromkeys(map(plain, record.get("tags", ()))):
            tagged[tag].append(emoji)
    tags = []
    for tag, candidates in sorted(tagged.items()):
        if tag in names or not usable(tag, MAX_WORDS_OF_A_TAG, MAX_CHARACTERS_OF_A_TAG):
            continue
        thing = candidates[0] if len(candidates) == 1 and with_tags else plain_thing(candidates)
        if thing is not None and not TAGS_ARE_NAMES.isdisjoint((thing.group, thing.subgroup)):
            tags.append(Row(tag, thing.label))
    return sorted(Row(name, label) for name, label in names.items()), tags


def table(language: str, names: Iterable[Row], tags: Iterable[Row]) -> str:
    """The text of a language's table."""
    lines = [f"# Names of emoji ({language}) from {PACKAGE.spec} (MIT), made by `genmoji scrape languages`."]
    lines += ["\t".join(row) for row in names]
    lines += [TAGS, *("\t".join(row) for row in tags)]
    return "\n".join(lines) + "\n"


def plain_thing(candidates: Sequence[Emoji]) -> Emoji | None:
    """The emoji whose label is in the labels or tags of all candidates, at least three; None if there is none."""
    if not 3 <= len(candidates) <= MAX_EMOJI_OF_A_PLAIN_TAG:
        return None
    for emoji in sorted(candidates, key=lambda emoji: (len(emoji.label), emoji.order)):
        word = re.compile(rf"\b{re.escape(emoji.label)}\b")
        if all(word.search(" | ".join((other.label, *other.tags))) for other in candidates):
            return emoji
    return None


def is_named(emoji: Emoji) -> bool:
    """Whether people type the name of `emoji`: not of a clock, an arrow or a sign."""
    sign = emoji.group == "symbols" and emoji.subgroup not in ("zodiac", "religion")
    return not sign and not NOT_NAMED.search(emoji.label)


def plain(text: str) -> str:
    """`text` as the tables have it: lower case, composed (NFC), straight apostrophes, single spaces."""
    text = unicodedata.normalize("NFC", text.lower().replace("’", "'").replace("\u00a0", " "))
    return " ".join(text.split())


def usable(name: str, max_words: int = MAX_WORDS, max_characters: int = MAX_CHARACTERS) -> bool:
    """Whether somebody may type `name`, which is no sign, no single Latin letter and no sentence."""
    return (
        bool(WORD.search(name))
        and ":" not in name
        and len(name) <= max_characters
        and len(name.split()) <= max_words
        and not (len(name) == 1 and name.isascii())
    )
