"""The pictures in a colour font: Apple's (`sbix`, on every Mac) or Google's (`CBDT`), under the emojis they show.

fontTools reads the pictures of the largest strike; HarfBuzz says which glyph a sequence of code points becomes, as it
would on the screen. A sequence that stays several glyphs has no picture of its own and is left out.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ImageOps

from mlx_genmoji.pictures import UNREADABLE, decode

from .dataset import Form, Report, check_source, encode
from .emojibase import Emoji, read_emojis
from .errors import ScrapeError
from .sets import Art, write_emojis

APPLE = Path("/System/Library/Fonts/Apple Color Emoji.ttc")

# Entries of a font's name table.
COPYRIGHT, FAMILY, LICENSE, LICENSE_URL = 0, 1, 13, 14

LICENSE_LENGTH = 400

NO_LICENSE = "Art of the font's owner, not for redistribution."

# The pictures that a glyph of an `sbix` strike may hold, and the suffix of their files.
SUFFIXES = {"png ": ".png", "jpg ": ".jpg", "tiff": ".tiff"}

# A glyph that borrows another's picture may borrow from one that borrows.
MAX_BORROWS = 8

# The bytes of a glyph's picture and the suffix of such a file, by the glyph's name; None where it has none.
Pictures = Callable[[str], tuple[bytes, str] | None]


@dataclass(frozen=True)
class ColourFont:
    """A font: its family as a source's name, who owns the art, the glyphs of a text, their names and pictures."""

    source: str
    license: str
    shape: Callable[[str], list[int]]
    glyph_name: Callable[[int], str]
    picture: Pictures


def collect_font(
    output: Path,
    path: Path | None = None,
    *,
    size: int = 256,
    margin: float = 0.0,
    keep_originals: bool = False,
    emojibase: Path | None = None,
) -> Report:
    """Make the dataset of a colour font, by default this Mac's Apple Color Emoji; options as for `scrape.collect`.

    Raises ScrapeError where there is no such font, and where it is broken or has no pictures.
    """
    form = Form(size, margin, keep_originals)
    path = path or APPLE
    if not path.is_file():
        raise ScrapeError(
            f"There is no font {path}; name one with pictures in it, as NotoColorEmoji.ttf of Debian's"
            " fonts-noto-color-emoji."
        )
    emojis = read_emojis(emojibase)
    with _reading(path):
        font = open_font(path)
        arts = list(read(font, emojis))
    check_source(output, font.source)
    return write_emojis(output, font.source, font.license, arts, emojis, form, str(path))


def read(font: ColourFont, emojis: Mapping[str, Emoji]) -> Iterator[Art]:
    """One Art for each emoji, with its fault where the font has no picture of it."""
    for key, emoji in emojis.items():
        glyphs = font.shape("".join(chr(int(part, 16)) for part in emoji.hexcode.split("-")))
        picture = font.picture(font.glyph_name(glyphs[0])) if len(glyphs) == 1 and glyphs[0] else None
        if picture is not None:
            data, suffix = picture
            yield Art(key, f"{font.glyph_name(glyphs[0])}{suffix}", data)
        elif len(glyphs) > 1 and all(glyphs):
            yield Art(key, emoji.hexcode, b"", "drawn of several glyphs")
        else:
            yield Art(key, emoji.hexcode, b"", "no picture in the font")


def open_font(path: Path) -> ColourFont:
    """The font of a file, of a collection the first that has pictures.

    Raises ScrapeError where it has none, and of broken fonts whatever fontTools does.
    """
    try:
        import uharfbuzz
        from fontTools import ttLib
    except ModuleNotFoundError as error:
        raise ScrapeError('Fonts need fonttools and uharfbuzz; install "mlx-genmoji[scrape]".') from error

    data = path.read_bytes()
    count = len(ttLib.TTCollection(io.BytesIO(data), lazy=True).fonts) if data[:4] == b"ttcf" else 1
    for index in range(count):
        font = ttLib.TTFont(io.BytesIO(data), fontNumber=index, lazy=True)
        pictures = next((read_table(font) for name, read_table in TABLES.items() if name in font), None)
        if pictures is not None:
            break
    else:
        raise ScrapeError(f"{path} holds no pictures in a table {' or '.join(TABLES)}; name a font that does.")
    if font.flavor:
        raise ScrapeError(f"{path} is packed for the web ({font.flavor}); give the font as .ttf, .otf or .ttc.")

    face = uharfbuzz.Font(uharfbuzz.Face(data, index))

    def shape(text: str) -> list[int]:
        buffer = uharfbuzz.Buffer()
        buffer.add_str(text)
        buffer.guess_segment_properties()
        # Joiners and variation selectors that are left over draw nothing.
        buffer.flags = uharfbuzz.BufferFlags.REMOVE_DEFAULT_IGNORABLES
        uharfbuzz.shape(face, buffer)
        return [glyph.codepoint for glyph in buffer.glyph_infos]

    names = {number: font["name"].getDebugName(number) for number in (COPYRIGHT, FAMILY, LICENSE, LICENSE_URL)}
    return ColourFont(_source(names[FAMILY]), _license(names), shape, font.getGlyphName, pictures)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a broken font makes fontTools and HarfBuzz raise, which promise nothing, into a ScrapeError."""
    try:
        yield
    except ScrapeError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ScrapeError(f"{path} cannot be read as a font ({said}); get it again.") from error


def _sbix(font: Any) -> Pictures:
    strikes = font["sbix"].strikes
    glyphs = strikes[max(strikes)].glyphs if strikes else {}

    def picture(name: str) -> tuple[bytes, str] | None:
        flipped = False
        glyph = glyphs.get(name)
        for _ in range(MAX_BORROWS):
            if glyph is None or not glyph.is_reference_type():
                break
            flipped ^= glyph.graphicType == "flip"
            glyph = glyphs.get(glyph.referenceGlyphName)
        if glyph is None or glyph.graphicType not in SUFFIXES or not glyph.imageData:
            return None
        return (_mirrored(glyph.imageData), ".png") if flipped else (glyph.imageData, SUFFIXES[glyph.graphicType])

    return picture


def _mirrored(data: bytes) -> bytes:
    """A picture file, mirrored, as a PNG; `data` itself where it cannot be read."""
    try:
        return encode(ImageOps.mirror(decode(data, formats=None).convert("RGBA")))
    except UNREADABLE:
        return data


def _cbdt(font: Any) -> Pictures:
    sizes = [strike.bitmapSizeTable.ppemX for strike in font["CBLC"].strikes]
    glyphs = font["CBDT"].strikeData[sizes.index(max(sizes))]

    def picture(name: str) -> tuple[bytes, str] | None:
        data = getattr(glyphs.get(name), "imageData", None)
        return (data, ".png") if data else None

    return picture


TABLES: dict[str, Callable[[Any], Pictures]] = {"sbix": _sbix, "CBDT": _cbdt}


def _source(family: str | None) -> str:
    """A source's name, as `noto-color-emoji`."""
    words = re.findall("[a-z0-9]+", (family or "").lower())
    return "-".join(words)[:60] or "font"


def _license(names: Mapping[int, str | None]) -> str:
    """What the font says of its licence, and where it says nothing, that the art is not ours to give away."""
    owner, terms, url = (" ".join((names[number] or "").split()) for number in (COPYRIGHT, LICENSE, LICENSE_URL))
    # After the first sentence comes what the owner does not warrant.
    terms = terms.split(". ")[0].rstrip(".") + "." if terms else ""
    said = [owner, terms, url] if terms or url else [owner, NO_LICENSE]
    return " ".join(part for part in said if part)[:LICENSE_LENGTH]
