"""Pictures of any origin, read with care: what is no picture, or too large to decode, ends in one sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import UserError, one_line

FORMATS = ("PNG", "JPEG", "WEBP")

# A picture of more is refused before a pixel of it is decoded; a telephone's camera makes 50 million.
MAX_PIXELS = 64_000_000

# No target is larger than a third of this.
MAX_SIDE = 2048


def open_picture(path: Path) -> Image.Image:
    """A PNG, JPEG or WebP file as RGB, or as RGBA where it has transparency; at most `MAX_SIDE` px at a side.

    Of an animation, the first picture. Raises UserError, which names the file, where it cannot be read.
    """
    name = one_line(path)
    try:
        with warnings.catch_warnings():
            # MAX_PIXELS is the limit here; Pillow warns from a size on that a telephone's camera makes.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise UserError(
                        f"{name} has {opened.width} x {opened.height} pixels, and {MAX_PIXELS:,} are the most."
                    )
                # A camera's photograph lies on its side, and says so.
                picture = ImageOps.exif_transpose(_eight_bit(opened))
    except FileNotFoundError:
        raise UserError(f"There is no picture {name}.") from None
    except IsADirectoryError:
        raise UserError(f"{name} is a folder; name the pictures in it.") from None
    except (OSError, EOFError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is no {', '.join(FORMATS)} picture that can be read: {one_line(error)}.") from None
    picture = picture.convert("RGBA" if has_transparency(picture) else "RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return picture


def has_transparency(picture: Image.Image) -> bool:
    """Whether any pixel is not solid."""
    if not picture.has_transparency_data:
        return False
    least = picture.convert("RGBA").getchannel("A").getextrema()[0]
    return isinstance(least, int) and least < 255


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, which Pillow's own conversion would clip to white."""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value / 256).convert("L")
