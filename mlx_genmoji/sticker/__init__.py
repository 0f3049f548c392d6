"""A finished picture: cut out, saved, and brought into the form that a messenger, a phone or a web page takes."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import UserError
from ..files import write_bytes
from ..pictures import has_transparency, open_picture
from .cutout import cut_out
from .glyph import glyph
from .targets import TARGETS, Target, export, target_named, zipped

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

SUFFIXES = (".png", ".webp", ".heic")


@dataclass
class Sticker:
    """One picture and the recipe that reproduces it."""

    image: Image.Image
    """RGB on white; or RGBA, where it comes with a transparency of its own."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """Prompt, seed, steps and so on; the model by name and hash."""

    def cutout(self) -> Image.Image:
        """RGBA without the white around the figure; white within it stays, the edge is soft and free of white.

        A picture that has transparency keeps it as it is. See `mlx_genmoji.sticker.cutout`.
        """
        if has_transparency(self.image):
            return self.image.convert("RGBA")
        return Image.fromarray(cut_out(np.asarray(self.image.convert("RGB"))), "RGBA")

    def export(self, kind: str, name: str = "sticker", recipe: bool = True) -> dict[str, bytes]:
        """The files of one of `TARGETS` (`slack`, `telegram`, ...): file names, which begin with `name`, and bytes.

        Transparent, trimmed to the figure, of the target's size in pixels and within its limit in bytes. An iOS glyph
        has the prompt as its description unless `recipe` is false; the other kinds hold none of the recipe. Raises
        UserError for a kind that there is not, an empty picture, or one that cannot be made small enough.
        """
        return export(self.cutout(), target_named(kind), name, self._description() if recipe else "")

    def export_file(self, kind: str, name: str = "sticker", recipe: bool = True) -> tuple[str, bytes]:
        """The same as one file, its name and its bytes: a zip where the target has several."""
        return zipped(self.export(kind, name, recipe), f"{name}-{kind}.zip")

    def save(self, path: str | Path, recipe: bool = True, transparent: bool = False) -> None:
        """Write the picture, as its suffix says; moved into place when whole. See `encoded`."""
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} ends in none of {', '.join(SUFFIXES)}; give it one of these.")
        write_bytes(path, self.encoded(path.suffix.lower(), recipe, transparent))

    def encoded(self, suffix: str = ".png", recipe: bool = True, transparent: bool = False) -> bytes:
        """The bytes of a file with one of `SUFFIXES`.

        `.png` holds the recipe in its metadata unless `recipe` is false; `.webp` is lossless and holds none; both are
        on white unless `transparent`. `.heic` is the image of an iOS adaptive glyph, always transparent, and has the
        prompt as its description unless `recipe` is false. Raises UserError for any other suffix.
        """
        if suffix not in SUFFIXES:
            raise UserError(f"There is no form {suffix} of a sticker; there are {', '.join(SUFFIXES)}.")
        if suffix == ".heic":
            return glyph(self.cutout(), self._description() if recipe else "")
        buffer = io.BytesIO()
        image = self.cutout() if transparent else self.image
        if suffix == ".webp":
            image.save(buffer, format="WEBP", lossless=True)
        else:
            info = PngInfo()
            if recipe:
                info.add_itxt(RECIPE_KEY, json.dumps(self.recipe, ensure_ascii=False))
            image.save(buffer, format="PNG", pnginfo=info)
        return buffer.getvalue()

    def _description(self) -> str:
        prompt = self.recipe.get("prompt")
        return prompt if isinstance(prompt, str) else ""


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe of a saved sticker, or None where the file has none."""
    with Image.open(path) as image:
        text = image.info.get(RECIPE_KEY)
    return json.loads(text) if isinstance(text, str) else None
