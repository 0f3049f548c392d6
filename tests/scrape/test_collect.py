"""What a dataset holds, from tiny packages in the layouts of the real ones."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scrape import SOURCES, Report, ScrapeError, collect
from scrape.dataset import Dropped, Form, Picture, write
from scrape.pictures import render as draw

Pack = Callable[..., Path]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
COLOURS = {"1f3fb": RED, "1f3fc": GREEN, "1f3fd": BLUE, "1f3fe": (255, 255, 0), "1f3ff": (0, 255, 255)}
SIZE = 64


def picture(colour: tuple[int, ...], size: tuple[int, int] = (SIZE, SIZE), kind: str = "WEBP") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", size, colour).save(buffer, kind, lossless=True, exact=True)
    return buffer.getvalue()


def square(colour: str, right: int = 128) -> str:
    return f'<path fill="{colour}" d="M0 0h{right}v128H0z"/>'


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    return {fields["hexcode"]: fields for fields in map(json.loads, lines)}


def pixel(folder: Path, hexcode: str, place: tuple[int, int] = (SIZE // 2, SIZE // 2)) -> Any:
    with Image.open(folder / "images" / f"{hexcode}.png") as image:
        assert (image.mode, image.format) == ("RGB", "PNG")
        return image.getpixel(place)


@pytest.fixture
def make(tmp_path: Path, emojibase: Path) -> Callable[..., Report]:
    def run(source: str, package: Path, output: Path = tmp_path / "out", size: int = SIZE) -> Report:
        return collect(source, output, size=size, package=package, emojibase=emojibase)

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_row_says_what_the_picture_shows(make: Callable[..., Report], fluent: Pack, out: Path) -> None:
    make("fluent", fluent({"1f936-1f3fb": picture(RED)}))
    png = (out / "images" / "1F936-1F3FB.png").read_bytes()
    assert rows(out) == {
        "1F936-1F3FB": {
            "file_name": "images/1F936-1F3FB.png",
            "text": "mrs. claus, light skin tone",
            "label": "mrs. claus",
            "description": "",
            "emoji": "🤶🏻",
            "hexcode": "1F936-1F3FB",
            "base_hexcode": "1F936",
            "tags": ["a tag"],
            "group": "people-body",
            "subgroup": "person-role",
            "skin_tone": ["light"],
            "person_type": "woman",
            "source": "fluent",
            "license": "MIT",
            "width": SIZE,
            "height": SIZE,
            "sha256": hashlib.sha256(picture(RED)).hexdigest(),
            "png_sha256": hashlib.sha256(png).hexdigest(),
            "source_file": "assets/1f936-1f3fb.webp",
        }
    }


@pytest.mark.parametrize(
    ("hexcode", "person_type"),
    [
        ("1F600", None),
        ("1F44B", None),
        ("1F46A", None),
        ("1F46D", None),
        ("1F467", "girl"),
        ("1F475", "old woman"),
        ("1F936", "woman"),
        ("1F6B5", "person"),
        ("1F9D1-200D-1F680", "person"),
        ("1F468-200D-1F680", "man"),
        ("1F9CF-200D-2640-FE0F", "woman"),
        ("1F9CF-200D-2642-FE0F", "man"),
        ("1F385-1F3FD", "man"),
        ("1F9D1-1F3FB-200D-1F384", "person"),
        ("1F934-1F3FF", "man"),
        ("1F478", "woman"),
        ("1FAC5", "person"),
        ("1F47C-1F3FC", "baby"),
        ("1F9D4-1F3FB-200D-2640-FE0F", "woman"),
        ("1F46F-200D-2642-FE0F", None),
        ("1F91D-1F3FD", None),
        ("1F468-200D-1F469-200D-1F467", None),
        ("1F9D1-200D-1F9D1-200D-1F9D2", None),
    ],
)
def test_person_type_is_unicodes(
    make: Callable[..., Report], noto: Pack, out: Path, hexcode: str, person_type: str | None
) -> None:
    make("noto", noto({hexcode.lower(): ("icon", square("red"))}))
    assert rows(out)[hexcode]["person_type"] == person_type


@pytest.mark.parametrize(
    ("hexcode", "base", "tones", "text"),
    [
        ("1F385-1F3FD", "1F385", ["medium"], "santa claus, medium skin tone"),
        ("1F9D1-1F3FF-200D-1F384", "1F9D1-200D-1F384", ["dark"], "mx claus, dark skin tone"),
        ("1F91D-1F3FD", "1F91D", ["medium"], "handshake, medium skin tone"),
        (
            "1FAF1-1F3FE-200D-1FAF2-1F3FC",
            "1F91D",
            ["medium-dark", "medium-light"],
            "handshake, medium-dark and medium-light skin tones",
        ),
        (
            "1F469-1F3FB-200D-1F91D-200D-1F469-1F3FF",
            "1F46D",
            ["light", "dark"],
            "women holding hands, light and dark skin tones",
        ),
        ("1F468-200D-1F468-200D-1F466", "1F468-200D-1F468-200D-1F466", [], "family: man, man, boy"),
    ],
)
def test_skin_tones_are_unicodes_one_two_or_none(
    make: Callable[..., Report], noto: Pack, out: Path, hexcode: str, base: str, tones: list[str], text: str
) -> None:
    make("noto", noto({hexcode.lower(): ("icon", square("red"))}))
    (fields,) = rows(out).values()
    assert (fields["hexcode"], fields["base_hexcode"], fields["skin_tone"]) == (hexcode, base, tones)
    assert fields["text"] == text


def test_labels_are_lower_case_ascii(make: Callable[..., Report], noto: Pack, out: Path) -> None:
    make("noto", noto({"1f450": ("icon", square("red"))}))
    assert rows(out)["1F450"]["label"] == 'rescue worker\'s "pinata"'


def test_file_names_find_their_emoji_however_they_are_spelled(
    make: Callable[..., Report], fluent: Pack, out: Path
) -> None:
    report = make("fluent", fluent({"0023-fe0f-20e3": picture(RED), "23-20e3": picture(GREEN)}))
    assert list(rows(out)) == ["0023-FE0F-20E3"]
    assert report.dropped == {"a second picture of one emoji": ("assets/23-20e3.webp",)}


def test_fluent_tones_go_where_their_colours_are(make: Callable[..., Report], fluent: Pack, out: Path) -> None:
    make("fluent", fluent({f"1f44b-{tone}": picture(colour) for tone, colour in COLOURS.items()}))
    drawn = {tone: COLOURS[rows(out)[f"1F44B-{tone.upper()}"]["source_file"][-10:-5]] for tone in COLOURS}
    assert drawn == {**COLOURS, "1f3fc": COLOURS["1f3fd"], "1f3fd": COLOURS["1f3fc"]}
    assert pixel(out, "1F44B-1F3FC") == COLOURS["1f3fd"]
    assert rows(out)["1F44B-1F3FC"]["text"] == "waving hand, medium-light skin tone"


def test_the_scrambled_mountain_bikers_are_put_in_order(make: Callable[..., Report], fluent: Pack, out: Path) -> None:
    make("fluent", fluent({f"1f6b5-{tone}": picture(colour) for tone, colour in COLOURS.items()}))
    named = [rows(out)[f"1F6B5-{tone.upper()}"]["source_file"][-10:-5] for tone in COLOURS]
    assert named == ["1f3ff", "1f3fe", "1f3fc", "1f3fd", "1f3fb"]


def test_the_deaf_man_and_the_deaf_woman_change_places(make: Callable[..., Report], fluent: Pack, out: Path) -> None:
    make("fluent", fluent({"1f9cf-200d-2640-fe0f": picture(RED), "1f9cf-1f3fc-200d-2642-fe0f": picture(GREEN)}))
    assert pixel(out, "1F9CF-200D-2642-FE0F") == RED
    assert pixel(out, "1F9CF-1F3FD-200D-2640-FE0F") == GREEN


def test_what_fluent_must_not_hold_is_left_out_with_its_reason(make: Callable[..., Report], fluent: Pack) -> None:
    stems = ("1f46d", "1f46d-1f3fb", "1f431", "1f1e8-1f1ed", "1f3f4-e0067_e0062", "1fffd")
    pictures = {stem: picture((10 * place, 0, 0)) for place, stem in enumerate(stems)}
    report = make("fluent", fluent({**pictures, "1f600": picture(GREEN), "1f63a": b"RIFF....WEBP"}))
    assert report.images == 1
    assert report.dropped == {
        "a country's flag, not Microsoft's": ("assets/1f1e8-1f1ed.webp", "assets/1f3f4-e0067_e0062.webp"),
        "no emoji that emojibase names": ("assets/1fffd.webp",),
        "not a picture that can be read": ("assets/1f63a.webp",),
        "not in Microsoft's open set": ("assets/1f46d-1f3fb.webp", "assets/1f46d.webp"),
        "the picture of another emoji": ("assets/1f431.webp",),
    }
    assert "left out 2: not in Microsoft's open set" in str(report)


def test_one_picture_of_several_emojis_goes_to_the_neutral_one(
    make: Callable[..., Report], noto: Pack, out: Path
) -> None:
    astronaut, family = square("red"), square("blue")
    icons = {
        "1f468-200d-1f680": ("man-astronaut", astronaut),
        "1f469-200d-1f680": ("woman-astronaut", astronaut),
        "1f9d1-200d-1f680": ("astronaut", astronaut),
        "1f9d1-1f3ff-200d-1f680": ("astronaut-dark", astronaut),
        "1f468-200d-1f468-200d-1f466": ("family-man-man-boy", family),
        "1f46a": ("family", family),
    }
    report = make("noto", noto(icons))
    assert list(rows(out)) == ["1F9D1-200D-1F680", "1F46A"]
    assert len(report.dropped["the same pixels as another picture"]) == 4


def test_flag_letters_are_no_emojis(make: Callable[..., Report], noto: Pack, out: Path) -> None:
    make("noto", noto({"1f1e8": ("letter-c", square("red")), "1f600": ("grinning-face", square("blue"))}))
    assert list(rows(out)) == ["1F600"]


def test_transparency_becomes_white_and_hidden_colours_stay_hidden(
    make: Callable[..., Report], fluent: Pack, out: Path
) -> None:
    make("fluent", fluent({"1f600": picture((255, 0, 0, 0)), "1f63a": picture((255, 0, 0, 128), (100, 100))}))
    assert pixel(out, "1F600") == WHITE
    red, green, blue = pixel(out, "1F63A")
    assert red == 255
    assert abs(green - 127) <= 1
    assert green == blue


def test_no_fringe_appears_where_a_raster_is_resized(make: Callable[..., Report], fluent: Pack, out: Path) -> None:
    image = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    image.paste(RED, (0, 0, 128, 256))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, exact=True)
    make("fluent", fluent({"1f600": buffer.getvalue()}))
    assert all(pixel(out, "1F600", (x, 32))[0] >= 254 for x in range(SIZE))


def test_aspect_is_kept(make: Callable[..., Report], fluent: Pack, out: Path) -> None:
    make("fluent", fluent({"1f600": picture(RED, (256, 264))}), size=132)
    assert [pixel(out, "1F600", (x, 60)) for x in (0, 1, 2, 129, 130, 131)] == [WHITE, WHITE, RED, RED, WHITE, WHITE]
    assert pixel(out, "1F600", (60, 0)) == pixel(out, "1F600", (60, 131)) == RED


def test_svg_is_drawn_on_white_and_keeps_its_aspect(make: Callable[..., Report], noto: Pack, out: Path) -> None:
    make("noto", noto({"1f600": ("grinning-face", square("#0000ff", right=64))}))
    assert (pixel(out, "1F600", (10, 32)), pixel(out, "1F600", (50, 32))) == (BLUE, WHITE)
    make("noto", noto({"1f600": ("grinning-face", square("#0000ff", right=64))}, width=64))
    assert [pixel(out, "1F600", (x, 32)) for x in (10, 20, 40, 50)] == [WHITE, BLUE, BLUE, WHITE]


def document(colour: str, size: int = 36) -> bytes:
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}"'
    return f'<svg {box}><path fill="{colour}" d="M0 0h{size}v{size}H0z"/></svg>'.encode()


@pytest.mark.parametrize(("source", "license"), [("twemoji", "CC-BY-4.0"), ("openmoji", "CC-BY-SA-4.0")])
def test_a_package_of_svg_documents_is_drawn_and_says_its_licence(
    source: str, license: str, make: Callable[..., Report], request: pytest.FixtureRequest, out: Path
) -> None:
    pack: Pack = request.getfixturevalue(source)
    documents = {"1F600": "red", "1f44b-1f3fd": "blue", "0023-fe0f-20e3": "lime", "E50A": "black"}
    report = make(source, pack({stem: document(colour) for stem, colour in documents.items()}))
    drawn = {hexcode: pixel(out, hexcode) for hexcode in rows(out)}
    assert drawn == {"1F600": RED, "1F44B-1F3FD": BLUE, "0023-FE0F-20E3": GREEN}
    assert {(fields["source"], fields["license"]) for fields in rows(out).values()} == {(source, license)}
    assert len(report.dropped["no emoji that emojibase names"]) == 1


def test_a_margin_is_left_free_and_none_by_default(
    twemoji: Pack, emojibase: Path, make: Callable[..., Report], out: Path
) -> None:
    package = twemoji({"1f600": document("red")})
    make("twemoji", package)
    assert pixel(out, "1F600", (0, 0)) == RED
    collect("twemoji", out, size=SIZE, margin=0.125, package=package, emojibase=emojibase)
    assert [pixel(out, "1F600", (x, 32)) for x in (7, 8, 55, 56)] == [WHITE, RED, RED, WHITE]


@pytest.mark.parametrize("margin", [-0.1, 0.41, float("nan"), float("inf")])
def test_a_margin_that_leaves_no_picture_is_refused(margin: float, twemoji: Pack, emojibase: Path, out: Path) -> None:
    with pytest.raises(ScrapeError, match=r"is not between 0 and 0\.4"):
        collect("twemoji", out, margin=margin, package=twemoji({"1f600": document("red")}), emojibase=emojibase)
    assert not out.exists()


def test_originals_are_kept_as_fetched_and_go_when_they_are_no_longer_asked_for(
    fluent: Pack, emojibase: Path, make: Callable[..., Report], out: Path
) -> None:
    package = fluent({"1f600": picture(RED), "1f63a": picture(BLUE)})
    collect("fluent", out, size=SIZE, keep_originals=True, package=package, emojibase=emojibase)
    (first, _) = rows(out).values()
    kept = (out / first["original"]).read_bytes()
    assert (first["original"], kept) == ("originals/1F600.webp", picture(RED))
    assert first["sha256"] == hashlib.sha256(kept).hexdigest()
    make("fluent", package)
    assert list((out / "originals").iterdir()) == []


def test_the_same_input_gives_the_same_bytes(
    make: Callable[..., Report], noto: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = noto(
        {"1f600": ("b", square("red")), "1f44b-1f3fb": ("a", square("blue")), "1f431": ("c", square("lime"))}
    )
    contents = []
    for name in ("first", "second"):
        make("noto", package, tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 4
    assert list(rows(tmp_path / "first")) == ["1F600", "1F431", "1F44B-1F3FB"]


def test_an_unpacked_folder_serves_as_well(make: Callable[..., Report], noto: Pack, tmp_path: Path) -> None:
    package = noto({"1f600": ("grinning-face", square("red"))})
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    for folder in (tmp_path / "unpacked", tmp_path / "unpacked" / "package"):
        assert make("noto", folder).images == 1


def test_making_it_again_removes_what_is_no_longer_in_it_and_nothing_else(
    make: Callable[..., Report], noto: Pack, out: Path
) -> None:
    make("noto", noto({"1f600": ("a", square("red")), "1f431": ("b", square("blue"))}))
    (out / "images" / "mine.png").write_bytes(b"")
    make("noto", noto({"1f600": ("a", square("lime"))}))
    assert {path.name for path in (out / "images").iterdir()} == {"1F600.png", "mine.png"}
    assert {path.name for path in out.iterdir()} == {"images", "metadata.jsonl"}


def test_an_interrupted_run_leaves_the_old_dataset_whole(
    make: Callable[..., Report], noto: Pack, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("noto", noto({"1f600": ("a", square("red")), "1f431": ("b", square("blue"))}))
    before = {path.relative_to(out): path.is_file() and path.read_bytes() for path in out.rglob("*")}
    renders = iter([draw])

    def one_picture(data: bytes, size: int, margin: float) -> Image.Image | None:
        for render in renders:
            return render(data, size, margin)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("scrape.dataset.render", one_picture)
        make("noto", noto({"1f600": ("a", square("lime")), "1f431": ("b", square("yellow"))}))
    assert {path.relative_to(out): path.is_file() and path.read_bytes() for path in out.rglob("*")} == before
    make("noto", noto({"1f600": ("a", square("lime"))}))
    assert [path.name for path in (out / "images").iterdir()] == ["1F600.png"]


def test_a_list_that_was_tampered_with_removes_no_file_elsewhere(
    make: Callable[..., Report], noto: Pack, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "keep.png").write_bytes(b"")
    (out / "images").mkdir(parents=True)
    fields = {"source": "noto", "hexcode": "../../keep", "file_name": "images/../../keep.png"}
    (out / "metadata.jsonl").write_text(json.dumps(fields))
    make("noto", noto({"1f600": ("a", square("red"))}))
    assert (tmp_path / "keep.png").exists()


@pytest.mark.parametrize("record", [{"hexcode": "../../1F600"}, {"group": "none"}, {"skins": [{}]}])
def test_an_emojibase_that_is_not_laid_out_as_expected_is_one_sentence(
    noto: Pack, out: Path, tarball: Pack, tmp_path: Path, record: dict[str, Any]
) -> None:
    groups = {"groups": {"0": "smileys-emotion"}, "subgroups": {"0": "face-smiling"}}
    face = {"order": 1, "hexcode": "1F600", "emoji": "😀", "label": "grinning face", "group": 0, "subgroup": 0}
    files = {"en/data.json": json.dumps([{**face, **record}]), "meta/groups.json": json.dumps(groups)}
    manifest = {"name": "emojibase-data", "version": "17.0.0"}
    package = tarball(tmp_path / "bad.tgz", manifest, {name: text.encode() for name, text in files.items()})
    with pytest.raises(ScrapeError, match=r"emojibase-data@17\.0\.0 is not laid out as expected"):
        collect("noto", out, package=noto({"1f600": ("a", square("red"))}), emojibase=package)
    assert not out.exists()


def test_a_folder_holds_one_source(make: Callable[..., Report], noto: Pack, fluent: Pack) -> None:
    make("noto", noto({"1f600": ("a", square("red"))}))
    with pytest.raises(ScrapeError, match="already holds another dataset"):
        make("fluent", fluent({"1f600": picture(RED)}))


@pytest.mark.parametrize("content", ["not json", "[]", '{"file_name": "a.png", "text": "mine"}'])
def test_someone_elses_dataset_is_left_alone(make: Callable[..., Report], noto: Pack, out: Path, content: str) -> None:
    out.mkdir()
    (out / "metadata.jsonl").write_text(content)
    with pytest.raises(ScrapeError, match="choose another folder"):
        make("noto", noto({"1f600": ("a", square("red"))}))
    assert (out / "metadata.jsonl").read_text() == content


def test_an_output_that_cannot_be_written_is_one_sentence(
    make: Callable[..., Report], noto: Pack, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(ScrapeError, match="choose another folder") as caught:
            make("noto", noto({"1f600": ("a", square("red"))}), output)
        assert "\n" not in str(caught.value)


def test_sources_and_sizes_that_do_not_exist_are_named(make: Callable[..., Report], noto: Pack, tmp_path: Path) -> None:
    with pytest.raises(ScrapeError, match=f"no source apple; there are {', '.join(SOURCES)}"):
        make("apple", tmp_path)
    with pytest.raises(ScrapeError, match="8 px is not between 16 and 2048"):
        make("noto", noto({"1f600": ("a", square("red"))}), size=8)


def test_a_package_without_one_readable_picture_is_an_error(
    make: Callable[..., Report], fluent: Pack, out: Path
) -> None:
    with pytest.raises(ScrapeError, match="No picture of fluent can be read"):
        make("fluent", fluent({"1f600": b"nothing"}))
    with pytest.raises(ScrapeError, match="has no picture of an emoji"):
        make("fluent", fluent({"1f431": picture(RED)}))
    assert not (out / "metadata.jsonl").exists()


@pytest.mark.parametrize(
    ("lesser", "meant"),
    [("CP", "FR"), ("EA", "ES"), ("UM", "US"), ("BV", "NO"), ("SJ", "NO"), ("HM", "AU"), ("MC", "ID")],
)
def test_of_flags_that_look_alike_the_one_that_people_mean_is_kept(lesser: str, meant: str, tmp_path: Path) -> None:
    def hexcode(country: str) -> str:
        return "-".join(f"{0x1F1E6 + ord(letter) - ord('A'):X}" for letter in country)

    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), (10, 20, 200)).save(buffer, "PNG")
    # In Unicode's order and against it.
    for order, countries in enumerate(((lesser, meant), (meant, lesser))):
        pictures = [
            Picture(hexcode(country), f"{country}.png", buffer.getvalue(), place, {"label": country, "text": country})
            for place, country in enumerate(countries)
        ]
        report = write(tmp_path / str(order), "test", "MIT", pictures, Form(32), Dropped())
        rows = (tmp_path / str(order) / "metadata.jsonl").read_text().splitlines()
        assert [json.loads(row)["text"] for row in rows] == [meant]
        assert report.dropped == {"the same pixels as another picture": (f"{lesser}.png",)}
