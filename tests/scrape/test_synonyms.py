"""`genmoji scrape synonyms`: other words for emoji, from a small WordNet of the real one's layout."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import cli
from mlx_genmoji.pipeline import BUILTIN
from scrape import ScrapeError, synonyms
from scrape.synonyms import other_names, several, word_table
from scrape.wordnet import PACKAGE, WordNet

LICENSE = "  1 This software and database is being provided to you by Princeton University\n"
# Which words there are, and where their meanings are, the most usual first.
INDEX = "".join(
    f"{word} n {len(offsets)} 3 @ ~ + {len(offsets)} 0 {' '.join(f'{offset:08}' for offset in offsets)}\n"
    for word, offsets in {
        "auto": (5,),
        "bat": (1, 2, 3),
        "cab": (6,),
        "canis_familiaris": (4,),
        "car": (5,),
        "chiropteran": (2,),
        "club": (1,),
        "dog": (4,),
        "domestic_dog": (4,),
        "hack": (6,),
        "motorcar": (5,),
        "poodle": (7,),
        "toy_dog": (8,),
    }.items()
)
# Lines as wndb(5) says: offset, file, part of speech, words (hexadecimal count), pointers, gloss.
DATA = """00000001 06 n 02 bat 0 club 0 000 | an artifact
00000002 05 n 02 bat 0 chiropteran 1 001 @ 00000004 n 0000 | an animal
00000003 04 n 01 bat 0 000 | an act
00000004 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 003 @ 00000002 n 0000 ~ 00000007 n 0000 ~ 00000008 n 0000 | x
00000005 06 n 03 car 0 auto 0 motorcar 0 001 ~ 00000006 n 0000 | an artifact
00000006 06 n 02 cab 0 hack 0 000 | an artifact
00000007 05 n 01 poodle 0 000 | an animal
00000008 05 n 01 toy_dog 0 000 | an animal
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    folder = tmp_path / "wordnet"
    (folder / "dict").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": PACKAGE.name, "version": PACKAGE.version}))
    (folder / "dict" / "index.noun").write_text(LICENSE + INDEX)
    (folder / "dict" / "data.noun").write_text(LICENSE + DATA)
    (folder / "dict" / "index.adj").write_text(LICENSE + "domestic a 1 1 & 1 1 00000009\ntoy a 1 1 & 1 1 00000010\n")
    (folder / "dict" / "index.adv").write_text(LICENSE)
    return folder


def row(label: str, group: str, tags: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "file_name": f"images/{label.replace(' ', '-')}.png",
        "text": label,
        "label": label,
        "group": group,
        "subgroup": None,
        "tags": list(tags),
        "skin_tone": [],
        "source": "noto",
        "license": "CC0-1.0",
        "width": 16,
        "height": 16,
        "sha256": label,
        "png_sha256": label,
        "source_file": label,
        **fields,
    }


def names(wordnet: Path, *rows: dict[str, Any]) -> dict[str, list[str]]:
    return other_names(rows, WordNet(wordnet))


def test_a_name_has_the_words_of_the_meaning_that_fits_its_group(wordnet: Path) -> None:
    assert names(wordnet, row("bat", "animals-nature")) == {"bat": ["chiropteran"]}
    assert names(wordnet, row("bat", "activities")) == {"bat": ["club"]}


def test_synonyms_go_before_kinds_and_kinds_before_tags(wordnet: Path) -> None:
    named = names(wordnet, row("dog", "animals-nature", ("pet",)))
    assert named == {"dog": ["puppy", "domestic dog", "poodle", "toy dog", "pet"]}


def test_a_word_that_is_a_tag_too_goes_before_others_of_its_kind(wordnet: Path) -> None:
    named = names(wordnet, row("dog", "animals-nature", ("toy dog",)))
    assert named == {"dog": ["puppy", "domestic dog", "toy dog", "poodle"]}


def test_a_species_name_is_left_out(wordnet: Path) -> None:
    assert "canis familiaris" not in names(wordnet, row("dog", "animals-nature"))["dog"]


def test_a_label_is_also_known_by_what_one_says(wordnet: Path) -> None:
    assert names(wordnet, row("automobile", "travel-places"))["automobile"] == [
        "car",
        "auto",
        "motorcar",
        "cab",
        "hack",
    ]


def test_no_emoji_is_called_what_another_is(wordnet: Path) -> None:
    named = names(wordnet, row("automobile", "travel-places"), row("cab", "travel-places"))
    assert named == {"automobile": ["car", "auto", "motorcar"], "cab": ["hack"]}


def test_a_tag_that_many_share_names_none_of_them(wordnet: Path) -> None:
    rows = [row(label, "objects", ("tool", f"own {label}")) for label in ("one", "two", "three")]
    assert names(wordnet, *rows) == {label: [f"own {label}"] for label in ("one", "two", "three")}


