"""A user's own pictures and captions, from wherever the captions are, and whatever is in the folder."""

import hashlib
import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from app import cli
from scrape import Report, ScrapeError, collect_folder
from scrape.dataset import IMAGE
from scrape.own_pictures import decode, plain


def png(shade: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def make(mine: Path, out: Path) -> Callable[..., Report]:
    def run(**options: Any) -> Report:
        return collect_folder(mine, out, **{"size": 16, **options})

    return run


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "metadata.jsonl").read_text("utf-8").split("\n")
    return {fields["source_file"]: fields for fields in map(json.loads, filter(None, lines))}


def texts(folder: Path) -> dict[str, str]:
    return {name: fields["text"] for name, fields in rows(folder).items()}


def test_a_caption_comes_from_metadata_or_the_text_beside_or_the_files_name(
    make: Callable[..., Report], mine: Path, out: Path
) -> None:
    (mine / "b").mkdir()
    for shade, name in enumerate(("a.png", "b/a.PNG", "b/Flying_pig-2.webp", "b/c.jpg")):
        (mine / name).write_bytes(png(shade * 50, {".webp": "WEBP", ".jpg": "JPEG"}.get(Path(name).suffix, "PNG")))
    (mine / "metadata.jsonl").write_text('{"file_name": "b/a.PNG", "text": "from metadata"}\n')
    (mine / "b" / "a.txt").write_text("not this")
    (mine / "b" / "c.txt").write_text("  from the text\nbeside \n")
    make()
    assert texts(out) == {
        "a.png": "a",
        "b/Flying_pig-2.webp": "flying pig 2",
        "b/a.PNG": "from metadata",
        "b/c.jpg": "from the text beside",
    }


def test_a_row_has_the_columns_of_every_dataset(make: Callable[..., Report], mine: Path, out: Path) -> None:
    (mine / "pig.png").write_bytes(png(9))
    row = {
        "file_name": "./pig.png",
        "text": "a pig",
        "label": "pig",
        "tags": ["farm"],
        "skin_tone": ["dark"],
        "person_type": "woman",
    }
    (mine / "metadata.jsonl").write_text(json.dumps(row))
    make(license="CC0-1.0")
    (fields,) = rows(out).values()
    png_file = (out / fields["file_name"]).read_bytes()
    assert fields == {
        "file_name": fields["file_name"],
        "text": "a pig",
        "label": "pig",
        "description": "",
        "emoji": None,
        "hexcode": None,
        "base_hexcode": None,
        "tags": ["farm"],
        "group": None,
        "subgroup": None,
        "skin_tone": ["dark"],
        "person_type": "woman",
        "source": "folder",
        "license": "CC0-1.0",
        "width": 16,
        "height": 16,
        "sha256": hashlib.sha256(png(9)).hexdigest(),
        "png_sha256": hashlib.sha256(png_file).hexdigest(),
        "source_file": "pig.png",
    }
    assert fields["file_name"].startswith("images/pig-")


def test_a_csv_file_serves_as_well_as_json_lines(make: Callable[..., Report], mine: Path, out: Path) -> None:
    (mine / "pig.png").write_bytes(png(9))
    (mine / "cow.png").write_bytes(png(99))
    (mine / "metadata.csv").write_text('file_name,text,tags\npig.png,"a pig, flying","farm, wings"\ncow.png,,\n')
    make()
    assert texts(out) == {"cow.png": "cow", "pig.png": "a pig, flying"}
    assert rows(out)["pig.png"]["tags"] == ["farm", "wings"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Schwein über Nacht".encode(), "Schwein über Nacht"),
        (b"\xef\xbb\xbfpig", "pig"),
        ("cochon ailé".encode("utf-16"), "cochon ailé"),
        ("\ufeff猫".encode("utf-16-be"), "猫"),
        ("cochon ailé".encode("cp1252"), "cochon ailé"),
        (b"p\x00i\x07g\x1b[31m", "pig[31m"),
        ("a\u2028b\u0085c\rd".encode(), "a b c d"),
        ("pig\u202egnp.exe\u2066".encode(), "piggnp.exe"),
        ("👩🏽\u200d🚀 ok".encode(), "👩🏽\u200d🚀 ok"),
        (b"x" * 5_000, "x" * 1_000),
    ],
)
def test_captions_are_one_line_of_text_whatever_their_encoding(data: bytes, text: str) -> None:
    assert plain(decode(data)) == text


