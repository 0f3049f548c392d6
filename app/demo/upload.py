"""The picture that a visitor starts from: a data URI that the page's script made, or a program's."""

from __future__ import annotations

import base64
import binascii
import io
import re

from PIL import Image

from mlx_genmoji.errors import UserError
from mlx_genmoji.pictures import FORMATS, UNREADABLE, decode

MAX_BYTES = 40 * 1024
"""Of the file: a request has at most 64 KB. The page's script makes a JPEG of at most 36 KB."""

MAX_SIDE = 2048
"""In pixels: a small file can hold a picture that fills the memory."""

MEDIA_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
"""By the first bytes of a file."""

_DATA_URI = re.compile(r"data:image/(?:png|jpeg|webp);base64,")


def read_picture(uri: object) -> bytes:
    """The file in a data URI, checked but for its pixels.

    Raises UserError if it is no PNG, JPEG or WebP file, or too large.
    """
    start = _DATA_URI.match(uri) if isinstance(uri, str) else None
    if not isinstance(uri, str) or start is None:
        raise UserError("The picture must be a data URI of a PNG, JPEG or WebP file.")
    if len(uri) - start.end() > MAX_BYTES * 4 / 3 + 4:
        raise UserError(f"The picture's file is too large; at most {MAX_BYTES // 1024} KB are allowed.")
    try:
        data = base64.b64decode(uri[start.end() :], validate=True)
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            size = picture.size
    except (binascii.Error, *UNREADABLE):
        raise UserError("The picture cannot be read.") from None
    if max(size) > MAX_SIDE:
        raise UserError(f"The picture has {size[0]} x {size[1]} pixels; at most {MAX_SIDE} at a side are allowed.")
    return data


def picture_of(data: bytes) -> Image.Image:
    """The picture in a file of `read_picture`. Raises UserError if it is damaged."""
    try:
        return decode(data)
    except UNREADABLE:
        raise UserError("The picture cannot be read.") from None


def data_uri(data: bytes) -> str:
    """A file of `read_picture` as a data URI."""
    media_type = next(name for start, name in MEDIA_TYPES.items() if data.startswith(start))
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
