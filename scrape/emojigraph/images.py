"""Checks that fetched bytes are one whole PNG file of a reasonable size, and draws it in the dataset's form."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from ..dataset import Form, encode
from ..pictures import render
from .fetch_error import FetchError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The last chunk; Pillow reads a file without it.
END = b"\0\0\0\0IEND\xaeB`\x82"

# The most pixels of a fetched picture; each takes four bytes while it is drawn.
MAX_PIXELS = 2048 * 2048

DAMAGED = "a damaged or unfinished picture"
BOMB = f"a picture of more than {MAX_PIXELS:,} pixels: a decompression bomb"


@dataclass(frozen=True)
class Drawn:
    """A picture for the dataset, its SHA-256, and that of the fetched bytes."""

    png: bytes
    png_sha256: str
    sha256: str


def draw(data: bytes, form: Form) -> Drawn:
    """Draw fetched `data` as a PNG in `form`, on white.

    Raises FetchError unless `data` starts with PNG's signature, has at most `MAX_PIXELS`, is whole, and decodes.
    """
    if not data.startswith(SIGNATURE):
        raise FetchError("no PNG, by its first bytes", retryable=True)
    if END not in data:
        raise FetchError(DAMAGED, retryable=True)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise FetchError(BOMB)
            # Checks the checksum of each chunk; `render` decodes the pixels.
            opened.verify()
        picture = render(data, form.size, form.margin)
    except FetchError:
        raise
    except Image.DecompressionBombError:
        raise FetchError(BOMB) from None
    except Exception:
        # Damaged bytes make decoders raise anything.
        picture = None
    if picture is None:
        raise FetchError(DAMAGED, retryable=True)
    png = encode(picture)
    return Drawn(png, hashlib.sha256(png).hexdigest(), hashlib.sha256(data).hexdigest())
