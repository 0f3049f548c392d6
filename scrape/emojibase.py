"""Reads emojibase-data: the names, tags, groups and skin tones of all emoji.

Emoji are found by `key`, which is the same for all spellings of a sequence (case, FE0F, leading zeros).
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_genmoji.prompt.lexicon import SKIN_TONES

from .errors import ScrapeError
from .packages import Package

PACKAGE = Package("emojibase-data", "17.0.0", ("en/data.json", "meta/groups.json"))

# A hexcode becomes a file name, so each one is checked.
HEXCODE = re.compile(r"[0-9A-F]+(-[0-9A-F]+)*")

GENDER_SIGNS = {"2640": "woman", "2642": "man"}

FIRST_CODE_POINTS = {
    "1F466": "boy",
    "1F467": "girl",
    "1F468": "man",
    "1F469": "woman",
    "1F474": "old man",
    "1F475": "old woman",
    "1F476": "baby",
    "1F9D1": "person",
    "1F9D2": "child",
    "1F9D3": "old person",
    # Roles whose name in Unicode fixes the person.
    "1F385": "man",
    "1F478": "woman",
    "1F47C": "baby",
    "1F483": "woman",
    "1F57A": "man",
    "1F930": "woman",
    "1F931": "woman",
    "1F934": "man",
    "1F936": "woman",
    "1F9D5": "woman",
    "1FAC3": "man",
}

GENDERED = frozenset(("1F466", "1F467", "1F468", "1F469", *GENDER_SIGNS))

PERSON_SUBGROUPS = frozenset(
    f"person{suffix}" for suffix in ("", "-gesture", "-role", "-fantasy", "-activity", "-sport", "-resting")
)

NOT_ONE_PERSON = {
    "1F46F": "people with bunny ears",
    "1F93C": "people wrestling",
    "1F9CC": "troll",
    "1FAC8": "hairy creature",
}

ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-"})


@dataclass(frozen=True)
class Emoji:
    """One emoji, with or without skin tones. order: its position in Unicode's list; the other fields are a row's."""

    order: int
    label: str
    emoji: str
    hexcode: str
    base_hexcode: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    skin_tone: tuple[str, ...]
    person_type: str | None

    @property
    def neutrality(self) -> tuple[int, int, int]:
        """A sort key, smallest for the most neutral emoji: gender signs, then skin tones, then position in the list."""
        gendered = sum(part in GENDERED for part in self.hexcode.split("-"))
        return gendered, len(self.skin_tone), self.order

    @property
    def text(self) -> str:
        """The caption: the label, and the skin tones in words."""
        if not self.skin_tone:
            return self.label
        return f"{self.label}, {' and '.join(self.skin_tone)} skin tone{'s' if len(self.skin_tone) > 1 else ''}"

    def fields(self) -> dict[str, Any]:
        """Its columns in a dataset's row."""
        return {
            "text": self.text,
            "label": self.label,
            "emoji": self.emoji,
            "hexcode": self.hexcode,
            "base_hexcode": self.base_hexcode,
            "tags": list(self.tags),
            "group": self.group,
            "subgroup": self.subgroup,
            "skin_tone": list(self.skin_tone),
            "person_type": self.person_type,
        }


def key(code_points: str) -> str:
    """The key of a sequence of code points: `1F468-200D-2695` for `1f468-200d-2695-fe0f`."""
    parts = (part.lstrip("0") for part in re.split(r"[-_ ]", code_points.upper()))
    return "-".join(part for part in parts if part != "FE0F")


def read_emojis(path: Path | None = None) -> dict[str, Emoji]:
    """All emoji by key, also those with skin tones, from emojibase-data.

    path: a tarball or folder, None for npm's. Regional indicators, which emojibase gives no group, are left out.
    """
    files = PACKAGE.read(path)
    try:
        records = json.loads(files["en/data.json"])
        names = json.loads(files["meta/groups.json"])
        emojis = [emoji for record in records if "group" in record for emoji in _emojis(record, names)]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ScrapeError(f"{PACKAGE.spec} is not laid out as expected ({error!r}); fetch it again.") from error
    return {key(emoji.hexcode): emoji for emoji in emojis}


def _emojis(record: Mapping[str, Any], names: Mapping[str, Mapping[str, str]]) -> Iterable[Emoji]:
    subgroup = names["subgroups"][str(record["subgroup"])]
    for variant in (record, *record.get("skins", ())):
        tones = variant.get("tone", [])
        if not HEXCODE.fullmatch(variant["hexcode"]):
            raise ValueError(f"a hexcode of {variant['hexcode']!r}")
        yield Emoji(
            order=variant["order"],
            label=_plain(record["label"]),
            emoji=variant["emoji"],
            hexcode=variant["hexcode"],
            base_hexcode=record["hexcode"],
            tags=tuple(_plain(tag) for tag in record.get("tags", ())),
            group=names["groups"][str(record["group"])],
            subgroup=subgroup,
            skin_tone=tuple(SKIN_TONES[tone - 1] for tone in ([tones] if isinstance(tones, int) else tones)),
            person_type=_person_type(key(record["hexcode"]).split("-"), subgroup),
        )


def _person_type(code_points: list[str], subgroup: str) -> str | None:
    if subgroup not in PERSON_SUBGROUPS or code_points[0] in NOT_ONE_PERSON:
        return None
    signs = [GENDER_SIGNS[point] for point in code_points[1:] if point in GENDER_SIGNS]
    return signs[0] if signs else FIRST_CODE_POINTS.get(code_points[0], "person")


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFD", text.lower().translate(ASCII))
    return unicodedata.normalize("NFC", "".join(letter for letter in letters if not unicodedata.combining(letter)))
