"""Any picture an emoji set holds, as one square picture: RGB on white, or RGBA as it was drawn."""

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from PIL import Image, ImageOps

from .errors import ScrapeError

# What Pillow and the XML parser raise for files that are broken, each in their own way.
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)

# A picture of more is refused before a pixel of it is decoded; a telephone's camera makes 50 million.
MAX_PIXELS = 64_000_000

# An SVG document that is longer than this is wide, or wider than long, is no sticker: drawing it would fill the memory.
MAX_ASPECT = 32

MARGINS = (0.0, 0.4)

LENGTH = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(px|pt|pc|mm|cm|in)?\s*", re.IGNORECASE)

# Pixels of the units that SVG measures in.
UNITS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}


def render(data: bytes, size: int, margin: float = 0.0) -> Image.Image | None:
    """A raster file or an SVG document as `(size, size)` RGB: on white, aspect kept, centred.

    `margin` is the white left free at each side, as a fraction of `size`. By default nothing is added, as every set has
    its own drawn in: Apple's is 3 % around a face, and half of its pictures touch a side; Fluent's is 6 %, Noto's 3 %.
    None where `data` is neither, is broken, or is larger than `MAX_PIXELS`.
    """
    inner = size - 2 * round(size * margin)
    try:
        picture = _rasterize(data, inner, "white") if data.lstrip().startswith(b"<") else _decode(data)
    except UNREADABLE:
        return None
    # Before any resampling: transparent pixels have colours of their own, which must not bleed into the edges.
    white = Image.new("RGBA", picture.size, "white")
    return _squared(
        Image.alpha_composite(white, picture).convert("RGB"), inner, Image.new("RGB", (size, size), "white")
    )


def render_cutout(data: bytes, size: int) -> Image.Image | None:
    """The same as `(size, size)` RGBA, with the transparency it was drawn with; opaque where the file has none."""
    try:
        picture = _rasterize(data, size, None) if data.lstrip().startswith(b"<") else _decode(data)
    except UNREADABLE:
        return None
    return _squared(picture, size, Image.new("RGBA", (size, size)))


def _squared(picture: Image.Image, inner: int, square: Image.Image) -> Image.Image:
    """`square` with `picture` in its middle, `inner` px at its longer side."""
    scale = inner / max(picture.size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if picture.size != fitted:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    square.paste(picture, ((square.width - fitted[0]) // 2, (square.height - fitted[1]) // 2))
    return square


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels")
        # A camera's photograph lies on its side, and says so.
        return ImageOps.exif_transpose(_eight_bit(opened)).convert("RGBA")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, which Pillow's own conversion would clip to white."""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value / 256).convert("L")


def _rasterize(data: bytes, size: int, background: str | None) -> Image.Image:
    try:
        import resvg_py
    except ModuleNotFoundError as error:
        raise ScrapeError('SVG needs resvg-py; install "mlx-genmoji[scrape]".') from error
    _, root = next(ElementTree.iterparse(io.BytesIO(data), ("start",)))
    width, height = _svg_size(root.attrib)
    if not 1 / MAX_ASPECT <= width / height <= MAX_ASPECT:
        raise Image.DecompressionBombError(f"an SVG document of {width} x {height}")
    # Without the system's fonts, so that every machine draws the same.
    png = resvg_py.svg_to_bytes(svg_string=data.decode(), width=size, background=background, skip_system_fonts=True)
    return _decode(png)


def _svg_size(attributes: Mapping[str, str]) -> tuple[float, float]:
    """Width and height as resvg takes them: each its own attribute, or else the view box's. Raises ValueError."""
    box = (re.split(r"[\s,]+", attributes.get("viewBox", "").strip()) + [""] * 4)[2:4]
    lengths = []
    for name, fallback in zip(("width", "height"), box, strict=True):
        match = LENGTH.fullmatch(attributes.get(name, "")) or LENGTH.fullmatch(fallback)
        length = float(match[1]) * UNITS[(match[2] or "").lower()] if match else 0.0
        if not 0 < length < float("inf"):
            raise ValueError("an SVG document that does not say how large it is")
        lengths.append(length)
    return lengths[0], lengths[1]
