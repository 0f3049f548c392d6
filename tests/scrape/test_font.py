"""Colour fonts as datasets: small ones built by fontTools, sbix as Apple's and CBDT as Google's, and Debian's Noto."""

import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import TTCollection, TTFont, newTable
from fontTools.ttLib.tables import C_B_D_T_, E_B_L_C_, BitmapGlyphMetrics
from fontTools.ttLib.tables._g_l_y_f import Glyph as Outline
from fontTools.ttLib.tables.sbixGlyph import Glyph
from fontTools.ttLib.tables.sbixStrike import Strike
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app import cli
from mlx_genmoji.extras import install_command
from scrape import Report, ScrapeError, collect_font

DEBIANS = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")

RED, GREEN, BLUE, YELLOW, CYAN = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)

CHARACTERS = {
    "grin": 0x1F600,
    "cat": 0x1F431,
    "wave": 0x1F44B,
    "light": 0x1F3FB,
    "man": 0x1F468,
    "rocket": 0x1F680,
    "joiner": 0x200D,
    "hash": 0x23,
    "keycap": 0x20E3,
    "selector": 0xFE0F,
}

LIGATURES = """
feature ccmp {
    sub wave light by wave_light;
    sub man joiner rocket by man_astronaut;
    sub hash selector keycap by keycap_hash;
} ccmp;
"""

GLYPHS = (".notdef", *CHARACTERS, "wave_light", "man_astronaut", "keycap_hash")

PICTURES = {"grin": RED, "wave": GREEN, "wave_light": BLUE, "man_astronaut": YELLOW, "keycap_hash": CYAN}

# The emojis that PICTURES show.
SHOWN = {
    "1F600": RED,
    "1F44B": GREEN,
    "1F44B-1F3FB": BLUE,
    "1F468-200D-1F680": YELLOW,
    "0023-FE0F-20E3": CYAN,
}

NAMES = {"familyName": "Tiny Emoji", "styleName": "Regular", "copyright": "© 2026 The Tests."}


def png(colour: tuple[int, ...], size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (size, size), colour).save(buffer, "PNG")
    return buffer.getvalue()