def test_what_is_no_word_or_too_long_is_left_out(wordnet: Path) -> None:
    tags = ("24/7", "x", "one two three four", "a-b", "it's")
    assert names(wordnet, row("one", "objects", tags)) == {"one": ["a-b", "it's"]}


def test_the_dataset_has_the_same_pictures_under_other_names(wordnet: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "noto", tmp_path / "out"
    (folder / "images").mkdir(parents=True)
    rows = [row("dog", "animals-nature"), row("dog", "animals-nature", skin_tone=["dark"]), row("nothing", "symbols")]
    for fields in rows:
        Image.new("RGB", (16, 16), "red").save(folder / fields["file_name"])
    (folder / "metadata.jsonl").write_text("".join(json.dumps(fields) + "\n" for fields in rows))
    cli.main(["scrape", "synonyms", str(folder), "-o", str(out), "--wordnet", str(wordnet)])
    written = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert [fields["text"] for fields in written] == ["puppy", "domestic dog", "poodle", "toy dog"]
    assert {(fields["synonym_of"], fields["name"]) for fields in written} == {("dog", "dog")}
    words = (out / "words.tsv").read_text().splitlines()
    assert words[0] == "dog" and "domestic dog\tdog\tdog" in words
    for fields in written:
        assert (out / fields["file_name"]).read_bytes() == (folder / rows[0]["file_name"]).read_bytes()


def test_mistakes_are_answered_in_a_sentence(wordnet: Path, tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match="choose another folder"):
        synonyms([tmp_path / "a"], tmp_path / "a", wordnet=wordnet)
    (wordnet / "dict" / "data.noun").write_text("00000001 06 n\n")
    with pytest.raises(ScrapeError, match="laid out"):
        WordNet(wordnet).meanings("bat")
    with pytest.raises(ScrapeError, match="does not exist"):
        WordNet(tmp_path / "missing")


def table(wordnet: Path, *rows: dict[str, Any]) -> list[list[str]]:
    return [line.split("\t") for line in word_table(rows, WordNet(wordnet)).splitlines()]


def test_the_table_says_what_a_word_means_alone_and_in_a_longer_text(wordnet: Path) -> None:
    rows = table(wordnet, row("automobile", "travel-places"))
    assert ["automobile"] in rows
    assert ["car", "automobile", "car"] in rows and ["cars", "automobile", "car"] in rows
    assert ["motorcar", "automobile", "car"] in rows and ["motorcars", "automobile", "car"] in rows


@pytest.mark.parametrize(
    ("singular", "more"),
    [
        ("hog", "hogs"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("evening dress", "evening dresses"),
        ("policewoman", "policewomen"),
        ("human", "humans"),
        ("house mouse", "house mice"),
        ("mongoose", "mongooses"),
        ("knife", "knives"),
        ("noodles", None),
        ("home-fried potatoes", None),
        ("great pyrenees", None),
    ],
)
def test_more_than_one_is_called_what_people_say(singular: str, more: str | None) -> None:
    assert several(singular) == more


def test_what_may_mean_something_else_means_nothing_in_a_longer_text(wordnet: Path) -> None:
    rows = table(wordnet, row("dog", "animals-nature", ("pet",)), row("bat", "animals-nature"))
    assert ["pet", "dog"] in rows
    # An adjective elsewhere in the fixture's WordNet.
    (wordnet / "dict" / "index.adj").write_text(LICENSE + "poodle a 1 1 & 1 1 00000010\n")
    assert ["poodle", "dog"] in table(wordnet, row("dog", "animals-nature"))


def test_a_thing_in_a_colour_or_mood_is_left_to_compositions(wordnet: Path) -> None:
    rows = table(wordnet, row("dog", "animals-nature", ("blue dog", "happy dog", "dogs", "dog days")))
    assert [
        cells[0] for cells in rows if "dog" in cells[0] and "toy" not in cells[0] and "domestic" not in cells[0]
    ] == [
        "dog",
        "dog days",
        "dogs",
    ]


def test_the_plural_of_a_label_is_the_label_and_of_two_labels_the_shorter(wordnet: Path) -> None:
    rows = table(wordnet, row("dog face", "animals-nature"), row("dog", "animals-nature"))
    assert ["dogs", "dog", "dog"] in rows and ["dog faces", "dog face", "dog"] in rows


def test_the_table_that_ships_replaces_words_by_labels_and_their_names_alone() -> None:
    words = [line.split("\t") for line in (BUILTIN / "words.tsv").read_text("utf-8").splitlines()]
    labels = {cells[0] for cells in words if len(cells) == 1}
    assert {cells[1] for cells in words if len(cells) > 1} <= labels


def test_the_table_that_ships_has_each_word_once_in_order() -> None:
    lines = (BUILTIN / "words.tsv").read_text("utf-8").splitlines()
    words = [line.split("\t")[0] for line in lines]
    assert words == sorted(set(words)) and {"pig", "hog", "automobile", "ghost"} <= set(words)
