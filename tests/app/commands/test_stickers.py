"""`genmoji stickers` and `genmoji generate --format`: the files that come out, and mistakes told in one line."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw

from app import cli
from mlx_genmoji.sticker import TARGETS, Sticker


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture on white, as PNG and JPEG, and one that is half transparent."""
    monkeypatch.chdir(tmp_path)
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((8, 8, 56, 56), (200, 20, 20))
    picture.save("pig.png")
    picture.save("photo.jpg")
    Image.new("RGBA", (40, 20), (10, 200, 30, 128)).save("glass.webp", lossless=True)
    return tmp_path


def test_pictures_become_stickers_for_each_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("stickers pig.png photo.jpg --for slack --for whatsapp -o new".split()) == 0
    names = ["pig-slack.png", "pig-whatsapp.zip", "photo-slack.png", "photo-whatsapp.zip"]
    assert capsys.readouterr().out.split()[-4:] == [f"new/{name}" for name in names]
    assert sorted(path.name for path in Path("new").iterdir()) == sorted(names)
    assert Image.open("new/photo-slack.png").size == (128, 128)
    assert zipfile.ZipFile("new/pig-whatsapp.zip").namelist() == ["pig.webp", "pig-tray.png"]


def test_a_picture_with_transparency_keeps_it() -> None:
    assert cli.main("stickers glass.webp --for slack".split()) == 0
    assert Image.open("glass-slack.png").getchannel("A").getextrema() == (0, 128)


def test_the_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main("stickers --for list".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TARGETS)
    assert "512 px" in lines[3] and "512,000 bytes" in lines[3]


def bomb() -> bytes:
    """A PNG of 100,000 x 100,000 pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        ("pig.png", "--for"),
        ("--for slack", "pictures"),
        ("pig.png --for myspace", "myspace"),
        ("nowhere.png --for slack", "nowhere.png"),
        ("text.png --for slack", "text.png is no"),
        ("cut.png --for slack", "cut.png is no"),
        ("bomb.png --for slack", "bomb.png"),
        ("blank.png --for slack", "blank.png for slack: The picture is empty"),
        ("folder --for slack", "folder is a folder"),
        ("pig.png folder/pig.png --for slack", "same file names"),
        ("pig.png --for slack -o text.png", "not a folder"),
        ("vector.eps --for slack", "vector.eps is no"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: str, clue: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.png").write_text("no picture")
    Path("cut.png").write_bytes(Path("pig.png").read_bytes()[:150])
    Path("bomb.png").write_bytes(bomb())
    Path("vector.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    Image.new("RGB", (16, 16), "white").save("blank.png")
    Path("folder").mkdir()
    before = sorted(Path().rglob("*"))
    assert cli.main(["stickers", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("genmoji: ") and err.count("\n") == 1 and clue in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("--format telegram", "red-apple-telegram.webp"),
        ("--format favicon", "red-apple-favicon.zip"),
        ("--format slack -o mine.png", "mine.png"),
        ("-o apple.webp", "apple.webp"),
        ("--transparent", "red-apple.png"),
    ],
)
def test_a_sticker_is_drawn_in_the_form_that_is_asked_for(
    options: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", "red apple", "--seed", "1", "--steps", "4", *options.split()]) == 0
    assert capsys.readouterr().out == f"{name}\n"
    if name.endswith(".zip"):
        assert "favicon.ico" in zipfile.ZipFile(name).namelist()
    else:
        assert ("A" in Image.open(name).getbands()) == (name != "apple.webp")


@pytest.mark.parametrize(
    ("options", "clue"),
    [("--format myspace", "myspace"), ("--format telegram -o pig.png", ".webp"), ("-o pig.gif", ".heic")],
)
def test_a_form_that_cannot_be_is_told_before_anything_is_drawn(
    options: str, clue: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_genmoji.Genmoji.load", lambda *_, **__: pytest.fail("loaded the model"))
    assert cli.main(["generate", "red apple", *options.split()]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and clue in err


def test_without_its_recipe_a_sticker_does_not_say_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Sticker(Image.open("pig.png").convert("RGB"), {"prompt": "a secret"})
    pipeline = SimpleNamespace(generate=lambda *_, each, **__: each(drawn) or [drawn])
    monkeypatch.setattr("mlx_genmoji.Genmoji.load", lambda *_, **__: pipeline)
    for options, says in (([], True), (["--no-recipe", "--overwrite"], False)):
        assert cli.main(["generate", "pig", "--format", "ios-glyph", "-o", "pig.heic", *options]) == 0
        assert (b"a secret" in Path("pig.heic").read_bytes()) is says