def plain_font(names: Mapping[str, str] = NAMES) -> TTFont:
    """The characters and ligatures above, with no picture yet."""
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(GLYPHS))
    builder.setupCharacterMap({code: name for name, code in CHARACTERS.items()})
    builder.setupGlyf({name: Outline() for name in GLYPHS})
    builder.setupHorizontalMetrics(dict.fromkeys(GLYPHS, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable(dict(names))
    builder.setupOS2()
    builder.setupPost()
    builder.addOpenTypeFeatures(LIGATURES)
    return builder.font


def sbix_font(
    path: Path,
    pictures: Mapping[str, tuple[str, bytes | str]] | None = None,
    names: Mapping[str, str] = NAMES,
    collection: bool = False,
    font: TTFont | None = None,
) -> Path:
    """An sbix font of two strikes, or a collection of a plain font and it.

    `pictures`: per glyph a kind ("png ", "dupe", "flip") and its bytes or the glyph whose picture it has.
    """
    font = font or plain_font(names)
    pictures = {name: ("png ", png(colour)) for name, colour in PICTURES.items()} if pictures is None else pictures
    font["sbix"] = table = newTable("sbix")
    table.version, table.flags = 1, 1
    small = {"grin": ("png ", png(YELLOW, 16))}
    for ppem, glyphs in ((160, pictures), (20, small)):
        strike = Strike(ppem=ppem)
        for name, (graphic_type, what) in glyphs.items():
            fields = {"imageData": what} if isinstance(what, bytes) else {"referenceGlyphName": what}
            strike.glyphs[name] = Glyph(glyphName=name, graphicType=graphic_type, **fields)
        table.strikes[ppem] = strike
    return save(font, path, collection)


def cbdt_font(path: Path) -> Path:
    """A CBDT font of two strikes."""
    font = plain_font()
    font["CBLC"], font["CBDT"] = locations, bitmaps = newTable("CBLC"), newTable("CBDT")
    locations.version = bitmaps.version = 3.0
    locations.strikes, bitmaps.strikeData = [], []
    for ppem, colours in ((20, {"grin": YELLOW}), (109, PICTURES)):
        names = [name for name in GLYPHS if name in colours]
        locations.strikes.append(strike_of(ppem, names))
        bitmaps.strikeData.append({name: bitmap(colours[name]) for name in names})
    return save(font, path)


def strike_of(ppem: int, names: list[str]) -> Any:
    strike = E_B_L_C_.Strike()
    table = strike.bitmapSizeTable
    table.colorRef = 0
    for direction in ("hori", "vert"):
        metrics = E_B_L_C_.SbitLineMetrics()
        for name in ("ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator"):
            setattr(metrics, name, 0)
        for name in ("caretOffset", "minOriginSB", "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1", "pad2"):
            setattr(metrics, name, 0)
        setattr(table, direction, metrics)
    table.startGlyphIndex, table.endGlyphIndex = 0, len(GLYPHS) - 1
    table.ppemX = table.ppemY = ppem
    table.bitDepth, table.flags = 32, 1
    for name in names:
        index = E_B_L_C_.eblc_sub_table_classes[1](None, None)
        index.indexFormat, index.imageFormat, index.names = 1, 17, [name]
        strike.indexSubTables.append(index)
    return strike


def bitmap(colour: tuple[int, ...]) -> Any:
    glyph = C_B_D_T_.cbdt_bitmap_format_17(None, None)
    glyph.metrics = BitmapGlyphMetrics.SmallGlyphMetrics()
    metrics = glyph.metrics
    metrics.height = metrics.width = metrics.Advance = 32
    metrics.BearingX, metrics.BearingY = 0, 32
    glyph.imageData = png(colour)
    return glyph


def save(font: TTFont, path: Path, collection: bool = False) -> Path:
    if collection:
        both = TTCollection()
        both.fonts = [plain_font(), font]
        both.save(path)
    else:
        font.save(path)
    return path


@pytest.fixture
def make(tmp_path: Path, emojibase: Path) -> Callable[..., Report]:
    def run(path: Path, output: Path = tmp_path / "out", **options: Any) -> Report:
        return collect_font(output, path, emojibase=emojibase, **{"size": 32, **options})

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    return {fields["hexcode"]: fields for fields in map(json.loads, lines)}


def pixel(folder: Path, hexcode: str, place: tuple[int, int] = (16, 16)) -> Any:
    with Image.open(folder / "images" / f"{hexcode}.png") as image:
        return image.getpixel(place)


@pytest.mark.parametrize(
    "build", [sbix_font, cbdt_font, lambda path: sbix_font(path, collection=True)], ids=["sbix", "CBDT", "collection"]
)
def test_each_emoji_gets_the_picture_it_is_shown_with(
    build: Callable[[Path], Path], make: Callable[..., Report], out: Path, tmp_path: Path
) -> None:
    make(build(tmp_path / "font.ttf"))
    assert {hexcode: pixel(out, hexcode) for hexcode in rows(out)} == SHOWN
    fields = rows(out)["1F44B-1F3FB"]
    assert (fields["text"], fields["skin_tone"]) == ("waving hand, light skin tone", ["light"])
    assert (fields["source"], fields["source_file"]) == ("tiny-emoji", "wave_light.png")
    assert fields["sha256"] == hashlib.sha256(png(BLUE)).hexdigest()


def test_an_emoji_without_a_picture_is_left_out(make: Callable[..., Report], tmp_path: Path) -> None:
    report = make(sbix_font(tmp_path / "font.ttf"))
    assert "1F469-200D-1F680" in report.dropped["no picture in the font"]  # the woman is not in the font
    assert "1F431" in report.dropped["no picture in the font"]  # the cat is, without a picture


def test_a_sequence_the_font_does_not_join_is_not_taken_for_its_first_emoji(
    make: Callable[..., Report], out: Path, tmp_path: Path
) -> None:
    font = plain_font()
    del font["GSUB"]
    report = make(sbix_font(tmp_path / "font.ttf", font=font))
    assert {"1F44B-1F3FB", "1F468-200D-1F680"} <= set(report.dropped["drawn of several glyphs"])
    assert set(rows(out)) == {"1F600", "1F44B"}


def test_a_glyph_may_borrow_anothers_picture_as_it_is_or_mirrored(
    make: Callable[..., Report], out: Path, tmp_path: Path
) -> None:
    image = Image.new("RGBA", (32, 32), BLUE)
    image.paste(RED, (0, 0, 16, 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    pictures = {"cat": ("png ", buffer.getvalue()), "wave": ("flip", "grin"), "grin": ("dupe", "cat")}
    report = make(sbix_font(tmp_path / "font.ttf", pictures))
    assert (pixel(out, "1F44B", (4, 4)), pixel(out, "1F44B", (28, 4))) == (BLUE, RED)
    assert report.dropped["the same pixels as another picture"] == ("cat.png",)


def test_glyphs_that_borrow_in_a_circle_have_no_picture(make: Callable[..., Report], tmp_path: Path) -> None:
    pictures = {"cat": ("dupe", "wave"), "wave": ("dupe", "cat"), "grin": ("png ", png(RED))}
    assert {"1F431", "1F44B"} <= set(make(sbix_font(tmp_path / "font.ttf", pictures)).dropped["no picture in the font"])


@pytest.mark.parametrize(
    ("names", "license"),
    [
        ({}, "Art of the font's owner, not for redistribution."),
        ({"copyright": "© Somebody."}, "© Somebody. Art of the font's owner, not for redistribution."),
        (
            {
                "copyright": "© Somebody.",
                "licenseDescription": "Under the SIL\nOpen Font License, 1.1. As is. No more.",
            },
            "© Somebody. Under the SIL Open Font License, 1.1.",
        ),
        ({"licenseInfoURL": "https://example.org/licence"}, "https://example.org/licence"),
    ],
)
def test_the_licence_says_who_owns_the_art(
    names: dict[str, str], license: str, make: Callable[..., Report], out: Path, tmp_path: Path
) -> None:
    make(sbix_font(tmp_path / "font.ttf", names={"familyName": "Tiny Emoji", "styleName": "Regular", **names}))
    assert {fields["license"] for fields in rows(out).values()} == {license}


def test_originals_are_kept_on_request(make: Callable[..., Report], out: Path, tmp_path: Path) -> None:
    make(sbix_font(tmp_path / "font.ttf"), keep_originals=True)
    assert (out / rows(out)["1F600"]["original"]).read_bytes() == png(RED)
    make(sbix_font(tmp_path / "font.ttf"))
    assert list((out / "originals").iterdir()) == []
    assert "original" not in rows(out)["1F600"]


def test_the_command_collects_a_font(
    emojibase: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sbix_font(tmp_path / "font.ttf")
    assert cli.main(["scrape", "font", "font.ttf", "-o", "out", "--emojibase", str(emojibase)]) == 0
    assert capsys.readouterr().out.startswith("tiny-emoji: 5 images in out\n")


def test_without_a_path_it_is_apples_font_and_where_there_is_none_a_sentence_says_what_to_give(
    out: Path, emojibase: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrape.font.APPLE", sbix_font(tmp_path / "Apple Color Emoji.ttc", collection=True))
    assert collect_font(out, emojibase=emojibase).images == len(SHOWN)
    monkeypatch.setattr("scrape.font.APPLE", tmp_path / "nowhere.ttc")
    with pytest.raises(ScrapeError, match=r"There is no font .*nowhere\.ttc; name one with pictures in it"):
        collect_font(out, emojibase=emojibase)


def test_a_font_without_pictures_is_said_to_have_none(make: Callable[..., Report], out: Path, tmp_path: Path) -> None:
    plain_font().save(tmp_path / "font.ttf")
    with pytest.raises(ScrapeError, match="holds no pictures in a table sbix or CBDT"):
        make(tmp_path / "font.ttf")
    with pytest.raises(ScrapeError, match="has no picture of an emoji"):
        make(sbix_font(tmp_path / "font.ttf", {}))
    assert not (out / "metadata.jsonl").exists()


@pytest.mark.parametrize("module", ["fontTools", "uharfbuzz"])
def test_without_what_reads_fonts_a_sentence_says_what_to_install(
    module: str, make: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sbix_font(tmp_path / "font.ttf")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ScrapeError, match=re.escape(install_command("scrape"))):
        make(path)


def test_a_font_packed_for_the_web_is_refused(make: Callable[..., Report], tmp_path: Path) -> None:
    with TTFont(sbix_font(tmp_path / "font.ttf")) as font:
        font.flavor = "woff"
        font.save(tmp_path / "font.woff")
    with pytest.raises(ScrapeError, match=r"is packed for the web \(woff\); give the font as \.ttf"):
        make(tmp_path / "font.woff")


def test_a_file_that_is_no_font_is_one_sentence(make: Callable[..., Report], tmp_path: Path) -> None:
    for content in (b"", b"ttcf", b"not a font\nat all", png(RED)):
        (tmp_path / "font.ttf").write_bytes(content)
        with pytest.raises(ScrapeError, match="cannot be read as a font") as caught:
            make(tmp_path / "font.ttf")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", [sbix_font, cbdt_font])
@settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kept=st.one_of(st.none(), st.floats(0, 1)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
)
def test_a_broken_font_is_a_sentence_or_a_smaller_dataset(
    build: Callable[[Path], Path],
    kept: float | None,
    changes: list[tuple[float, int]],
    make: Callable[..., Report],
    out: Path,
    tmp_path: Path,
) -> None:
    font = bytearray(build(tmp_path / "whole.ttf").read_bytes())
    for place, byte in changes:
        font[int(place * len(font))] = byte
    (tmp_path / "font.ttf").write_bytes(font[: None if kept is None else int(kept * len(font))])
    try:
        report = make(tmp_path / "font.ttf", tmp_path / "broken" / str(len(list(tmp_path.rglob("*")))))
    except ScrapeError as error:
        assert "\n" not in str(error)
    else:
        assert 0 < report.images <= len(SHOWN)


@pytest.mark.skipif(not DEBIANS.exists(), reason="Debian's Noto font is not there; apt install fonts-noto-color-emoji")
def test_debians_noto_font_gives_its_pictures(make: Callable[..., Report], out: Path) -> None:
    report = make(DEBIANS)
    assert report.source == "noto-color-emoji"
    assert {"1F600", "1F431", "1F44B", "1F44B-1F3FB", "1F1E8-1F1ED", "0023-FE0F-20E3"} <= set(rows(out))
    assert "SIL Open Font License" in rows(out)["1F600"]["license"]
    red, green, blue = pixel(out, "1F600", (16, 8))
    assert red > 200 and green > 150 and blue < 120  # the face is yellow
    light, dark = (sum(pixel(out, f"1F44B-{tone}", (18, 18))) for tone in ("1F3FB", "1F3FF"))
    assert light > dark + 150
