"""Draws the layers of a scene as one square picture, and computes which part of the plane the picture shows."""

from collections.abc import Iterator, Sequence
from math import cos, radians, sin
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from .layers import Layer, Opening, Scene


class Frame(NamedTuple):
    """The mapping from a layout to a picture: pixels per unit, and the layout's origin in pixels."""

    scale: float
    x: float
    y: float


def frame(scene: Scene, size: int, margin: float) -> Frame:
    """The frame that shows a scene's window in a picture of `size` x `size` px.

    If layers extend beyond the window, the window grows about the middle of its lower edge until all layers fit, with
    `margin` (a fraction of the picture) free at each side.
    """
    left, top, side = scene.window
    middle, floor = left + side / 2, top + side
    boxes = [bounds(layer) for layer in scene.layers]
    # The window must be this wide for the layers that reach farthest from its middle.
    across = max(max(middle - box[0], box[2] - middle) for box in boxes) / (0.5 - margin)
    highest, lowest = min(box[1] for box in boxes), max(box[3] for box in boxes)
    side = max(side, across, (floor - highest) / (1 - margin))
    if lowest > floor - margin * side:
        side = max(side, (lowest - highest) / (1 - 2 * margin))
        floor = lowest + margin * side
    return Frame(size / side, size * (0.5 - middle / side), size * (1 - floor / side))


def draw(layers: Sequence[Layer], size: int, frame: Frame) -> Image.Image:
    """Draw `layers`, given back to front: RGB on white, `size` x `size` px."""
    canvas = Image.new("RGB", (size, size), "white")
    for image, corner, mask in _placed(layers, frame):
        canvas.paste(image.convert("RGB"), corner, mask)
    return canvas


def cut(layers: Sequence[Layer], size: int, frame: Frame) -> Image.Image:
    """Draw `layers`, given back to front: RGBA, transparent around the figure, `size` x `size` px."""
    uncovered = Image.new("L", (size, size), 255)
    for _, corner, mask in _placed(layers, frame):
        uncovered.paste(0, corner, mask)
    white = np.asarray(uncovered).astype(np.float32)[..., None]
    colours = 255 * (np.asarray(draw(layers, size, frame)) - white) / np.maximum(255 - white, 1)
    return Image.fromarray(np.round(np.dstack([np.clip(colours, 0, 255), 255 - white])).astype(np.uint8), "RGBA")


def _placed(layers: Sequence[Layer], frame: Frame) -> Iterator[tuple[Image.Image, tuple[int, int], Image.Image]]:
    """For each layer: its image at the picture's scale, the pixel of its upper left corner, its mask of visible pixels.

    A mask is 0 to 255, of the size of its image.
    """
    scale, x0, y0 = frame
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
        yield image, (x, y), mask


def bounds(layer: Layer) -> tuple[float, float, float, float]:
    """The box of the visible part of a layer: left, top, right and bottom, in the layout's units."""
    x, y = layer.left + layer.width / 2, layer.top + layer.height / 2
    angle = radians(layer.turned)
    half_width = (abs(cos(angle)) * layer.width + abs(sin(angle)) * layer.height) / 2
    half_height = (abs(sin(angle)) * layer.width + abs(cos(angle)) * layer.height) / 2
    bottom = y + half_height
    if layer.inside:
        bottom = min(bottom, layer.inside.y + layer.inside.half_height)
    return x - half_width, y - half_height, x + half_width, bottom


def _above(opening: Opening, scale: float, x: float, y: float, size: tuple[int, int]) -> Image.Image:
    """The mask of an image, `size` px, that is 255 above the front edge of an opening and 0 below.

    scale: pixels per unit. x, y: the layout's origin in the image, in pixels.
    """
    columns = (np.arange(size[0]) + 0.5 - x) / scale - opening.x
    reach = np.sqrt(np.clip(1 - (columns / opening.half_width) ** 2, 0, 1))
    edge = (opening.y + opening.half_height * reach) * scale + y
    rows = np.arange(size[1])[:, None] + 0.5
    return Image.fromarray(np.round(255 * np.clip(edge - rows + 0.5, 0, 1)).astype(np.uint8))
