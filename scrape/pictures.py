"""Draws a picture file of an emoji set, raster or SVG, as a square: RGB on white, or RGBA with its transparency."""

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from PIL import Image

from mlx_genmoji.extras import install_command
from mlx_genmoji.pictures import UNREADABLE, decode, on_white

from .errors import ScrapeError

# An SVG document with a longer side of more than this many times the shorter one would fill the memory when drawn.
MAX_ASPECT = 32

MARGINS = (0.0, 0.4)

LENGTH = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(px|pt|pc|mm|cm|in)?\s*", re.IGNORECASE)

# Pixels per unit of length in SVG.
UNITS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}


def render(data: bytes, size: int, margin: float = 0.0) -> Image.Image | None:
    """A raster file or an SVG document as `(size, size)` RGB: on white, aspect kept, centred.

    margin: the white at each side, a fraction of `size`. The default adds none, because the pictures of every set have
    a margin: Apple's has 3 % around a face, and half of its pictures touch a side; Fluent's has 6 %, Noto's 3 %.
    None where `data` is neither, is broken, or has more than `mlx_genmoji.pictures.MAX_PIXELS`.
    """
    inner = size - 2 * round(size * margin)
    try:
        picture = _read(data, inner, "white")
    except UNREADABLE:
        return None
    return _squared(on_white(picture), inner, Image.new("RGB", (size, size), "white"))


def render_cutout(data: bytes, size: int) -> Image.Image | None:
    """The same as `(size, size)` RGBA with the file's transparency; opaque where it has none."""
    try:
        picture = _read(data, size, None)
    except UNREADABLE:
        return None
    return _squared(picture.convert("RGBA"), size, Image.new("RGBA", (size, size)))


def _squared(picture: Image.Image, inner: int, square: Image.Image) -> Image.Image:
    """Scale `picture` to `inner` px at its longer side and paste it into the middle of `square`."""
    scale = inner / max(picture.size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if picture.size != fitted:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    square.paste(picture, ((square.width - fitted[0]) // 2, (square.height - fitted[1]) // 2))
    return square


def _read(data: bytes, size: int, background: str | None) -> Image.Image:
    """A picture file as `decode` returns it; an SVG document is drawn `size` px wide. Raises one of `UNREADABLE`."""
    return _rasterize(data, size, background) if data.lstrip().startswith(b"<") else decode(data, formats=None)


def _rasterize(data: bytes, size: int, background: str | None) -> Image.Image:
    try:
        import resvg_py
    except ModuleNotFoundError as error:
        raise ScrapeError(f"SVG needs resvg-py; install it with: {install_command('scrape')}") from error
    _, root = next(ElementTree.iterparse(io.BytesIO(data), ("start",)))
    width, height = _svg_size(root.attrib)
    if not 1 / MAX_ASPECT <= width / height <= MAX_ASPECT:
        raise Image.DecompressionBombError(f"an SVG document of {width} x {height}")
    # Without the system's fonts, so that every machine draws the same.
    png = resvg_py.svg_to_bytes(svg_string=data.decode(), width=size, background=background, skip_system_fonts=True)
    return decode(png, ("PNG",))


def _svg_size(attributes: Mapping[str, str]) -> tuple[float, float]:
    """Width and height as resvg reads them: from the attribute, or else from the view box. Raises ValueError."""
    box = (re.split(r"[\s,]+", attributes.get("viewBox", "").strip()) + [""] * 4)[2:4]
    lengths = []
    for name, fallback in zip(("width", "height"), box, strict=True):
        match = LENGTH.fullmatch(attributes.get(name, "")) or LENGTH.fullmatch(fallback)
        length = float(match[1]) * UNITS[(match[2] or "").lower()] if match else 0.0
        if not 0 < length < float("inf"):
            raise ValueError("an SVG document without a size")
        lengths.append(length)
    return lengths[0], lengths[1]
