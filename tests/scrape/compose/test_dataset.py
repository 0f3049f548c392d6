"""`genmoji scrape compose`: the dataset it writes, and what it says of a mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from shapes import Build

from app import cli
from mlx_genmoji.errors import UserError
from scrape import Composer, ScrapeError, compose, merge

LABELS = ["pig", "cat", "crown", "wing", "fire", "banana"]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_row_says_what_was_put_together_and_how(build: Build, out: Path) -> None:
    folder = build(LABELS)
    report = compose([folder], out, count=30, seed=4, size=64)
    assert (report.images, str(report)) == (30, f"compose: 30 images in {out}")
    composer = Composer([folder], 64, 4)
    for index, fields in enumerate(rows(out)):
        drawn = composer.draw(index)
        assert (fields["text"], fields["parts"], fields["composition"]) == (
            drawn.caption,
            list(drawn.parts),
            drawn.kind,
        )
        assert (fields["source"], fields["license"]) == ("noto", "CC0-1.0")
        assert (fields["compose_seed"], fields["compose_index"]) == (4, index)
        with Image.open(out / fields["file_name"]) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
            assert image.tobytes() == drawn.picture.tobytes()


def test_the_same_input_gives_the_same_bytes_and_a_second_run_replaces_the_first(build: Build, out: Path) -> None:
    folder = build(LABELS)
    compose([folder], out, count=12, size=32)
    first = contents(out)
    compose([folder], out, count=20, seed=1, size=32)
    compose([folder], out, count=12, size=32)
    assert contents(out) == first
    assert len(first) == 13


def test_it_merges_with_the_sets_it_is_made_of(build: Build, out: Path, tmp_path: Path) -> None:
    folder = build(LABELS, source="fluent")
    compose([folder], out, count=10, size=32)
    report = merge([out, folder], tmp_path / "both")
    # These shapes are alike, so some pictures are the same: each that is not is there, and the set's own beside them.
    composed = {fields["png_sha256"] for fields in rows(out)}
    merged = rows(tmp_path / "both")
    assert {fields["png_sha256"] for fields in merged if "composition" in fields} == composed and len(composed) > 1
    assert report.images == len(merged) > len(composed)
    assert {fields["source"] for fields in rows(tmp_path / "both")} == {"fluent"}


def test_parts_come_from_one_set_at_a_time(build: Build, out: Path) -> None:
    compose([build(LABELS, source="noto"), build(LABELS, source="fluent")], out, count=40, size=32)
    assert {fields["source"] for fields in rows(out)} == {"noto", "fluent"}


def test_the_command_reaches_the_package(build: Build, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(LABELS)
    command = ["scrape", "compose", str(folder), "-o", str(out), "--count", "5", "--seed", "2", "--size", "32"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"compose: 5 images in {out}\n"
    assert [fields["compose_seed"] for fields in rows(out)] == [2] * 5


def test_mistakes_are_one_sentence(build: Build, out: Path, tmp_path: Path) -> None:
    good, lone = build(LABELS), build(["pig", "paw prints"], source="lone")
    for clue, arguments in {
        "nowhere is not a dataset": ([tmp_path / "nowhere"], {}),
        "has fewer than two emoji": ([good, lone], {}),
        "is less than 1": ([good], {"count": 0}),
        "8 px is not between": ([good], {"size": 8}),
    }.items():
        folders, options = arguments
        with pytest.raises(UserError, match=clue) as caught:
            compose(folders, out, **options)
        assert "\n" not in str(caught.value)
        assert not out.exists()


def test_no_other_dataset_is_written_over(build: Build) -> None:
    good, other = build(LABELS), build(LABELS, source="fluent")
    before = contents(other)
    with pytest.raises(ScrapeError, match="already holds another dataset"):
        compose([good], other, count=1)
    with pytest.raises(ScrapeError, match="is one of the sets to compose"):
        compose([good, other], other, count=1)
    assert contents(other) == before
