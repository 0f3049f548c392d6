"""What is in a dataset: counted, and drawn on one sheet."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from app import cli
from mlx_genmoji.errors import UserError
from scrape import ScrapeError, collect, summarize

Pack = Callable[..., Path]

COLOURS = {
    "1f600": "#ff0000",
    "1f385-1f3fb": "#00ff00",
    "1f934": "#0000ff",
    "1f478-1f3ff": "#ffff00",
    "1f475": "#ff00ff",
    "1f469-1f3fb-200d-1f91d-200d-1f469-1f3ff": "#00ffff",
}


@pytest.fixture
def dataset(tmp_path: Path, noto: Pack, emojibase: Path) -> Path:
    icons = {
        hexcode: (f"icon{place}", f'<path fill="{colour}" d="M0 0h128v128H0z"/>')
        for place, (hexcode, colour) in enumerate(COLOURS.items())
    }
    collect("noto", tmp_path / "noto", size=32, package=noto(icons), emojibase=emojibase)
    return tmp_path / "noto"


def test_pictures_are_counted_per_tone_and_person_type_and_per_source(dataset: Path) -> None:
    summary = summarize(dataset)
    assert summary.people == {
        ("no person", "no tone"): 1,
        ("man", "light"): 1,
        ("man", "no tone"): 1,
        ("woman", "dark"): 1,
        ("old woman", "no tone"): 1,
        ("no person", "two tones"): 1,
    }
    assert summary.sources == {("noto", "Apache-2.0"): 6}
    lines = str(summary).splitlines()
    assert lines[0] == f"{dataset}: 6 images"
    assert lines[2].split() == "no tone light medium-light medium medium-dark dark two tones all".split()
    assert [line.split() for line in lines[3:8]] == [
        "no person 1 0 0 0 0 0 1 2".split(),
        "man 1 1 0 0 0 0 0 2".split(),
        "woman 0 0 0 0 0 1 0 1".split(),
        "old woman 1 0 0 0 0 0 0 1".split(),
        "all 3 1 0 0 0 1 1 6".split(),
    ]
    assert lines[9:] == ["6 of noto, Apache-2.0", "no duplicates"]


def test_duplicates_and_what_cannot_be_read_are_named(dataset: Path) -> None:
    images = dataset / "images"
    with Image.open(images / "1F934.png") as picture:
        picture.save(images / "1F600.png", compress_level=0)
    (images / "1F475.png").write_bytes(b"text")
    summary = summarize(dataset)
    assert summary.duplicates == [["images/1F600.png", "images/1F934.png"]]
    assert summary.unreadable == ["images/1F475.png"]
    text = str(summary)
    assert "the same pixels: images/1F600.png, images/1F934.png" in text
    assert "cannot be read: images/1F475.png" in text


def test_every_picture_is_on_the_sheet_in_the_order_of_people_and_tones(dataset: Path, tmp_path: Path) -> None:
    summarize(dataset, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        column = ["#" + bytes(sheet.getpixel((20, y))).hex() for y in range(sheet.height)]
    colours = [colour for colour in dict.fromkeys(column) if colour in COLOURS.values()]
    order = ("1f600", "1f469-1f3fb-200d-1f91d-200d-1f469-1f3ff", "1f934", "1f385-1f3fb", "1f478-1f3ff", "1f475")
    assert colours == [COLOURS[hexcode] for hexcode in order]


def test_the_command_prints_the_counts_and_draws_the_sheet(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scrape", "report", "noto"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "contact.png"
    assert cli.main(["scrape", "report", "noto", "-o", "mine.png"]) == 0
    assert Path("contact.png").read_bytes() == Path("mine.png").read_bytes()


def test_mistakes_are_one_sentence(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match=r"There is no folder .*nowhere to write sheet\.png to"):
        summarize(dataset, tmp_path / "nowhere" / "sheet.png")
    with pytest.raises(ScrapeError, match="cannot be written"):
        summarize(dataset, dataset / "images")
    with pytest.raises(UserError, match="is not a dataset"):
        summarize(tmp_path)


@pytest.mark.parametrize(
    ("tone", "counted"), [("dark", "dark"), (None, "no tone"), (["green"], "green"), ([], "no tone")]
)
def test_rows_of_other_makers_are_counted_too(dataset: Path, tone: object, counted: str) -> None:
    (fields, *_) = map(json.loads, (dataset / "metadata.jsonl").read_text("utf-8").splitlines())
    (dataset / "metadata.jsonl").write_text(json.dumps({**fields, "skin_tone": tone, "person_type": "robot"}))
    summary = summarize(dataset)
    assert summary.people == {("robot", counted): 1}
    assert counted in str(summary)
