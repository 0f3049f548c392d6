"""Emoji cut out of their datasets: transparent around the figure, cropped to it, kept in memory at the size in use."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlx_genmoji.sticker import Sticker

from ..dataset import ORIGINAL
from ..errors import ScrapeError
from ..merge import read_image
from ..pictures import render_cutout
from . import colours
from .parts import Part

# What is at least this opaque (of 255) counts as the figure.
OPAQUE = 24

# Parts are kept somewhat larger than they are drawn, so that what fills the picture stays sharp.
OVERSIZE = 1.25


@dataclass(frozen=True, eq=False)
class Sprite:
    """A part's picture, RGBA, cropped to the figure; `home`: where the figure lies in its own square picture (left,
    top, right, bottom, fractions of the square's side).
    """

    image: Image.Image
    source: str
    label: str
    role: str | None
    home: tuple[float, float, float, float]

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.image.width / self.image.height

    def top(self, left: float, right: float) -> float:
        """How far down the figure begins between two columns (fractions), as a fraction of its height."""
        alpha = self.alpha[:, int(left * self.image.width) : max(int(right * self.image.width), 1)]
        rows = np.flatnonzero((alpha > 128).any(1))
        return float(rows[0]) / self.image.height if len(rows) else 0.0

    def span(self, top: float, bottom: float) -> tuple[float, float]:
        """Between which columns the figure lies between two rows, all of them fractions."""
        alpha = self.alpha[int(top * self.image.height) : max(int(bottom * self.image.height), 1)]
        columns = np.flatnonzero((alpha > 128).any(0))
        if not len(columns):
            return 0.0, 1.0
        return float(columns[0]) / self.image.width, float(columns[-1] + 1) / self.image.width

    @cached_property
    def alpha(self) -> NDArray[np.uint8]:
        return np.asarray(self.image.getchannel("A"))


class Cutouts:
    """The sprites of parts, each made when it is first asked for.

    With `genmoji scrape --keep-originals` the transparency is the drawing's own. Without, the white around the figure
    is taken away (`Sticker.cutout`), which takes white at a figure's edge with it.
    """

    def __init__(self, size: int):
        self.size = round(size * OVERSIZE)
        self._sprites: dict[Part, Sprite] = {}
        self._colours: dict[Part, colours.Dominant | None] = {}

    def sprite(self, part: Part) -> Sprite:
        """Raises ScrapeError where the part's picture cannot be read, or is empty."""
        if part not in self._sprites:
            image = self._read(part)
            box = image.getchannel("A").point(lambda value: 255 if value >= OPAQUE else 0).getbbox()
            if box is None:
                raise ScrapeError(
                    f"{part.folder / part.fields['file_name']} is an empty picture; collect the set again."
                )
            side = max(image.size)
            across, down = (side - image.width) / 2, (side - image.height) / 2
            home = ((box[0] + across) / side, (box[1] + down) / side, (box[2] + across) / side, (box[3] + down) / side)
            self._sprites[part] = Sprite(image.crop(box), part.source, part.label, part.role, home)
        return self._sprites[part]

    def colour(self, part: Part) -> colours.Dominant | None:
        """The one colour that a part mostly has, None where it has several."""
        if part not in self._colours:
            self._colours[part] = colours.dominant(self.sprite(part).image)
        return self._colours[part]

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
