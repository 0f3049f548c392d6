"""Collects the pictures of a colour font: Apple's (`sbix`, on every Mac) or Google's (`CBDT`).

fontTools reads the pictures of the largest strike; HarfBuzz finds the glyph of a sequence of code points, as for the
screen. A sequence of several glyphs has no picture and is left out.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ImageOps

from mlx_genmoji.extras import install_command
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

# The picture types of an `sbix` glyph -> the suffix of such a file.
SUFFIXES = {"png ": ".png", "jpg ": ".jpg", "tiff": ".tiff"}

# The most references from glyph to glyph until a picture.
MAX_REFERENCES = 8

# Glyph name -> the bytes of its picture and the suffix of such a file, None where it has no picture.
Pictures = Callable[[str], tuple[bytes, str] | None]


@dataclass(frozen=True)
class ColourFont:
    """A colour font.

    source: its family as the name of a source; license: the owner of the art and the terms; shape: text -> glyphs;
    glyph_name: glyph -> name; picture: name -> picture.
    """

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
    """The picture of each emoji, with a fault where the font has none."""
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
    """Open a font file, of a collection the first font with pictures.

    Raises ScrapeError where no font has pictures; for a broken file, any exception of fontTools.
    """
    try:
        import uharfbuzz
        from fontTools import ttLib
    except ModuleNotFoundError as error:
        raise ScrapeError(
            f"Fonts need fonttools and uharfbuzz; install it with: {install_command('scrape')}"
        ) from error

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
        # Joiners and variation selectors without effect draw nothing.
        buffer.flags = uharfbuzz.BufferFlags.REMOVE_DEFAULT_IGNORABLES
        uharfbuzz.shape(face, buffer)
        return [glyph.codepoint for glyph in buffer.glyph_infos]

    names = {number: font["name"].getDebugName(number) for number in (COPYRIGHT, FAMILY, LICENSE, LICENSE_URL)}
    return ColourFont(_source(names[FAMILY]), _license(names), shape, font.getGlyphName, pictures)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise ScrapeError for any exception of fontTools and HarfBuzz, which do not document theirs for broken fonts."""
    try:
        yield
    except ScrapeError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScrapeError(f"{path} cannot be read as a font ({reason}); get it again.") from error


def _sbix(font: Any) -> Pictures:
    strikes = font["sbix"].strikes
    glyphs = strikes[max(strikes)].glyphs if strikes else {}

    def picture(name: str) -> tuple[bytes, str] | None:
        flipped = False
        glyph = glyphs.get(name)
        for _ in range(MAX_REFERENCES):
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
    """A font family as the name of a source, for example `noto-color-emoji`."""
    words = re.findall("[a-z0-9]+", (family or "").lower())
    return "-".join(words)[:60] or "font"


def _license(names: Mapping[int, str | None]) -> str:
    """The owner and the licence that the font names; without a licence, that its art must not be redistributed."""
    owner, terms, url = (" ".join((names[number] or "").split()) for number in (COPYRIGHT, LICENSE, LICENSE_URL))
    # The sentences after the first disclaim warranties.
    terms = terms.split(". ")[0].rstrip(".") + "." if terms else ""
    texts = [owner, terms, url] if terms or url else [owner, NO_LICENSE]
    return " ".join(text for text in texts if text)[:LICENSE_LENGTH]
