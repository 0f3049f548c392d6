"""Several datasets become one: nothing twice, nothing overwritten, and a word about each picture that is left out."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import cli
from mlx_genmoji.errors import UserError
from scrape import ScrapeError, collect, collect_folder, merge

Pack = Callable[..., Path]


def square(colour: str) -> str:
    return f'<path fill="{colour}" d="M0 0h128v128H0z"/>'


def png(colour: str, size: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, "PNG")
    return buffer.getvalue()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").split("\n") if line]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def sets(tmp_path: Path, emojibase: Path, noto: Pack, fluent: Pack) -> tuple[Path, Path]:
    """Noto: a red face, a blue cat. Fluent: a lime face, and a cat that is the blue one."""
    first, second = tmp_path / "a" / "noto", tmp_path / "b" / "fluent"
    icons = {"1f600": ("face", square("red")), "1f63a": ("cat", square("blue"))}
    collect("noto", first, size=64, package=noto(icons), emojibase=emojibase)
    pictures = {"1f600": png("lime"), "1f63a": png("blue")}
    collect("fluent", second, size=64, package=fluent(pictures), emojibase=emojibase)
    return first, second


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_union_has_every_picture_once_under_a_name_of_its_source(sets: tuple[Path, Path], out: Path) -> None:
    report = merge(sets, out)
    assert [(fields["file_name"], fields["source"], fields["license"]) for fields in rows(out)] == [
        ("images/noto-1F600.png", "noto", "Apache-2.0"),
        ("images/noto-1F63A.png", "noto", "Apache-2.0"),
        ("images/fluent-1F600.png", "fluent", "MIT"),
    ]
    assert report.dropped == {"the same pixels as another picture": ("fluent/images/1F63A.png",)}
    assert str(report) == f"merge: 3 images in {out}\n  left out 1: the same pixels as another picture"
    for fields in rows(out):
        origin = sets[fields["source"] == "fluent"]
        assert (out / fields["file_name"]).read_bytes() == (origin / f"images/{fields['hexcode']}.png").read_bytes()


def test_what_was_dropped_is_listed_with_the_picture_that_stayed(sets: tuple[Path, Path], out: Path) -> None:
    merge(sets, out)
    assert json.loads((out / "dropped.jsonl").read_text()) == {
        "picture": "fluent/images/1F63A.png",
        "reason": "the same pixels as another picture",
        "kept": "images/noto-1F63A.png",
    }


def test_the_order_of_the_datasets_decides_which_one_stays(sets: tuple[Path, Path], out: Path) -> None:
    merge(sets[::-1], out)
    assert [fields["file_name"] for fields in rows(out)] == [
        "images/fluent-1F600.png",
        "images/fluent-1F63A.png",
        "images/noto-1F600.png",
    ]


def test_one_picture_fetched_once_and_drawn_at_two_sizes_is_one(
    sets: tuple[Path, Path], out: Path, tmp_path: Path, emojibase: Path, noto: Pack
) -> None:
    large = tmp_path / "large"
    collect("noto", large, size=80, package=noto({"1f600": ("face", square("red"))}), emojibase=emojibase)
    report = merge([sets[0], large], out)
    assert report.dropped == {"the same bytes fetched as another picture": ("large/images/1F600.png",)}


def test_pictures_of_one_source_and_emoji_do_not_overwrite_each_other(
    sets: tuple[Path, Path], out: Path, tmp_path: Path, emojibase: Path, noto: Pack
) -> None:
    newer = tmp_path / "newer"
    collect("noto", newer, size=64, package=noto({"1f600": ("face", square("yellow"))}), emojibase=emojibase)
    merge([sets[0], newer], out)
    names = [fields["file_name"] for fields in rows(out)]
    assert names == ["images/noto-1F600.png", "images/noto-1F63A.png", "images/noto-1F600-2.png"]
    assert (out / names[2]).read_bytes() == (newer / "images/1F600.png").read_bytes()


def test_the_same_datasets_give_the_same_bytes_and_a_merge_can_be_merged(
    sets: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    merge(sets, out)
    first = contents(out)
    merge(sets, out)
    assert contents(out) == first
    merge([out], tmp_path / "again")
    again = contents(tmp_path / "again")
    assert {name: data for name, data in again.items() if name != "dropped.jsonl"} == {
        name: data for name, data in first.items() if name != "dropped.jsonl"
    }


def test_a_merge_of_less_removes_what_is_no_longer_in_it(sets: tuple[Path, Path], out: Path) -> None:
    merge(sets, out)
    (out / "images" / "mine.png").write_bytes(b"")
    merge(sets[:1], out)
    assert {path.name for path in (out / "images").iterdir()} == {"noto-1F600.png", "noto-1F63A.png", "mine.png"}


def test_a_users_own_pictures_merge_with_a_set(sets: tuple[Path, Path], out: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pig.png").write_bytes(png("pink"))
    collect_folder(tmp_path / "mine", tmp_path / "own", size=64, keep_originals=True)
    merge([sets[0], tmp_path / "own"], out)
    assert [(fields["text"], fields["license"]) for fields in rows(out)] == [
        ("grinning face", "Apache-2.0"),
        ("grinning cat", "Apache-2.0"),
        ("pig", "yours"),
    ]
    assert "original" not in rows(out)[2]
    assert len({tuple(fields) for fields in rows(out)}) == 1


def test_only_pngs_of_the_dataset_itself_are_taken(sets: tuple[Path, Path], out: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png("pink"))
    (sets[0] / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (sets[0] / "images" / "text.png").write_bytes(b"text")
    (sets[0] / "images" / "photo.png").write_bytes(png("teal"))
    Image.new("RGB", (8, 8)).save(sets[0] / "images" / "photo.png", "JPEG")
    (fields, *_) = rows(sets[0])
    bad = ["../../secret.png", str(tmp_path / "secret.png"), "images/link.png", "images/none.png", "images/text.png"]
    bad += ["images/photo.png", "images/a\0b.png", "images"]
    lines = [fields, *({**fields, "file_name": name, "sha256": name} for name in bad)]
    (sets[0] / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = merge(sets[:1], out)
    assert report.dropped == {"not a PNG of the dataset that can be read": tuple(f"noto/{name}" for name in bad)}
    assert [path.name for path in (out / "images").iterdir()] == ["noto-1F600.png"]


@pytest.mark.parametrize("source", ["../../x", "", "a/b", "NUL\0", "🐷", "x" * 500])
def test_no_sources_name_leads_outside(sets: tuple[Path, Path], out: Path, source: str) -> None:
    lines = [{**fields, "source": source} for fields in rows(sets[0])]
    (sets[0] / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    before = set(out.parent.rglob("*"))
    merge(sets[:1], out)
    new = [path for path in set(out.parent.rglob("*")) - before if path.is_file()]
    assert len(new) == 4 and all(path.parent in (out, out / "images") for path in new)
    merge(sets[:1], out)


def test_a_dataset_is_not_written_over(sets: tuple[Path, Path], out: Path) -> None:
    before = contents(sets[0])
    with pytest.raises(ScrapeError, match="is one of the datasets to merge"):
        merge(sets, sets[0] / "images" / "..")
    with pytest.raises(ScrapeError, match="already holds another dataset; choose another folder for merge"):
        merge(sets[1:], sets[0])
    assert contents(sets[0]) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a dataset: metadata.jsonl is missing in it"),
        ("{", "is not valid JSON lines"),
        ("[]", "line 1: there is no text in file_name, text, source, license;"),
        ('{"file_name": "a.png", "text": "mine"}', "genmoji scrape folder makes a whole dataset of"),
    ],
)
def test_a_folder_that_is_no_dataset_is_said_to_be_none(
    out: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "metadata.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        merge([tmp_path], out)
    assert not out.exists()


def test_the_command_merges(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scrape", "merge", "a/noto", "b/fluent", "-o", "out"]) == 0
    assert capsys.readouterr().out.startswith("merge: 3 images in out\n")
    assert cli.main(["scrape", "merge", "a/noto", "nowhere", "-o", "out"]) == 2
    assert capsys.readouterr().err == "genmoji: nowhere is not a dataset: metadata.jsonl is missing in it.\n"
