"""Stickers: cut out, saved, and exported as the files that messengers, phones and web pages take.

The code for cutting out and exporting is imported when it is first used, not with this module.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from ..errors import UserError
from ..files import write_bytes

if TYPE_CHECKING:
    from ..pictures import open_picture
    from .animation import Stage
    from .targets import TARGETS, Target, target_named

__all__ = [
    "RECIPE_KEY",
    "SUFFIXES",
    "TARGETS",
    "Sticker",
    "Target",
    "open_picture",
    "read_recipe",
    "target_named",
]

RECIPE_KEY = "genmoji"
OUTLINE_KEY = "genmoji-outline"

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".heic")
JPEG_QUALITY = 95


OUTLINES_FILE = "outlines.tsv"
"""The outlines of drawings that a model knows, for those whose edges are as white as the background.

A white ghost on white cannot be cut out by its pixels alone. A model that draws its training pictures draws their
outlines too, to about a pixel; this file in its folder has them, made by `genmoji scrape outlines`. A line has the
label, the source of its picture, and the outline as `packed` gives it.
"""

SIDE = 128
"""An outline's width and height, in pixels."""

SOFT = 0.6
"""The blur of an outline's edge, in pixels of `SIDE`."""

Mask = NDArray[np.bool_]


@dataclass
class Sticker:
    """One picture and the recipe that reproduces it."""

    image: Image.Image
    """RGB on white; or RGBA, if it has transparency already."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """The arguments that it was drawn with, such as prompt, seed and steps, and the model's name and hash."""
    outline: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)
    """The pixels of the figure, `(H, W)`, if they are known; a white figure on white can then be cut out too."""
    stage: Callable[[], Stage | None] | None = field(default=None, repr=False, compare=False)
    """Returns the parts of a combination as layers, for `animated`; None for a picture in one piece."""

    @classmethod
    def open(cls, path: str | Path) -> Sticker:
        """Read a picture of any format that `pictures.open_picture` reads; a PNG of `save` has its recipe and outline.

        Raises UserError if it cannot be read.
        """
        from ..pictures import open_picture

        image = open_picture(Path(path))
        if Path(path).suffix.lower() != ".png":
            return cls(image)
        try:
            with Image.open(path) as file:
                recipe, outline = file.info.get(RECIPE_KEY), file.info.get(OUTLINE_KEY)
            read = json.loads(recipe) if isinstance(recipe, str) else {}
        except (OSError, ValueError):
            return cls(image)
        return cls(image, read if isinstance(read, dict) else {}, _read_outline(outline, image.size))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about parts of the prompt that were left out or drawn as something else."""
        return tuple(self.recipe.get("notes", ()))

    def cutout(self) -> Image.Image:
        """The picture as RGBA, transparent around the figure, with a soft edge; white inside the figure stays.

        A picture that already has transparency keeps it unchanged. See `mlx_genmoji.sticker.cutout`.
        """
        from ..pictures import has_transparency

        if has_transparency(self.image):
            return self.image.convert("RGBA")
        from .cutout import cut_out

        outline = None
        if self.outline is not None:
            outline = fitted(self.outline, self.image.size)
        return Image.fromarray(cut_out(np.asarray(self.image.convert("RGB")), outline), "RGBA")

    def export(self, kind: str, name: str = "sticker", recipe: bool = True) -> dict[str, bytes]:
        """The files of one of `TARGETS` (`slack`, `telegram`, ...): file names, which begin with `name`, and bytes.

        They are transparent, trimmed to the figure, of the target's size in pixels and within its limit in bytes. An
        iOS glyph has the prompt as its description unless `recipe` is false; the other kinds contain no recipe. Raises
        UserError for an unknown kind, an empty picture, or one that cannot be compressed to the limit.
        """
        from .targets import export, target_named

        return export(self.cutout(), target_named(kind), name, self._description() if recipe else "")

    def export_file(self, kind: str, name: str = "sticker", recipe: bool = True) -> tuple[str, bytes]:
        """The files of `export` as one, its name and its bytes: a zip if the target has several."""
        from .targets import zipped

        return zipped(self.export(kind, name, recipe), f"{name}-{kind}.zip")

    def animated(self, motion: str, suffix: str = ".webp", target: str | None = None) -> bytes:
        """The sticker in motion, as the bytes of an animated, transparent file that loops.

        motion: wiggle, bounce, float or blink; the parts of a drawn combination move in it. suffix: .webp, .png (APNG),
        .gif or .webm, of 320 px; target: one of `animation.CLIPS` (`slack`, `telegram`, ...) instead, whose format,
        size and limit in bytes are kept. Raises UserError for an unknown name, and where .webm finds no ffmpeg.
        """
        from .animation import FREE, SIDE, SUFFIXES, Clip, clip_named, encode, frames, motion_named

        if target is None and suffix not in SUFFIXES:
            raise UserError(f"An animated sticker cannot be saved as {suffix}; use {', '.join(SUFFIXES)}.")
        clip = Clip(SUFFIXES[suffix], SIDE, FREE) if target is None else clip_named(target)
        stage = None if self.stage is None else self.stage()
        return encode(frames(self.cutout(), stage, motion_named(motion)), clip)

    def save(self, path: str | Path, recipe: bool = True, transparent: bool = False) -> None:
        """Write the picture in the format of the path's suffix (see `encoded`); the file is replaced as a whole."""
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
        write_bytes(path, self.encoded(path.suffix.lower(), recipe, transparent))

    def encoded(self, suffix: str = ".png", recipe: bool = True, transparent: bool = False) -> bytes:
        """The bytes of a file of the type that `suffix`, one of `SUFFIXES`, names.

        `.png` has the recipe in its metadata unless `recipe` is false; `.webp` is lossless and has no recipe; both are
        on white unless `transparent`. `.jpg` is always on white and has no recipe. `.heic` is the image of an iOS
        adaptive glyph, always transparent, with the prompt as its description unless `recipe` is false. Raises
        UserError for any other suffix.
        """
        if suffix not in SUFFIXES:
            raise UserError(f"A sticker cannot be saved as {suffix}; use {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
        if suffix == ".heic":
            from .glyph import glyph

            return glyph(self.cutout(), self._description() if recipe else "")
        buffer = io.BytesIO()
        image = self.cutout() if transparent else self.image
        if suffix == ".webp":
            image.save(buffer, format="WEBP", lossless=True)
        elif suffix in (".jpg", ".jpeg"):
            if transparent:
                raise UserError("A JPEG has no transparency: save the sticker as .png or .webp.")
            image.convert("RGB").save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        else:
            info = PngInfo()
            if recipe:
                info.add_itxt(RECIPE_KEY, json.dumps(self.recipe, ensure_ascii=False))
            if self.outline is not None and not transparent:
                info.add_text(OUTLINE_KEY, packed(self.outline))
            image.save(buffer, format="PNG", pnginfo=info)
        return buffer.getvalue()

    def _description(self) -> str:
        prompt = self.recipe.get("prompt")
        return prompt if isinstance(prompt, str) else ""


def _read_outline(text: object, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The outline in a PNG's metadata; None where there is none, or the picture was changed since."""
    if not isinstance(text, str):
        return None
    with suppress(UserError):
        return unpacked(text, size)
    return None


class Outlines:
    """The outlines of a model's folder, by label and source, read when first asked for; none without such a file."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    @cached_property
    def _packed(self) -> dict[tuple[str, str], str]:
        """The outlines as text. Raises UserError for a damaged file."""
        path = None if self.folder is None else self.folder / OUTLINES_FILE
        lines = path.read_text("utf-8").splitlines() if path is not None and path.exists() else []
        try:
            return {(label, source): text for label, source, text in (line.split("\t") for line in lines)}
        except ValueError:
            raise UserError(f"{path} must have a label, a source and an outline on each line.") from None

    def of(self, caption: str, sources: Mapping[str, str], size: tuple[int, int] = (SIDE, SIDE)) -> Mask | None:
        """The outline of a caption's drawing, `(height, width)`, True in the figure; None where it is not known.

        caption: such as "ghost, 3d" or "bride, dark skin tone, 3d". sources: the source of each style. size: the
        picture's width and height.
        """
        rest, _, style = caption.rpartition(", ")
        label = rest.rpartition(", ")[0] if rest.endswith(" skin tone") else rest
        text = self._packed.get((label, sources.get(style, "")))
        if text is None:
            return None
        mask = unpacked(text)
        return mask if size == (SIDE, SIDE) else fitted(mask, size) >= 0.5


def packed(mask: Mask) -> str:
    """A mask as text: its bits, row by row, compressed, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def unpacked(text: str, size: tuple[int, int] = (SIDE, SIDE)) -> Mask:
    """The mask, `(height, width)`, that `packed` made into a text. size: (width, height). Raises UserError for other
    text.
    """
    width, height = size
    length = -(-width * height // 8)
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), length + 1)
    except (ValueError, zlib.error):
        data = b""
    if len(data) != length:
        raise UserError("An outline is damaged.")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=width * height).reshape(height, width).astype(bool)


def fitted(mask: Mask, size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask scaled to a picture's size (width, height) with a soft edge: `(height, width)`, from 0 to 1."""
    image: Any = Image.fromarray(mask.astype(np.uint8) * 255)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.GaussianBlur(SOFT * max(size) / SIDE))
    return np.asarray(image, np.float32) / np.float32(255)


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe of a saved sticker, or None if the file has none."""
    with Image.open(path) as image:
        text = image.info.get(RECIPE_KEY)
    return json.loads(text) if isinstance(text, str) else None


def __getattr__(name: str) -> Any:
    if name == "open_picture":
        from ..pictures import open_picture

        return open_picture
    if name not in ("TARGETS", "Target", "target_named"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import targets

    return getattr(targets, name)
