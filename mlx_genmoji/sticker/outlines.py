"""The outlines of drawings that a model knows, for those whose edges are as white as the background.

A white ghost on white cannot be cut out by its pixels alone. A model that draws its training pictures draws their
outlines too, to about a pixel; `outlines.tsv` in its folder has them, made by `genmoji scrape outlines`. A line has the
label, the source of its picture, and the outline as `packed` gives it.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..errors import UserError

FILE = "outlines.tsv"

SIDE = 128
"""An outline's width and height, in pixels."""

SOFT = 0.6
"""The blur of an outline's edge, in pixels of `SIDE`."""

Mask = NDArray[np.bool_]


class Outlines:
    """The outlines of a model's folder, by label and source; none where the folder has no such file."""

    def __init__(self, folder: Path):
        """Raises UserError for a damaged file."""
        path = folder / FILE
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        try:
            self._packed = {(label, source): text for label, source, text in (line.split("\t") for line in lines)}
        except ValueError:
            raise UserError(f"{path} must have a label, a source and an outline on each line.") from None

    def of(self, caption: str, sources: Mapping[str, str]) -> Mask | None:
        """The outline of a caption's drawing, `(SIDE, SIDE)`, True in the figure; None where it is not known.

        caption: such as "ghost, 3d" or "bride, dark skin tone, 3d". sources: the source of each style.
        """
        rest, _, style = caption.rpartition(", ")
        label = rest.rpartition(", ")[0] if rest.endswith(" skin tone") else rest
        text = self._packed.get((label, sources.get(style, "")))
        return None if text is None else unpacked(text)


def packed(mask: Mask) -> str:
    """A mask as text: its bits, row by row, compressed, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def unpacked(text: str, size: tuple[int, int] = (SIDE, SIDE)) -> Mask:
    """The mask, `(height, width)`, that `packed` made into a text. size: (width, height). Raises UserError for other
    text.
    """
    width, height = size
    length = -(-width * height // 8)
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), length + 1)
    except (ValueError, zlib.error):
        data = b""
    if len(data) != length:
        raise UserError("An outline is damaged.")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=width * height).reshape(height, width).astype(bool)


def fitted(mask: Mask, size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask scaled to a picture's size (width, height) with a soft edge: `(height, width)`, from 0 to 1."""
    image: Any = Image.fromarray(mask.astype(np.uint8) * 255)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.GaussianBlur(SOFT * max(size) / SIDE))
    return np.asarray(image, np.float32) / np.float32(255)
