"""Checks each sticker target with fifty stickers of the built-in model: whether files open, their pixels and bytes.

The sizes and limits are those of `tests/mlx_genmoji/sticker/known_limits.py`, written independently of the library's
table.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "mlx_genmoji" / "sticker"))

import pillow_heif
from bench_pictures import read_captions
from known_limits import TAKEN
from PIL import Image
from row import Row

from mlx_genmoji import Genmoji

COUNT = 50
GLYPH = [(160, 160), (40, 40), (64, 64), (96, 96), (320, 320)]


def rows() -> Iterator[Row]:
    genmoji = Genmoji.load()
    captions = read_captions()[:: len(read_captions()) // COUNT][:COUNT]
    stickers = [genmoji.generate(caption.text, seed=seed)[0] for seed, caption in enumerate(captions)]
    for kind in (*TAKEN, "ios-glyph"):
        exports = [sticker.export(kind, "pig") for sticker in stickers]
        good = sum(right(kind, files) for files in exports)
        largest = max(len(data) for files in exports for data in files.values())
        yield Row(
            what=f"sticker target {kind}: opens, right pixels and bytes, of {COUNT} generated stickers",
            goal=str(COUNT),
            measured=str(good),
            met=good == COUNT,
            note=f"largest file {largest:,} bytes",
        )


def right(kind: str, files: dict[str, bytes]) -> bool:
    if kind == "ios-glyph":
        return [image.size for image in pillow_heif.open_heif(io.BytesIO(files["pig.heic"]))] == GLYPH
    return set(files) == set(TAKEN[kind]) and all(fits(files[name], *taken) for name, taken in TAKEN[kind].items())


def fits(data: bytes, format: str, size: tuple[int, int] | None, most: int) -> bool:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format == format and len(data) <= most and (image.size == size or max(image.size) == 512)
