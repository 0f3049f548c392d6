"""`genmoji scrape synonyms`: other words for emoji, from a small WordNet of the real one's layout."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import cli
from scrape import ScrapeError, synonyms
from scrape.synonyms import other_names
from scrape.wordnet import PACKAGE, WordNet

LICENSE = "  1 This software and database is being provided to you by Princeton University\n"
INDEX = """bat n 3 3 @ ~ + 3 2 00000001 00000002 00000003
car n 1 1 ~ 1 1 00000005
cab n 1 1 @ 1 1 00000006
dog n 1 1 ~ 1 1 00000004
"""
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


def test_synonyms_go_before_tags_and_tags_before_kinds(wordnet: Path) -> None:
    found = names(wordnet, row("dog", "animals-nature", ("pet", "poodle")))
    assert found == {"dog": ["domestic dog", "canis familiaris", "pet", "poodle", "toy dog"]}


def test_a_label_is_also_known_by_what_one_says(wordnet: Path) -> None:
    assert names(wordnet, row("automobile", "travel-places"))["automobile"] == ["auto", "motorcar", "cab"]


def test_no_emoji_is_called_what_another_is(wordnet: Path) -> None:
    found = names(wordnet, row("automobile", "travel-places"), row("cab", "travel-places"))
    assert found == {"automobile": ["auto", "motorcar"], "cab": ["hack"]}


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
    assert [fields["text"] for fields in written] == ["domestic dog", "canis familiaris", "poodle", "toy dog"]
    assert {fields["synonym_of"] for fields in written} == {"dog"}
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
