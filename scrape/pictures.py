"""Any picture an emoji set holds, as one square RGB picture on white."""

import io

from PIL import Image

from .errors import ScrapeError

# What Pillow raises for files that are broken, each in their own way.
UNREADABLE = (OSError, EOFError, SyntaxError, Image.DecompressionBombError)


def render(data: bytes, size: int) -> Image.Image | None:
    """A raster file or an SVG document as `(size, size)` RGB: on white, aspect kept, centred.

    None where `data` is neither.
    """
    try:
        picture = _rasterize(data, size) if data.lstrip().startswith(b"<") else _decode(data)
    except UNREADABLE:
        return None
    scale = size / max(picture.size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if picture.size != fitted:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (size, size), "white")
    square.paste(picture, ((size - fitted[0]) // 2, (size - fitted[1]) // 2))
    return square


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    # Before any resampling: transparent pixels have colours of their own, which must not bleed into the edges.
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _rasterize(data: bytes, size: int) -> Image.Image:
    try:
        import resvg_py
    except ModuleNotFoundError as error:
        raise ScrapeError('SVG needs resvg-py; install "mlx-genmoji[scrape]".') from error
    try:
        # Without the system's fonts, so that every machine draws the same.
        png = resvg_py.svg_to_bytes(svg_string=data.decode(), width=size, background="white", skip_system_fonts=True)
    except ValueError as error:
        raise OSError(f"not an SVG document: {error}") from error
    return _decode(png)
