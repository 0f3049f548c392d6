"""Other words for what emoji show: a dataset of the same pictures under the names that people also use.

A small text encoder knows the words of its captions alone. So that "hog" draws a pig, others come from five sources:
what people say where the rest misleads ("poop" is no plunger); what one says for a stiff label ("car" for automobile);
the words that WordNet has for the emoji's name, in the meaning that fits its group; those of its own tags that hardly
any other emoji has; and the kinds of that meaning ("poodle" for a dog).
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

# What a row of a synonym is told by.
COLUMN = "synonym_of"

# The file beside the rows that says which words mean which emoji; see `word_table`.
WORDS = "words.tsv"

# What the names of an emoji group mean in WordNet; a subgroup's own comes first.
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

# Files of what can be drawn.
DRAWN = frozenset(file for files in FILES.values() for file in files)

# What captions of compositions say of their parts.
CAPTION_WORDS = {
    *(word for kind in KINDS for phrase in (*kind.phrases, *sum(kind.more.values(), ())) for word in phrase.split()),
    *TARGETS,
    *EMOTIONS,
    *COUNTS,
    *ATTRIBUTES,
}

# Labels that are not the nouns that they look like.
SIGNS = {"construction"}

# How far a tag is; see `other_names`.
TAG = 3

# Names of one emoji, emoji that may share a tag, and meanings of a word that count, at most.
MOST, SHARED, RANKS = 40, 2, 3

MAX_WORDS, MAX_LETTERS = 3, 24


def synonyms(folders: Sequence[Path], output: Path, *, wordnet: Path | None = None) -> Report:
    """Make `output` a dataset of the emoji in `folders` under other names, one row each; skin tones are left out.

    A row has what every dataset's has, its `text` the other name, `synonym_of`, the emoji's own label, and `name`, what
    compositions call it. Beside the rows is `words.tsv`, which a model takes along. `wordnet`: a tarball or folder of
    its npm package. Raises ScrapeError for what its user can put right.
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
    """How near a word is to an emoji, and whether that is what the word means in any sentence."""

    distance: float
    certain: bool


def other_names(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, list[str]]:
    """Of each label the names that it alone has beside its own, the nearest first, `MOST` of them.

    Where several labels could have a word, the nearest has it: what one says before synonyms, these before direct
    kinds, tags, and kinds of kinds; the more usual a meaning is for a word, the nearer.
    """
    return {label: list(claims) for label, claims in _nearest(rows, wordnet).items()}


def word_table(rows: Sequence[Mapping[str, Any]], wordnet: WordNet) -> str:
    """What a model of these rows knows words by: lines of a word or phrase, the label of the emoji that is meant where
    nothing else is said, and what to say for it in a longer text; without this where it may mean something else there,
    and nothing of both for a label. Tab-separated, in the words' order.
    """
    table = {row["label"].lower(): (row["label"].lower(),) * 2 for row in rows}
    # Of two looks of a thing the one with the shorter label is meant.
    for label, claims in sorted(_nearest(rows, wordnet).items(), key=lambda item: (len(item[0]), item[0])):
        name = name_of(label)
        for word, claim in claims.items():
            if word == plural(name) or _is_coloured(word, name):
                continue
            certain = word == name or (claim.certain and word not in CAPTION_WORDS and not wordnet.is_modifier(word))
            table.setdefault(word, (label, name if certain else ""))
            if certain and name not in UNCOUNTED and (more := several(word)):
                table.setdefault(more, (plural(name), plural(name)))
    lines = [(word, *(() if (word, word) == meant else filter(None, meant))) for word, meant in sorted(table.items())]
    return "".join("\t".join(line) + "\n" for line in lines)


# How words end that have no plural by rule; and what ends so and has one.
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
    """What more than one is called; None where the phrase is a plural already, or may be one."""
    if re.search(r"[^sui]s$", phrase):
        return None
    if not REGULAR.search(phrase):
        for one, several in IRREGULAR.items():
            if phrase.endswith(one):
                return phrase.removesuffix(one) + several
    return plural(phrase)


def _nearest(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, dict[str, Claim]]:
    """Of each label the `MOST` nearest words that are its own, the nearest first."""
    found: dict[str, dict[str, Claim]] = defaultdict(dict)
    for word, claims in _claims(rows, wordnet).items():
        for label, claim in claims.items():
            found[label][word] = claim
    return {
        label: dict(sorted(words.items(), key=lambda item: item[1].distance)[:MOST]) for label, words in found.items()
    }


def _claims(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, dict[str, Claim]]:
    """Of each word that is no label those that it is nearest to: one, two looks of a thing, or sharers of a tag."""
    labels: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        labels.setdefault(row["label"], row)
    tagged = Counter(tag for row in labels.values() for tag in row.get("tags") or [])
    claims: dict[str, dict[str, Claim]] = defaultdict(dict)

    def claim(word: str, label: str, distance: float, certain: bool) -> None:
        if _sayable(word):
            claims[word.lower()].setdefault(label, Claim(distance, certain))

    for label, row in labels.items():
        for word, said in CALLED.items():
            if said == label:
                claim(word, label, -2, True)
        claim(name_of(label), label, -1, True)
        tags = row.get("tags") or []
        meaning = _meaning(label, row, wordnet)
        if meaning is not None:
            for depth, kind in [(0, meaning), *wordnet.kinds(meaning)]:
                for word in kind.words if kind.file in DRAWN else ():
                    if not _is_latin(word) and (rank := _rank(word, kind, wordnet)) < RANKS:
                        # A word that is a tag too is meant so today.
                        near = 1 if word in tags else 0
                        distance = (1 if depth == 0 else 2 if depth == 1 else TAG + depth) + rank / 4 - near
                        claim(word, label, distance, rank == 0)
        for tag in tags:
            if tagged[tag] <= SHARED:
                claim(tag, label, TAG, False)
    own = {label.lower() for label in labels}
    found: dict[str, dict[str, Claim]] = {}
    for word, claimed in claims.items():
        least = min(claim.distance for claim in claimed.values())
        nearest = {label: claim for label, claim in claimed.items() if claim.distance == least}
        if word not in own and (least == TAG or len({name_of(label) for label in nearest}) == 1):
            found[word] = nearest
    return found


def _meaning(label: str, row: Mapping[str, Any], wordnet: WordNet) -> Meaning | None:
    """What the label means: the most usual of its meanings that fits the emoji's subgroup or group."""
    files = FILES.get(row.get("subgroup") or "") or FILES.get(row.get("group") or "", ())
    for word in dict.fromkeys((label, name_of(label))) if label not in SIGNS else ():
        for meaning in wordnet.meanings(word):
            if meaning.file in files:
                return meaning
    return None


def _rank(word: str, meaning: Meaning, wordnet: WordNet) -> int:
    """How many meanings that can be drawn are more usual for the word; what it calls people by is not counted."""
    drawn = DRAWN if meaning.file == PERSON else DRAWN - {PERSON}
    return [other for other in wordnet.meanings(word) if other.file in drawn].index(meaning)


def _is_latin(word: str) -> bool:
    """Whether it is a species' name, as "Canis familiaris" is."""
    first, _, rest = word.partition(" ")
    return bool(rest) and first[0].isupper() and rest.islower()


def _is_coloured(word: str, name: str) -> bool:
    """Whether it says of the thing what compositions can say of anything: a blue whale, a happy face."""
    before = word.removesuffix(f" {name}")
    return before != word and set(before.split()) <= CAPTION_WORDS


def _sayable(word: str) -> bool:
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
