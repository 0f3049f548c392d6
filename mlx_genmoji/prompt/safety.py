"""Checks of a user's text before a model reads it: cleaning, the maximum length, and a few refused words.

The list of unsafe words is short on purpose: it refuses what nobody asks for by accident. A service that draws for
strangers needs moderation as well.

Every pattern here must take time linear in the text, for texts come from strangers.
"""

from __future__ import annotations

import re
import unicodedata

from ..errors import UserError
from .lexicon import emojis

MAX_CHARACTERS = 120

# Special tokens of language models and CLIP; the bars of some are full-width.
SPECIAL_TOKEN = re.compile(r"<[|｜].{0,80}?[|｜]>|</?[a-z_]{1,40}\d*>|<<?/?sys>>?|\[/?inst\]", re.IGNORECASE)
BARRED_TOKEN = re.compile(r"<[|｜].{0,80}?[|｜]>")
SPECIAL_REST = re.compile(r"<[|｜]|[|｜]>")

MAX_NESTED_TOKENS = 8

JOINERS = "\u200c\u200d"
# Flags of England and the like are spelled with invisible letters, which are allowed only in these flags.
TAG_FLAG = re.compile("(" + "|".join(sorted(emoji for emoji in emojis() if emoji.endswith("\U000e007f"))) + ")")
EMOJI_CHARACTERS = frozenset("".join(emojis())) - frozenset(map(chr, range(0xE0000, 0xE0080)))
"""Includes Unicode's newest emoji, which an older Python knows as unassigned."""

PERSON = (
    r"(?:\w*(?:m[ae]n|girls?|boys?|lad(?:y|ies)|person|people|kids?|guys?|dudes?|body|bodies|couples?"
    r"|moms?|dads?|m[ou]m|queens?|kings?|princess(?:es)?|princes?|mermaids?|students?|teachers?|nurses?|doctors?|humans?)"
    r"|(?>\w*?(?:child|bab\w|teen)\w*+))"
)
UNSAFE = re.compile(
    # Nudity and sex.
    r"\b(nudes?|nudity|nudists?|topless|undressed|striptease\w*|porn\w*|hentai|nsfw|sex|sexy|sexual\w*|erotic\w*"
    rf"|genitals?|penis(?:es)?|vaginas?|boobs?|titties|naked\s+(?:\w+\s+)?{PERSON}|{PERSON}\s+naked"
    r"|masturbat\w*|orgasm\w*|orgy|orgies|blow\s?jobs?|hand\s?jobs?|cumshots?|dildos?|bdsm|milfs?|threesomes?|onlyfans"
    # Violence against others and oneself.
    r"|rap(?:e|ed|es|ing|ists?)|p(?:a?e)do\w*|child abuse|behead\w*|decapitat\w*|dismember\w*|mutilat\w*|gore|gory"
    r"|suicid\w*|self.?harm\w*|kill (?:your|my|him|her)self|lynch\w*|tortur\w*|massacres?|genocides?|terrorist attack"
    r"|(?:mass|school) shoot(?:ing|er)s?"
    # Hatred: its symbols and slurs.
    r"|swastikas?|nazis?|hitler|heil|ku klux klan|kkk|white (?:power|suprem\w*)|nigg(?:er|a)s?|fagg?ots?|kikes?|spics?"
    r"|chinks?|gooks?|trann(?:y|ies)|wetbacks?|cunts?|retarded"
    # Nudity in some of the most frequent languages of prompts.
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
"""Harmless phrases that contain an unsafe word."""

# Letters of other scripts and signs that look like Latin letters -> these letters.
LOOKALIKES = str.maketrans("аеорсухіјѕԁһԛԝαεορυικτν0134@$5", "aeopcyxijsdhqwaeopuiktvoieaass")
# Three or more single letters with separators between them: "n u d e", "n_u_d_e".
SEPARATORS = r"[\s.\-_*·]"
LETTER = r"[^\W_](?![^\W_])"
SPACED_OUT = re.compile(rf"(?<!\w)_*+{LETTER}(?:{SEPARATORS}++{LETTER}){{2,}}_*+")


class UnsafePrompt(UserError):
    """The text asks for something that is refused."""


def clean(text: str, tokens: re.Pattern[str] = SPECIAL_TOKEN) -> str:
    """`text` in NFC on one line, without special `tokens`, control characters and other invisible characters."""
    kept = "".join(
        part
        if TAG_FLAG.fullmatch(part)
        else "".join(" " if char.isspace() else char for char in part if _is_visible(char))
        for part in TAG_FLAG.split(text)
    )
    text = " ".join(unicodedata.normalize("NFC", kept).split())
    # Without the inner one, tokens inside each other may leave another token. What is left of it goes with its bars.
    for _ in range(MAX_NESTED_TOKENS):
        text, count = tokens.subn(" ", text)
        if not count:
            break
    return " ".join(SPECIAL_REST.sub(" ", text).split())


def clean_final(text: str) -> str:
    """`text` cleaned for a drawing model. Keeps words in angle brackets, which a caption template may have."""
    return clean(text, BARRED_TOKEN)


def check_safe(text: str) -> None:
    """Raise UnsafePrompt if `text` asks for something that is refused."""
    if found := unsafe(text):
        raise UnsafePrompt(f"This is not drawn: {found!r} is among the words that are refused; ask for another.")


def unsafe(text: str) -> str | None:
    """The first refused phrase in `text`, or None. Finds spaced-out letters and look-alike letters as well."""
    marked = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(char for char in marked if unicodedata.category(char) not in ("Mn", "Cf"))
    joined = SPACED_OUT.sub(lambda letters: re.sub(SEPARATORS, "", letters[0]), plain)
    folded = re.sub(r"\S+", _folded, joined)
    for reading in (unicodedata.normalize("NFKC", text), joined, folded):
        if found := UNSAFE.search(SAFE.sub(" ", reading)):
            return found[0]
    return None


def _folded(word: re.Match[str]) -> str:
    """A word with its look-alikes as Latin letters; a number stays a number."""
    return word[0].translate(LOOKALIKES) if re.search(r"[^\W\d]", word[0]) else word[0]


def is_latin(text: str) -> bool:
    """Whether every letter is of the Latin script, which the models were trained to read."""
    return all(unicodedata.name(char, "").startswith("LATIN") for char in text if char.isalpha())


def plain_words(text: str) -> str:
    """`text` without all but letters, marks, digits and the punctuation of a sentence, for a language model.

    No model's special token can be spelled with these.
    """
    plain = "".join(char if unicodedata.category(char)[0] in "LMN" or char in "'-,. " else " " for char in text)
    return " ".join(plain.split())


def _is_visible(char: str) -> bool:
    # Emoji that are newer than Python's tables are in blocks that Unicode keeps for pictographs.
    known = char.isspace() or char in JOINERS or char in EMOJI_CHARACTERS or "\U0001f000" <= char <= "\U0001faff"
    return known or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
