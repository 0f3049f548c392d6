"""Layers onto white: one square picture, the figure centred in it."""

from collections.abc import Sequence
from math import cos, radians, sin
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from .layouts import Layer, Opening


class Frame(NamedTuple):
    """How a layout lies in a picture: pixels to a unit, and the pixel that the layout's origin is at."""

    scale: float
    x: float
    y: float


def frame(layers: Sequence[Layer], size: int, margin: float) -> Frame:
    """The whole layout centred in `size` px square, with `margin` (a fraction) free at each side."""
    boxes = [bounds(layer) for layer in layers]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    scale = size * (1 - 2 * margin) / max(right - left, bottom - top)
    return Frame(scale, (size - scale * (left + right)) / 2, (size - scale * (top + bottom)) / 2)


def draw(layers: Sequence[Layer], size: int, frame: Frame) -> Image.Image:
    """`layers`, back to front, as `(size, size)` RGB on white."""
    scale, x0, y0 = frame
    canvas = Image.new("RGB", (size, size), "white")
    for layer in layers:
        width, height = max(round(layer.width * scale), 1), max(round(layer.height * scale), 1)
        image = layer.sprite.image.resize((width, height), Image.Resampling.BICUBIC)
        if layer.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if layer.turned:
            image = image.convert("RGBa").rotate(-layer.turned, Image.Resampling.BILINEAR, expand=True).convert("RGBA")
        x = round(x0 + (layer.left + layer.width / 2) * scale - image.width / 2)
        y = round(y0 + (layer.top + layer.height / 2) * scale - image.height / 2)
        mask = image.getchannel("A")
        if layer.inside:
            mask = ImageChops.multiply(mask, _above(layer.inside, scale, x0 - x, y0 - y, image.size))
        canvas.paste(image.convert("RGB"), (x, y), mask)
    return canvas


def bounds(layer: Layer) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is shown of a layer, in the layout's units."""
    x, y = layer.left + layer.width / 2, layer.top + layer.height / 2
    angle = radians(layer.turned)
    half_width = (abs(cos(angle)) * layer.width + abs(sin(angle)) * layer.height) / 2
    half_height = (abs(sin(angle)) * layer.width + abs(cos(angle)) * layer.height) / 2
    bottom = y + half_height
    if layer.inside:
        bottom = min(bottom, layer.inside.y + layer.inside.half_height)
    return x - half_width, y - half_height, x + half_width, bottom


def _above(opening: Opening, scale: float, x: float, y: float, size: tuple[int, int]) -> Image.Image:
    """A mask, 255 above the front edge of an opening. x, y: where the layout's origin lies in the image, in pixels."""
    columns = (np.arange(size[0]) + 0.5 - x) / scale - opening.x
    reach = np.sqrt(np.clip(1 - (columns / opening.half_width) ** 2, 0, 1))
    edge = (opening.y + opening.half_height * reach) * scale + y
    rows = np.arange(size[1])[:, None] + 0.5
    return Image.fromarray(np.round(255 * np.clip(edge - rows + 0.5, 0, 1)).astype(np.uint8))