def test_files_of_one_name_stay_apart_and_two_of_one_picture_do_not(
    make: Callable[..., Report], mine: Path, out: Path
) -> None:
    for shade, name in ((1, "a/cat.png"), (2, "b/cat.png"), (3, "b/Cat.png"), (3, "c/cat.png"), (4, "猫.png")):
        (mine / name).parent.mkdir(exist_ok=True)
        (mine / name).write_bytes(png(shade * 50))
    report = make()
    names = {fields["file_name"] for fields in rows(out).values()}
    assert len(names) == len({name.lower() for name in names}) == 4
    assert report.dropped == {"the same pixels as another picture": ("c/cat.png",)}


def test_names_in_metadata_that_lead_outside_are_only_names(
    make: Callable[..., Report], mine: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    (mine / "pig.png").write_bytes(png(9))
    lines = [{"file_name": name, "text": "x"} for name in ("../secret.png", str(tmp_path / "secret.png"), "a\0b.png")]
    (mine / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    before = sorted(tmp_path.rglob("*"))
    report = make()
    assert len(report.dropped["a caption without a picture in the folder"]) == 3
    assert list(rows(out)) == ["pig.png"]
    assert {path for path in sorted(tmp_path.rglob("*")) if out not in path.parents} == {*before, out}


def test_links_that_lead_outside_are_not_followed(
    make: Callable[..., Report], mine: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_bytes(png(1))
    (tmp_path / "elsewhere" / "secret.txt").write_text("secret words")
    (mine / "pig.png").write_bytes(png(9))
    (mine / "link.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (mine / "pig.txt").symlink_to(tmp_path / "elsewhere" / "secret.txt")
    (mine / "metadata.csv").symlink_to(tmp_path / "elsewhere" / "secret.txt")
    (mine / "folder").symlink_to(tmp_path / "elsewhere")
    (mine / "loop.png").symlink_to(mine / "loop.png")
    (mine / "metadata.jsonl").symlink_to(mine / "metadata.jsonl")
    report = make()
    assert texts(out) == {"pig.png": "pig"}
    assert report.dropped == {"a link that leads outside the folder": ("link.png",)}


def test_what_cannot_be_used_is_left_out_with_its_reason(
    make: Callable[..., Report], mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrape.own_pictures.PICTURE_BYTES", 5_000)
    files = {
        "pig.png": png(9),
        "broken.png": b"GIF89a",
        "__.png": png(1),
        "large.png": b"\0" * 5_001,
        "notes.md": b"hi",
    }
    for name, data in {**files, ".hidden.png": png(2)}.items():
        (mine / name).write_bytes(data)
    report = make()
    assert report.images == 1
    assert report.dropped == {
        "a file too large to be a picture of a sticker": ("large.png",),
        "no caption": ("__.png",),
        "not a picture that can be read": ("broken.png",),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", "{", "line 1: not a JSON object"),
        ("metadata.jsonl", '\n["a", "b"]', "line 2: not a JSON object"),
        ("metadata.jsonl", "[" * 100_000, "line 1: not a JSON object"),
        ("metadata.jsonl", '{"file_name": "a.png"}', "file_name and text are needed"),
        ("metadata.jsonl", '{"file_name": 1, "text": "a"}', "file_name and text are needed"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a", "tags": "b"}', "tags is not a list of texts"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a", "label": []}', "label is not text"),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": "a", "skin_tone": ["green"]}',
            "no skin tone green; there are",
        ),
        ("metadata.csv", "name,caption\na.png,a", "file_name and text are needed"),
        ("metadata.csv", f"file_name,text\na.png,{'x' * 200_000}", "line 2: not a line of a CSV file"),
    ],
)
def test_metadata_that_is_not_laid_out_as_expected_is_one_sentence(
    make: Callable[..., Report], mine: Path, name: str, content: str, message: str
) -> None:
    (mine / "a.png").write_bytes(png(1))
    (mine / name).write_text(content)
    with pytest.raises(ScrapeError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_folder_itself_is_left_as_it_is(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match="has no picture"):
        collect_folder(mine, tmp_path / "out")
    (mine / "pig.png").write_bytes(png(9))
    for output in (mine, mine / "out"):
        with pytest.raises(ScrapeError, match="which is only read; choose another folder"):
            collect_folder(mine, output)
    with pytest.raises(ScrapeError, match="There is no folder"):
        collect_folder(mine / "pig.png", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "pig.png"]


def test_a_picture_that_is_gone_is_gone_from_the_dataset(make: Callable[..., Report], mine: Path, out: Path) -> None:
    (mine / "a.png").write_bytes(png(1))
    (mine / "b.png").write_bytes(png(90))
    make(keep_originals=True)
    assert [len(list((out / folder).iterdir())) for folder in ("images", "originals")] == [2, 2]
    (mine / "a.png").unlink()
    make(keep_originals=True)
    assert [len(list((out / folder).iterdir())) for folder in ("images", "originals")] == [1, 1]
    assert (out / rows(out)["b.png"]["original"]).read_bytes() == png(90)


def test_the_command_collects_a_folder(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (mine / "pig.png").write_bytes(png(9))
    assert cli.main(["scrape", "folder", "mine", "-o", "out", "--size", "20", "--margin", "0.1"]) == 0
    assert capsys.readouterr().out == "folder: 1 images in out\n"
    (fields,) = rows(tmp_path / "out").values()
    assert (fields["license"], fields["width"]) == ("yours", 20)
    with Image.open(tmp_path / "out" / fields["file_name"]) as image:
        assert [image.getpixel((x, 10)) for x in (1, 2)] == [(255, 255, 255), (9, 0, 0)]


NAMES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["../../x", "/etc/passwd", "a" * 5_000, "\u202egnp.exe", "con", "-rf", "a\ud800b", "\0", ".", "~"]),
)


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=NAMES, text=NAMES, caption=st.binary(max_size=200), row=st.dictionaries(NAMES, NAMES, max_size=3))
@example(name="../../x", text="\ud800", caption=b"\xff\xfe\x00\xd8", row={"file_name": "../y", "text": "\n"})
def test_hostile_names_and_captions_write_nothing_outside_the_dataset(
    name: str, text: str, caption: bytes, row: dict[str, str], tmp_path: Path
) -> None:
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    mine, out = place / "mine", place / "out"
    mine.mkdir(parents=True)
    stem = os.fsdecode(os.fsencode(name.replace("/", "").replace("\0", "").replace("\ud800", "\udcff"))[:80])
    files = [mine / "plain.png", mine / f"{stem}.png"]
    for shade, file in enumerate(files):
        file.write_bytes(png(shade * 99))
    files[1].with_suffix(".txt").write_bytes(caption)
    lines = [{"file_name": name, "text": text}, {"file_name": "plain.png", "text": text, **row}]
    (mine / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    before = set(place.rglob("*"))
    try:
        report = collect_folder(mine, out, size=16)
    except ScrapeError as error:
        assert "\n" not in str(error)
        return
    new = {path.relative_to(out).as_posix() for path in place.rglob("*") if path not in before and path.is_file()}
    listed = [json.loads(line) for line in (out / "metadata.jsonl").read_text("utf-8").split("\n") if line]
    assert new == {"metadata.jsonl", *(fields["file_name"] for fields in listed)}
    assert report.images == len(listed)
    assert all(IMAGE.fullmatch(fields["file_name"]) and len(fields["text"].splitlines()) == 1 for fields in listed)


def test_what_is_not_taken_is_counted_and_named(make: Callable[..., Report], mine: Path, out: Path) -> None:
    (mine / "pig.png").write_bytes(png(200))
    (mine / "cow.jfif").write_bytes(png(100, "JPEG"))
    (mine / "white.png").write_bytes(encoded(Image.new("RGB", (8, 8), "white")))
    (mine / "clear.png").write_bytes(encoded(Image.new("RGBA", (8, 8))))
    (mine / "art.psd").write_bytes(b"8BPS")
    (mine / "raw.cr2").write_bytes(b"II*")
    (mine / "notes.txt").write_text("no picture")
    report = str(make())
    assert texts(out) == {"pig.png": "pig", "cow.jfif": "cow"}
    for clue in ("2: a blank picture (clear.png, white.png)", "not read (.psd) (art.psd)", "not read (.cr2) (raw.cr2)"):
        assert clue in report
    assert "notes.txt" not in report


def test_a_fade_in_is_read_where_it_shows_something(make: Callable[..., Report], mine: Path, out: Path) -> None:
    clear, red = Image.new("RGBA", (8, 8)), Image.new("RGBA", (8, 8), "red")
    (mine / "pig.gif").write_bytes(encoded(clear, "GIF", save_all=True, append_images=[clear, red], duration=90))
    make()
    (fields,) = rows(out).values()
    with Image.open(out / fields["file_name"]) as picture:
        assert picture.getpixel((8, 8))[0] > 200 > picture.getpixel((8, 8))[1]


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"0001.png": None, "0001.caption": b"a flying pig"}, "a flying pig"),
        ({"0001.png": None, "0001.png.txt": b"a flying pig"}, "a flying pig"),
        ({"0001.png": None, "0001.png.caption": b"a flying pig"}, "a flying pig"),
        ({"0001.png": None, "0001.json": b'{"caption": "a flying pig", "url": "x"}'}, "a flying pig"),
        ({"0001.png": None, "0001.png.json": b'{"prompt": "a flying pig"}'}, "a flying pig"),
        ({"0001.png": None, "0001.json": b"{damaged", "0001.txt": b" \n"}, "0001"),
        ({"0001.png": None, "0001.txt": b"first", "0001.caption": b"second"}, "first"),
        ({"flying pig/0001.png": None}, "flying pig"),
        ({"train/flying_pig/IMG_0001.png": None}, "flying pig"),
        ({"10_flying pig/0001.png": None}, "flying pig"),
        ({"train/flying pig/a sad cow.png": None}, "a sad cow"),
        ({"train/0001.png": None, "train/metadata.csv": b"file_name,text\n0001.png,a flying pig\n"}, "a flying pig"),
        ({"a/b/1.png": None, "a/metadata.jsonl": b'{"file_name": "b/1.png", "text": "a flying pig"}'}, "a flying pig"),
        (
            {"b/1.png": None, "metadata.jsonl": b'{"file_name": "./b\\\\1.png", "caption": "a flying pig"}'},
            "a flying pig",
        ),
        ({"1.png": None, "metadata.csv": b"file_name;text\n1.png;a pig, flying\n"}, "a pig, flying"),
        ({"1.png": None, "metadata.csv": b'file_name,text\n1.png,"a pig, flying"\n'}, "a pig, flying"),
        ({"café.png": None, "metadata.csv": "file_name,text\ncafe\u0301.png,coffee\n".encode()}, "coffee"),
        ({"उड़ता हुआ सूअर.png": None}, "उड़ता हुआ सूअर"),
        ({"Don\u2019t_panic--now!.png": None}, "don\u2019t panic now"),
    ],
)
def test_captions_are_read_in_the_forms_that_people_have(
    files: dict[str, bytes | None], text: str, make: Callable[..., Report], mine: Path, out: Path
) -> None:
    for name, data in files.items():
        path = mine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(7) if data is None else data)
    if text == "0001":
        with pytest.raises(ScrapeError, match="No picture"):
            make()
        return
    make()
    assert list(texts(out).values()) == [unicodedata.normalize("NFC", text)]


@pytest.mark.parametrize(
    "text",
    [
        "file_name,text\n1.png,a pig\n2.png,a pig, with wings\n",
        "file_name,text,label\n1.png,a pig,pig\n2.png,a pig, with wings,pig\n",
        'file_name,text\n1.png,a pig\n2.png,"a pig" with wings\n',
    ],
)
def test_a_csv_that_is_not_well_formed_is_an_error_with_its_line(
    text: str, make: Callable[..., Report], mine: Path, out: Path
) -> None:
    for shade, name in enumerate(("1.png", "2.png")):
        (mine / name).write_bytes(png(shade))
    (mine / "metadata.csv").write_text(text)
    with pytest.raises(ScrapeError, match=r"metadata\.csv, line 3: "):
        make()
    assert not out.exists()
