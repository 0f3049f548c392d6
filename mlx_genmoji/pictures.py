"""Pictures of any origin: read with care, and brought to the size and colours that a model takes.

This is the one reader for `--image`, `--mask`, `genmoji stickers`, `genmoji scrape` and `genmoji train`: upright, in
sRGB, 8 bits a channel, with its transparency.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .errors import UserError, quoted

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP")
"""Those that are read for stickers and as a start; AVIF where Pillow has it, HEIF (HEIC) with pillow-heif."""

ALL_FORMATS = (*FORMATS, "DDS", "ICNS", "ICO", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA")
"""Those that are read for datasets. Not EPS, for which Pillow starts Ghostscript."""

MAX_PIXELS = 64_000_000
"""A larger picture is refused before a pixel is decoded; a phone's camera makes 50 million."""

MAX_SIDE = 2048
"""`open_picture` scales a larger picture down; no sticker target is larger than a third of this."""

UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)
"""What Pillow raises for broken files, each format in its own way."""

OPAQUE = 250
"""A pixel of at least this alpha counts as opaque: lossy and rescaled pictures have 253 and 254 all over."""

BLANK = 250
"""A picture with no pixel darker than this in any channel, on white, shows nothing."""

MAX_FRAMES = 60
"""How many frames of an animation are looked at for one that shows something."""

_PROFILE_ERROR = 2
"""A colour profile that changes no test colour by more levels than this is sRGB under another name."""

_MASKED = 128
"""A mask's pixel from this value on is repainted."""


def decode(source: Path | bytes, formats: tuple[str, ...] | None = FORMATS) -> Image.Image:
    """A picture file, as `normalised` returns it; of an animation the first frame that shows something.

    formats: Pillow's names; None is `ALL_FORMATS`. Raises one of `UNREADABLE`, also for more than `MAX_PIXELS`.
    """
    _prepare_heif(source)
    with warnings.catch_warnings():
        # MAX_PIXELS is the limit; Pillow warns from a smaller size on.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        names = _known(ALL_FORMATS if formats is None else formats)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=names) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise Image.DecompressionBombError(
                    f"it has {opened.width} x {opened.height} pixels, and {MAX_PIXELS:,} are the most"
                )
            first = normalised(opened)
            frames = min(getattr(opened, "n_frames", 1), MAX_FRAMES)
            for number in range(1, frames if is_blank(first) else 0):
                opened.seek(number)
                if not is_blank(frame := normalised(opened)):
                    return frame
            return first


