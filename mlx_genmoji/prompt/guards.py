"""What stands between a user's text and the models: cleaning, a limit of length, a few words that are refused.

The list of unsafe words is short on purpose. It stops what nobody asks for by accident; it is no moderation, which a
service that draws for strangers needs besides.
"""

from __future__ import annotations

import re
import unicodedata

from ..errors import UserError
from .lexicon import emojis

MAX_CHARACTERS = 120

# As language models and CLIP spell their own marks; the bars of some are full-width.
SPECIAL_TOKEN = re.compile(r"<[|｜].{0,80}?[|｜]>|</?[a-z_]{1,40}\d*>|<<?/?sys>>?|\[/?inst\]", re.IGNORECASE)
BARRED_TOKEN = re.compile(r"<[|｜].{0,80}?[|｜]>")
SPECIAL_REST = re.compile(r"<[|｜]|[|｜]>")

JOINERS = "\u200c\u200d"
# Flags of England and the like are spelled with invisible letters, which are kept in these and nowhere else.
TAG_FLAG = re.compile("(" + "|".join(sorted(emoji for emoji in emojis() if emoji.endswith("\U000e007f"))) + ")")
EMOJI_CHARACTERS = frozenset("".join(emojis())) - frozenset(map(chr, range(0xE0000, 0xE0080)))
"""Unicode's newest among them, which an older Python knows as unassigned."""

UNSAFE = re.compile(
    r"\b(nude|nudes|nudity|topless|porn\w*|hentai|nsfw|sex|sexual\w*|erotic\w*|genitals?|penis|vagina|masturbat\w*"
    r"|naked (?:man|men|woman|women|girls?|boys?|child\w*|kids?|bab\w+|person|people|body)|rap(?:e|ed|es|ing|ist)"
    r"|p(?:a?e)do\w*|child abuse|behead\w*|decapitat\w*|dismember\w*|mutilat\w*|gore|gory|suicid\w*|self.?harm\w*"
    r"|lynch\w*|swastikas?|nazis?|hitler|white power|terrorist attack|mass shooting|school shooting)\b",
    re.IGNORECASE,
)


class UnsafePrompt(UserError):
    """A request that is refused, before or after the language model."""


def clean(text: str, tokens: re.Pattern[str] = SPECIAL_TOKEN) -> str:
    """`text` in NFC on one line, without special `tokens`, control and other invisible characters."""
    kept = "".join(
        part
        if TAG_FLAG.fullmatch(part)
        else "".join(" " if char.isspace() else char for char in part if _is_visible(char))
        for part in TAG_FLAG.split(text)
    )
    text = " ".join(unicodedata.normalize("NFC", kept).split())
    # What is taken out may join what stood around it into another token.
    while tokens.search(text):
        text = tokens.sub(" ", text)
    return " ".join(SPECIAL_REST.sub(" ", text).split())


def clean_final(text: str) -> str:
    """`text` as a drawing model may read it; words in angle brackets, which a caption template may have, stay."""
    return clean(text, BARRED_TOKEN)


def check_safe(text: str) -> None:
    """Raise UnsafePrompt where `text` asks for what is refused."""
    if found := UNSAFE.search(unicodedata.normalize("NFKC", text)):
        raise UnsafePrompt(f"This is not drawn: {found[0]!r} is among the words that are refused; ask for another.")


def is_latin(text: str) -> bool:
    """Whether every letter is of the Latin script, which is what the models were trained to read."""
    return all(unicodedata.name(char, "").startswith("LATIN") for char in text if char.isalpha())


def plain_words(text: str) -> str:
    """What a language model is shown of a text: letters, marks, digits, spaces and the signs inside a sentence.

    No model's special token can be spelled with these.
    """
    shown = "".join(char if unicodedata.category(char)[0] in "LMN" or char in "'-,. " else " " for char in text)
    return " ".join(shown.split())


def _is_visible(char: str) -> bool:
    known = char.isspace() or char in JOINERS or char in EMOJI_CHARACTERS
    return known or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
