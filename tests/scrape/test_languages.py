"""`genmoji scrape languages`: names of emoji in other languages, from a small package of the real one's layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import cli
from mlx_genmoji.reader.language_tables import FOLDER
from scrape import ScrapeError, languages
from scrape.emojibase import Emoji
from scrape.languages import LANGUAGES, PACKAGE, rows_of
from scrape.packages import cache_folder

DATA = Path(__file__).parents[2] / "data"


def emoji(order: int, label: str, tags: str = "", group: str = "animals-nature", subgroup: str = "animal") -> Emoji:
    code = f"{0x1F400 + order:X}"
    return Emoji(order, label, chr(0x1F400 + order), code, code, tuple(tags.split()), group, subgroup, (), None)


EMOJIS = [
    emoji(1, "cat", "animal"),
    emoji(2, "cat face", "animal"),
    emoji(3, "crying cat", "face", "smileys-emotion", "cat-face"),
    emoji(4, "pig", "animal"),
    emoji(5, "worried face", "face", "smileys-emotion", "face-concerned"),
    emoji(6, "one o'clock", "clock", "travel-places", "time"),
    emoji(7, "whale", "animal"),
]
GERMAN = [
    ("Katze", ["Katze", "Tier"]),
    ("Katzengesicht", ["Katze", "Tier"]),
    ("weinende Katze", ["Katze", "Gesicht"]),
    ("Schwein", ["Sau", "Tier"]),
    ("Besorgtes Gesicht", ["besorgt", "Gesicht"]),
    ("ein Uhr", ["Uhr"]),
    ("Wal", ["ein Tier, das im Meer lebt"]),
]


def rows(with_tags: bool = True, drawn: tuple[str, ...] = tuple(item.label for item in EMOJIS)) -> list[list[Any]]:
    records = [
        {"hexcode": item.hexcode, "label": label, "tags": tags}
        for item, (label, tags) in zip(EMOJIS, GERMAN, strict=True)
    ]
    names, tags = rows_of(records, {item.hexcode: item for item in EMOJIS}, frozenset(drawn), with_tags=with_tags)
    return [[tuple(row) for row in names], [tuple(row) for row in tags]]


def test_names_are_in_lower_case_and_in_order() -> None:
    names, _ = rows()
    assert names == [
        ("besorgtes gesicht", "worried face"),
        ("katze", "cat"),
        ("katzengesicht", "cat face"),
        ("schwein", "pig"),
        ("wal", "whale"),
        ("weinende katze", "crying cat"),
    ]


def test_a_tag_of_one_thing_names_it_and_one_of_a_face_does_not() -> None:
    _, tags = rows()
    assert tags == [("sau", "pig")]


def test_a_tag_of_different_things_is_no_name() -> None:
    assert "tier" not in dict(rows()[1])


def test_a_tag_of_a_plain_thing_names_it_where_the_other_emoji_show_it_too() -> None:
    renamed = [("Kater", ["Katze"]), *GERMAN[1:]]
    records = [{"hexcode": e.hexcode, "label": n, "tags": t} for e, (n, t) in zip(EMOJIS, renamed, strict=True)]
    for with_tags in (True, False):
        _, tags = rows_of(
            records, {e.hexcode: e for e in EMOJIS}, frozenset(e.label for e in EMOJIS), with_tags=with_tags
        )
        assert ("katze", "cat") in tags


def test_only_emoji_that_are_drawn_are_named() -> None:
    names, tags = rows(drawn=("cat", "worried face"))
    assert {label for _, label in (*names, *tags)} <= {"cat", "worried face"}


def test_languages_without_tags_have_names() -> None:
    names, tags = rows(with_tags=False)
    assert ("schwein", "pig") in names and tags == []


@pytest.fixture
def package(tmp_path: Path, emojibase: Path, tarball: Callable[..., Path]) -> Path:
    """A package with the English emoji of `emojibase` and the same names in all languages."""
    import tarfile

    with tarfile.open(emojibase) as archive:
        files = {}
        for name in ("en/data.json", "meta/groups.json"):
            member = archive.extractfile(f"package/{name}")
            assert member is not None
            files[name] = member.read()
    records = json.dumps([{"hexcode": "1F431", "label": "Katzengesicht", "tags": ["Katze"]}]).encode()
    files |= {f"{language}/data.json": records for language in LANGUAGES}
    return tarball(tmp_path / "all.tgz", {"name": "emojibase-data", "version": "17.0.0"}, files)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    row = {"file_name": "images/a.png", "text": "cat face", "label": "cat face", "source": "a", "license": "MIT"}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return folder


def test_the_command_writes_a_table_for_each_language(
    dataset: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "names"
    assert cli.main(["scrape", "languages", str(dataset), "-o", str(output), "--emojibase", str(package)]) == 0
    assert sorted(path.stem for path in output.iterdir()) == list(LANGUAGES)
    lines = (output / "de.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and lines[1:] == ["katzengesicht\tcat face", "# Tags", "katze\tcat face"]
    assert "in 15 languages" in capsys.readouterr().out


def test_a_package_of_another_layout_is_an_error(dataset: Path, emojibase: Path, tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match=r"da/data\.json"):
        languages([dataset], tmp_path / "names", package=emojibase)


def test_the_tables_that_ship_are_those_of_emojibase(tmp_path: Path) -> None:
    tarball = cache_folder() / PACKAGE.tarball
    sets = [DATA / "fluent", DATA / "noto"]
    if not tarball.exists() or not all((folder / "metadata.jsonl").exists() for folder in sets):
        pytest.skip("emojibase-data or the image sets were never fetched on this machine")
    languages(sets, tmp_path, package=tarball)
    for language in LANGUAGES:
        name = f"{language}.tsv"
        assert (tmp_path / name).read_text(encoding="utf-8") == (FOLDER / name).read_text(encoding="utf-8")
