"""Checks that bytes are one whole PNG picture, of a size somebody would draw an emoji in, and draws it."""

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from ..pictures import render
from .faults import Fault

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The last chunk, which Pillow does not miss.
END = b"\0\0\0\0IEND\xaeB`\x82"

# The most pixels of a picture; four bytes each while it is drawn.
MOST_PIXELS = 2048 * 2048

DAMAGED = "a damaged or unfinished picture"
BOMB = f"a picture of more than {MOST_PIXELS:,} pixels: a decompression bomb"

# What Pillow raises for files that are broken, each in their own way.
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, ArithmeticError, LookupError, struct.error, zlib.error)


@dataclass(frozen=True)
class Drawn:
    """A picture as fetched and as drawn for the dataset, with the SHA-256 of both."""

    data: bytes
    sha256: str
    png: bytes
    png_sha256: str


def draw(data: bytes, size: int) -> Drawn:
    """`data` as a PNG of `size` pixels square, on white.

    Raises Fault unless it is a PNG by its signature, of a sane size, whole, and decodes to the last pixel.
    """
    if not data.startswith(SIGNATURE):
        raise Fault("no PNG, by its first bytes", passing=True)
    if END not in data:
        raise Fault(DAMAGED, passing=True)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise Fault(BOMB)
            # The checksum of every chunk, up to the last; `render` decodes.
            opened.verify()
        picture = render(data, size)
    except Image.DecompressionBombError:
        raise Fault(BOMB) from None
    except UNREADABLE:
        picture = None
    if picture is None:
        raise Fault(DAMAGED, passing=True)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    png = buffer.getvalue()
    return Drawn(data, hashlib.sha256(data).hexdigest(), png, hashlib.sha256(png).hexdigest())
