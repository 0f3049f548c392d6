"""Emoji cut out of their datasets: transparent around the figure, cropped to it, kept in memory at the size in use."""

import numpy as np
from PIL import Image

from mlx_genmoji.combinations.colours import Dominant
from mlx_genmoji.combinations.sprites import OPAQUE, Sprite
from mlx_genmoji.sticker import Sticker

from ..dataset import ORIGINAL
from ..errors import ScrapeError
from ..merge import read_image
from ..pictures import render_cutout
from .parts import Part

# Parts are kept somewhat larger than they are drawn, so that what fills the picture stays sharp.
OVERSIZE = 1.25


class Cutouts:
    """The sprites of parts, each made when it is first asked for.

    With `genmoji scrape --keep-originals` the transparency is the drawing's own. Without, the white around the figure
    is taken away (`Sticker.cutout`), which takes white at a figure's edge with it.
    """

    def __init__(self, size: int):
        self.size = round(size * OVERSIZE)
        self._sprites: dict[Part, Sprite] = {}

    def sprite(self, part: Part) -> Sprite:
        """Raises ScrapeError where the part's picture cannot be read, or is empty."""
        if part not in self._sprites:
            sprite = Sprite.cut(self._read(part), part.source, part.label, part.role)
            if sprite is None:
                raise ScrapeError(
                    f"{part.folder / part.fields['file_name']} is an empty picture; collect the set again."
                )
            self._sprites[part] = sprite
        return self._sprites[part]

    def colour(self, part: Part) -> Dominant | None:
        """The one colour that a part mostly has, None where it has several."""
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
