"""Checks that bytes are one whole PNG picture, of a size somebody would draw an emoji in, and draws it."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from ..dataset import Form, encode
from ..pictures import render
from .faults import Fault

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The last chunk, which Pillow does not miss.
END = b"\0\0\0\0IEND\xaeB`\x82"

# The most pixels of a picture; four bytes each while it is drawn.
MOST_PIXELS = 2048 * 2048

DAMAGED = "a damaged or unfinished picture"
BOMB = f"a picture of more than {MOST_PIXELS:,} pixels: a decompression bomb"


@dataclass(frozen=True)
class Drawn:
    """A picture drawn for the dataset, with its SHA-256 and that of the bytes it was drawn from."""

    png: bytes
    png_sha256: str
    sha256: str


def draw(data: bytes, form: Form) -> Drawn:
    """`data` as a PNG in `form`, on white.

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
        picture = render(data, form.size, form.margin)
    except Fault:
        raise
    except Image.DecompressionBombError:
        raise Fault(BOMB) from None
    except Exception:
        # Whatever a decoder trips over in a stranger's bytes, the bytes are at fault.
        picture = None
    if picture is None:
        raise Fault(DAMAGED, passing=True)
    png = encode(picture)
    return Drawn(png, hashlib.sha256(png).hexdigest(), hashlib.sha256(data).hexdigest())
