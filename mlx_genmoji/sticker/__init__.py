"""A finished picture, and how it is saved."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from PIL.PngImagePlugin import PngInfo

RECIPE_KEY = "genmoji"

# What is at least this bright in every channel, and joined to the border, is background.
_WHITE = 244


@dataclass
class Sticker:
    """One picture and the recipe that reproduces it."""

    image: Image.Image
    """RGB on white."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """Prompt, seed, steps and so on; the model by name and hash."""

    def cutout(self) -> Image.Image:
        """RGBA with the white around the figure removed; white within it stays. The edge is one pixel soft."""
        rgb = np.asarray(self.image.convert("RGB"))
        bright = Image.fromarray(np.where(rgb.min(-1) >= _WHITE, 255, 0).astype(np.uint8))
        framed = Image.new("L", (bright.width + 2, bright.height + 2), 255)
        framed.paste(bright, (1, 1))
        ImageDraw.floodfill(framed, (0, 0), 128)
        outside = np.asarray(framed)[1:-1, 1:-1] == 128
        solid = Image.fromarray(np.where(outside, 0, 255).astype(np.uint8))
        alpha = np.asarray(solid.filter(ImageFilter.GaussianBlur(0.6))).astype(np.float32) / 255
        alpha = np.where(outside, 0, alpha)
        # Along the edge the white behind a half-covered pixel is taken out of its colour.
        share = np.maximum(alpha, 1 / 255)[..., None]
        colour = np.clip((rgb - 255 * (1 - share)) / share, 0, 255)
        rgba = np.concatenate([colour, 255 * alpha[..., None]], axis=-1)
        return Image.fromarray(np.round(rgba).astype(np.uint8), "RGBA")

    def save(self, path: str | Path, recipe: bool = True) -> None:
        """Write a PNG, with the recipe in its metadata unless `recipe` is false; moved into place when whole."""
        path = Path(path)
        info = PngInfo()
        if recipe:
            info.add_itxt(RECIPE_KEY, json.dumps(self.recipe, ensure_ascii=False))
        # Cut short, so that a name that just fits leaves room for what is added to it.
        partial = path.with_name(f".{path.stem[:40]}.{os.getpid()}.partial")
        try:
            self.image.save(partial, format="PNG", pnginfo=info)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe of a saved sticker, or None where the file has none."""
    with Image.open(path) as image:
        text = image.info.get(RECIPE_KEY)
    return json.loads(text) if isinstance(text, str) else None
