"""Measures of a sticker that need no recogniser: white border, single figure, nearest training picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# What is at least this bright in every channel is white.
WHITE = 244

# A border is white where this share of the outermost pixels is; a figure is one where this share of it is connected.
BORDER, CONNECTED = 0.99, 0.99

# Pictures are compared this small.
SIDE = 32


def has_white_border(picture: Image.Image) -> bool:
    white = np.asarray(picture.convert("RGB")).min(-1) >= WHITE
    edge = np.concatenate([white[0], white[-1], white[1:-1, 0], white[1:-1, -1]])
    return bool(edge.mean() >= BORDER)


def is_one_figure(picture: Image.Image) -> bool:
    """Whether the pixels that are not white are one 8-connected part, specks aside. False for a blank picture."""
    figure = np.asarray(picture.convert("RGB")).min(-1) < WHITE
    return bool(figure.any() and largest_component(figure) >= CONNECTED * figure.sum())


def largest_component(mask: NDArray[np.bool_]) -> int:
    """The number of pixels of the largest 8-connected part of a mask."""
    left, largest = mask.copy(), 0
    while left.any():
        part = np.zeros_like(mask)
        part[np.unravel_index(int(left.argmax()), mask.shape)] = True
        size = 0
        while (grown := int(part.sum())) > size:
            size = grown
            # Several steps at once: each costs little, counting does not.
            for _ in range(8):
                part = _dilated(part) & left
        largest = max(largest, size)
        left &= ~part
    return largest


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    tall = wide.copy()
    tall[1:] |= wide[:-1]
    tall[:-1] |= wide[1:]
    return tall


def small(picture: Image.Image) -> NDArray[np.float32]:
    """A picture as it is compared with others: cropped to its figure, `SIDE` px square, flat, in [0, 1]."""
    rgb = picture.convert("RGB")
    figure = Image.fromarray(np.where(np.asarray(rgb).min(-1) < WHITE, 255, 0).astype(np.uint8))
    square = rgb.crop(figure.getbbox() or (0, 0, *rgb.size)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(square).astype(np.float32).reshape(-1) / 255


def nearest(pictures: Sequence[Image.Image], others: Iterable[Image.Image]) -> list[tuple[float, Image.Image]]:
    """For each picture: the smallest root mean square difference to one of `others`, and that picture."""
    wanted = np.stack([small(picture) for picture in pictures])
    best: list[tuple[float, Image.Image]] = [(float("inf"), picture) for picture in pictures]
    for other in others:
        distances = np.sqrt(((wanted - small(other)) ** 2).mean(1))
        for index in np.flatnonzero(distances < [distance for distance, _ in best]):
            best[index] = (float(distances[index]), other)
    return best


def sheet(
    pictures: Sequence[Image.Image],
    neighbours: Sequence[tuple[float, Image.Image]],
    captions: Sequence[str],
    columns: int = 10,
) -> Image.Image:
    """A contact sheet: each picture beside its nearest one, above its caption and their distance."""
    side, width, height = 72, 2 * 72 + 8, 72 + 28
    font = ImageFont.load_default(size=10)
    canvas = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    pen = ImageDraw.Draw(canvas)
    for index, (picture, (distance, other), caption) in enumerate(zip(pictures, neighbours, captions, strict=True)):
        left, top = index % columns * width, index // columns * height
        for place, shown in enumerate((picture, other)):
            canvas.paste(
                shown.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (left + place * side, top)
            )
        pen.line((left + side, top + 8, left + side, top + side - 8), "#d1d5db")
        pen.text((left + 2, top + side), f"{caption[:26]}\n{distance:.3f}", "black", font, spacing=1)
    return canvas