def normalised(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where any pixel is transparent: sRGB, 8 bits a channel, upright as its EXIF orientation says."""
    upright = ImageOps.exif_transpose(_in_srgb(_eight_bit(image)))
    return upright.convert("RGBA" if has_transparency(upright) else "RGB")


def open_picture(path: Path) -> Image.Image:
    """A file of one of `FORMATS` as `decode` returns it, at most `MAX_SIDE` px at a side.

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
        raise UserError(f"{name} is no picture that can be read ({', '.join(FORMATS)}): {quoted(error)}.") from None
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return picture


def has_transparency(picture: Image.Image) -> bool:
    """Whether any pixel is not opaque (`OPAQUE`)."""
    if not picture.has_transparency_data:
        return False
    least = picture.convert("RGBA").getchannel("A").getextrema()[0]
    return isinstance(least, int) and least < OPAQUE


def is_blank(picture: Image.Image) -> bool:
    """Whether a picture shows nothing on white: it is wholly clear, or white."""
    extrema: Any = on_white(picture).getextrema()
    return all(least >= BLANK for least, _ in extrema)


def on_white(picture: Image.Image) -> Image.Image:
    """RGB: transparent pixels become white.

    Before any resampling: transparent pixels have colours of their own, which must not bleed into the edges.
    """
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def fit_picture(image: Image.Image, height: int, width: int) -> Image.Image:
    """RGB (height, width) on white: `normalised`, transparency flattened, aspect ratio kept, centred."""
    return _padded(on_white(normalised(image)), (width, height), Image.Resampling.LANCZOS, "white")


def fit_mask(mask: Image.Image, height: int, width: int) -> Image.Image:
    """Mode L, 0 or 255, (height, width), laid over a picture as `fit_picture` lays it; what is around it is 0."""
    upright = ImageOps.exif_transpose(_eight_bit(mask)).convert("L")
    return _padded(upright, (width, height), Image.Resampling.NEAREST, 0).point(
        lambda value: 255 if value >= _MASKED else 0
    )


def fingerprint(picture: Image.Image) -> str:
    """SHA-256 of the pixels; a recipe names by it the picture that was used."""
    return hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()


def _padded(picture: Image.Image, size: tuple[int, int], method: Image.Resampling, color: Any) -> Image.Image:
    """`ImageOps.pad`, which fails on pictures so thin that a side would be scaled to less than half a pixel."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    if min(picture.width * scale, picture.height * scale) < 1:
        picture = picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), method)
    return ImageOps.pad(picture, size, method, color)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, which Pillow's own conversion would clip to white; and its transparent value.

    Source of the last: the PNG specification, tRNS.
    """
    clear = picture.info.get("transparency")
    if not picture.mode.startswith("I"):
        if picture.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
            # RGB of 16 bits, of which Pillow keeps the upper eight.
            picture = picture.copy()
            picture.info["transparency"] = tuple(value >> 8 for value in clear)
        return picture
    grey = picture.convert("I")
    eight = grey.point(lambda value: value / 256).convert("L")
    eight.info.pop("transparency", None)
    if isinstance(clear, int):
        opaque = Image.fromarray(np.where(np.asarray(grey) == clear, 0, 255).astype(np.uint8))
        eight = Image.merge("LA", (eight, opaque))
    eight.info |= {key: picture.info[key] for key in ("icc_profile", "exif") if key in picture.info}
    return eight


def _in_srgb(picture: Image.Image) -> Image.Image:
    """A picture with a colour profile, such as an iPhone's Display P3, in sRGB; others as they are.

    Converted by LittleCMS; a profile that is damaged, or of another kind of picture, is passed over.
    """
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    from PIL import ImageCms

    if picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture.convert(picture.mode.removesuffix("A")) if alpha is not None else picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        kind = source.profile.xcolor_space.strip()
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(kind) != colours.mode:
            return picture
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, colours.mode, "RGB")
        if colours.mode != "CMYK" and _is_srgb(transform, colours.mode):
            return picture
        converted = ImageCms.applyTransform(colours, transform)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return picture
    if converted is None:
        return picture
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info = {key: value for key, value in picture.info.items() if key not in ("icc_profile", "transparency")}
    return converted


def _is_srgb(transform: Any, mode: str) -> bool:
    """Whether a transform to sRGB leaves colours as they are."""
    from PIL import ImageCms

    steps = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    probe = Image.fromarray(colours) if mode == "RGB" else Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    expected = np.asarray(probe.convert("RGB"), int)
    changed = ImageCms.applyTransform(probe, transform)
    return changed is not None and int(np.abs(np.asarray(changed, int) - expected).max()) <= _PROFILE_ERROR


def _prepare_heif(source: Path | bytes) -> None:
    """Let Pillow read HEIC files with pillow-heif. Raises OSError for such a file where that is not installed."""
    try:
        head = source[:12] if isinstance(source, bytes) else _head(source)
    except OSError:
        # Opening the file says why.
        return
    if head[4:8] != b"ftyp" or head[8:12] in (b"avif", b"avis"):
        return
    if not _register_heif():
        from .extras import install_command

        raise OSError(f"HEIC needs pillow-heif; install it with: {install_command('heic')}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


@cache
def _register_heif() -> bool:
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def _known(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those that this Pillow reads."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)
