"""Cuts emoji out as sprites, transparent around the figure and cropped to it, and keeps them in memory."""

import numpy as np
from PIL import Image

from mlx_genmoji.combinations.colours import Dominant
from mlx_genmoji.combinations.sprites import OPAQUE, Sprite
from mlx_genmoji.sticker import Sticker

from ..dataset import ORIGINAL
from ..errors import ScrapeError
from ..inputs import read_image
from ..pictures import render_cutout
from .catalogue import Part

# Sprites are kept somewhat larger than the picture, so that a part that fills it stays sharp.
OVERSIZE = 1.25


class SpriteCache:
    """The sprites of parts, each made at its first use, for pictures of `size` px.

    A dataset made with `--keep-originals` gives the transparency of the original file. Without, the white around the
    figure becomes transparent (`Sticker.cutout`), and so does white at the figure's edge.
    """

    def __init__(self, size: int):
        self.size = round(size * OVERSIZE)
        self._sprites: dict[Part, Sprite] = {}

    def sprite(self, part: Part) -> Sprite:
        """The sprite of `part`. Raises ScrapeError where its picture cannot be read, or is empty."""
        if part not in self._sprites:
            sprite = Sprite.cut(self._read(part), part.source, part.label, part.role)
            if sprite is None:
                raise ScrapeError(
                    f"{part.folder / part.fields['file_name']} is an empty picture; collect the set again."
                )
            self._sprites[part] = sprite
        return self._sprites[part]

    def colour(self, part: Part) -> Dominant | None:
        """The dominant colour of a part, None where it has several."""
        return self.sprite(part).colour

    def _read(self, part: Part) -> Image.Image:
        original = part.fields.get("original")
        picture = None
        if isinstance(original, str) and ORIGINAL.fullmatch(original) and (part.folder / original).is_file():
            picture = render_cutout((part.folder / original).read_bytes(), self.size)
        if picture is None:
            read = read_image(part.folder, part.fields["file_name"])
            if read is None:
                raise ScrapeError(f"{part.folder / part.fields['file_name']} cannot be read; collect the set again.")
            picture = read[1].convert("RGBA")
            picture.thumbnail((self.size, self.size), Image.Resampling.LANCZOS)
        opaque = int(np.asarray(picture.getchannel("A")).min()) >= OPAQUE
        return Sticker(picture.convert("RGB")).cutout() if opaque else picture
