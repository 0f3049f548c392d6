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

PERSON = (
    r"\w*(?:m[ae]n|girls?|boys?|lad(?:y|ies)|person|people|child\w*|kids?|bab\w+|guys?|dudes?|teen\w*|body|bodies|couples?"
    r"|moms?|dads?|m[ou]m|queens?|kings?|princess(?:es)?|princes?|mermaids?|students?|teachers?|nurses?|doctors?|humans?)"
)
UNSAFE = re.compile(
    # A person without clothes, and what is done without them.
    r"\b(nudes?|nudity|nudists?|topless|undressed|striptease\w*|porn\w*|hentai|nsfw|sex|sexy|sexual\w*|erotic\w*"
    rf"|genitals?|penis(?:es)?|vaginas?|boobs?|titties|naked\s+(?:\w+\s+)?{PERSON}|{PERSON}\s+naked"
    r"|masturbat\w*|orgasm\w*|orgy|orgies|blow\s?jobs?|hand\s?jobs?|cumshots?|dildos?|bdsm|milfs?|threesomes?|onlyfans"
    # Violence, against others and oneself.
    r"|rap(?:e|ed|es|ing|ists?)|p(?:a?e)do\w*|child abuse|behead\w*|decapitat\w*|dismember\w*|mutilat\w*|gore|gory"
    r"|suicid\w*|self.?harm\w*|kill (?:your|my|him|her)self|lynch\w*|tortur\w*|massacres?|genocides?|terrorist attack"
    r"|(?:mass|school) shoot(?:ing|er)s?"
    # Hatred: its signs and its names for others.
    r"|swastikas?|nazis?|hitler|heil|ku klux klan|kkk|white (?:power|suprem\w*)|nigg(?:er|a)s?|fagg?ots?|kikes?|spics?"
    r"|chinks?|gooks?|trann(?:y|ies)|wetbacks?|cunts?|retarded"
    # The first of these in some of the languages that are asked in most.
    r"|desnud[oa]s?|sexo|femmes? nues?|hommes? nus?|sexe|nackte?[rnsm]?|hakenkreuz\w*|nud[oaei]"
    r"|обнаж\w*|гол(?:ая|ый|ые|ой)|порно\w*|секс|свастик\w*)\b"
    r"|卐|裸(?!足|眼)|色情|ヌード|ポルノ|나체|누드|포르노|عارية|إباحي",
    re.IGNORECASE,
)
SAFE = re.compile(
    r"\b(same.sex (?:couples?|marriages?|weddings?|famil\w+|parents|love)|sex ed(?:ucation)?|gore.?tex"
    r"|nude (?:lipsticks?|heels|shoes|pumps|nails?|nail polish|make.?up|shades?|colou?rs?|tones?|palette)"
    r"|suicide (?:squad|prevention|hotline)|anti.?nazi)\b",
    re.IGNORECASE,
)
"""What has such a word in it and means no such thing."""

# Letters of other scripts that look like Latin ones, and signs that stand for them.
LOOKALIKES = str.maketrans("аеорсухіјѕԁһԛԝαεορυικτν0134@$5", "aeopcyxijsdhqwaeopuiktvoieaass")
SPACED_OUT = re.compile(r"\b\w(?:[\s.\-_*·]+\w){2,}\b")


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
    if found := unsafe(text):
        raise UnsafePrompt(f"This is not drawn: {found!r} is among the words that are refused; ask for another.")


def unsafe(text: str) -> str | None:
    """What in `text` is refused, None for nothing; also where letters are spaced out or look like others."""
    marked = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(char for char in marked if unicodedata.category(char) not in ("Mn", "Cf"))
    joined = SPACED_OUT.sub(lambda letters: re.sub(r"[\s.\-_*·]", "", letters[0]), plain)
    # Digits are letters where they stand beside some.
    folded = re.sub(r"\S*[^\W\d]\S*", lambda word: word[0].translate(LOOKALIKES), joined)
    for reading in (unicodedata.normalize("NFKC", text), joined, folded):
        if found := UNSAFE.search(SAFE.sub(" ", reading)):
            return found[0]
    return None


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
