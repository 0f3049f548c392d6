"""Pictures of any origin: read with care, and brought to the size and colours that a model takes."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import UserError, quoted

FORMATS = ("PNG", "JPEG", "WEBP")

MAX_PIXELS = 64_000_000
"""A larger picture is refused before a pixel is decoded; a phone's camera makes 50 million."""

MAX_SIDE = 2048
"""`open_picture` scales a larger picture down; no sticker target is larger than a third of this."""

UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)
"""What Pillow raises for broken files, each format in its own way."""

_MASKED = 128
"""A mask's pixel from this value on is repainted."""


def decode(source: Path | bytes, formats: tuple[str, ...] | None = FORMATS) -> Image.Image:
    """A picture file, as `normalised` returns it; of an animation the first frame.

    formats: Pillow's names; None is all that Pillow reads. Raises one of `UNREADABLE`, also for more than `MAX_PIXELS`.
    """
    with warnings.catch_warnings():
        # MAX_PIXELS is the limit; Pillow warns from a smaller size on.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise Image.DecompressionBombError(
                    f"it has {opened.width} x {opened.height} pixels, and {MAX_PIXELS:,} are the most"
                )
            return normalised(opened)


def normalised(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where any pixel is transparent: 8 bits a channel, turned upright as its EXIF orientation says."""
    upright = ImageOps.exif_transpose(_eight_bit(image))
    return upright.convert("RGBA" if has_transparency(upright) else "RGB")


def open_picture(path: Path) -> Image.Image:
    """A PNG, JPEG or WebP file as `decode` returns it, at most `MAX_SIDE` px at a side.

    Raises UserError, which names the file, where it cannot be read.
    """
    name = quoted(path)
    try:
        picture = decode(path)
    except FileNotFoundError:
        raise UserError(f"There is no picture {name}.") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder; name the pictures in it.") from None
    except UNREADABLE as error:
        raise UserError(f"{name} is no {', '.join(FORMATS)} picture that can be read: {quoted(error)}.") from None
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return picture


def has_transparency(picture: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    if not picture.has_transparency_data:
        return False
    least = picture.convert("RGBA").getchannel("A").getextrema()[0]
    return isinstance(least, int) and least < 255


def on_white(picture: Image.Image) -> Image.Image:
    """RGB: transparent pixels become white.

    Before any resampling: transparent pixels have colours of their own, which must not bleed into the edges.
    """
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def fit_picture(image: Image.Image, height: int, width: int) -> Image.Image:
    """RGB (height, width) on white: `normalised`, transparency flattened, aspect ratio kept, centred."""
    picture = on_white(normalised(image))
    return ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS, "white")


def fit_mask(mask: Image.Image, height: int, width: int) -> Image.Image:
    """Mode L, 0 or 255, (height, width), laid over a picture as `fit_picture` lays it; what is around it is 0."""
    upright = ImageOps.exif_transpose(_eight_bit(mask)).convert("L")
    return ImageOps.pad(upright, (width, height), Image.Resampling.NEAREST, 0).point(
        lambda value: 255 if value >= _MASKED else 0
    )


def fingerprint(picture: Image.Image) -> str:
    """SHA-256 of the pixels; a recipe names by it the picture that was used."""
    return hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, which Pillow's own conversion would clip to white."""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value / 256).convert("L")
