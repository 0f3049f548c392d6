"""Draws planned combinations: one by one, for a trainer, or as a dataset."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from mlx_genmoji.combinations.layers import Layer
from mlx_genmoji.combinations.rasterize import Frame, bounds, frame
from mlx_genmoji.combinations.scenes import MARGIN, arranged, picture, prepared
from mlx_genmoji.combinations.sprites import Sprite
from mlx_genmoji.dataset import COLUMNS

from ..dataset import SIZES, DatasetWriter, Dropped, Report, cannot_write, check_folder, encode
from ..errors import ScrapeError
from .catalogue import read_catalogues
from .planner import Plan, Planner
from .sprite_cache import SpriteCache

# The column that only the rows of `compose` have.
COLUMN = "composition"


class Composition(NamedTuple):
    """A picture, uint8 (size, size, 3) on white, its caption, the names of its parts, and the kind of combination."""

    picture: NDArray[np.uint8]
    caption: str
    parts: tuple[str, str]
    kind: str


class Composer:
    """Draws combinations of the collected sets in `folders`, `size` px square; both parts are of the same set.

    The same folders, size and seed give the same picture for an index, in any order of drawing. The same two parts are
    always placed in the same way, because the caption does not name a place. Sprites stay in memory: about 60 KB each
    at 128 px, 400 MB for all of Fluent and Noto.
    Raises UserError where a folder is no dataset, or has fewer than two emoji that can be put together.
    """

    def __init__(self, folders: Sequence[Path], size: int = 128, seed: int = 0):
        if size not in SIZES:
            raise ScrapeError(f"A size of {size} px is not between {SIZES[0]} and {SIZES[-1]}.")
        self.size = size
        self._sprite_cache = SpriteCache(size)
        self._planner = Planner(read_catalogues(folders), self._sprite_cache.colour, seed)

    @property
    def sources(self) -> list[str]:
        """The names of the image sets."""
        return self._planner.sources

    def plan(self, index: int) -> Plan:
        """The plan of picture `index`, not drawn."""
        return self._planner.plan(index)

    def combine(self, source: str, kind: str, first: str, second: str, index: int = 0) -> Plan | None:
        """A plan of this combination, held out or not; None where the set `source` cannot make it."""
        return self._planner.combine(source, kind, first, second, index)

    def draw(self, index: int) -> Composition:
        """Picture `index` with its caption."""
        plan = self.plan(index)
        return Composition(self.picture(plan), plan.caption, plan.parts, plan.kind)

    def picture(self, plan: Plan) -> NDArray[np.uint8]:
        """The picture of a plan, uint8 (size, size, 3)."""
        return np.asarray(picture(plan.kind, self._sprites(plan), plan.parts[1], self.size))

    def boxes(self, plan: Plan) -> list[tuple[int, tuple[float, float, float, float]]]:
        """The bounding boxes in a plan's picture: the number of the part (0 or 1), and left, top, right, bottom in px.

        A part may have several boxes; a colour or a number has none.
        """
        sprites, layers, placed = self._arranged(plan)
        numbers = {id(sprite): number for number, sprite in enumerate(sprites)}
        boxes = []
        for layer in layers:
            left, top, right, bottom = bounds(layer)
            xs = [placed.x + placed.scale * across for across in (left, right)]
            ys = [placed.y + placed.scale * down for down in (top, bottom)]
            boxes.append((numbers[id(layer.sprite)], (xs[0], ys[0], xs[1], ys[1])))
        return boxes

    def _arranged(self, plan: Plan) -> tuple[list[Sprite], list[Layer], Frame]:
        """The sprites of a plan's parts, and their layers and frame in the picture."""
        sprites = prepared(plan.kind, self._sprites(plan), plan.parts[1])
        scene = arranged(plan.kind, sprites, plan.parts[1])
        return sprites, scene.layers, frame(scene, self.size, MARGIN)

    def _sprites(self, plan: Plan) -> list[Sprite]:
        return [self._sprite_cache.sprite(part) for part in plan.pictures]


def compose(folders: Sequence[Path], output: Path, *, count: int = 1000, seed: int = 0, size: int = 256) -> Report:
    """Make `output` a dataset of `count` combinations of the image sets in `folders`, `size` px square.

    A row has the columns of every dataset, and `parts`, `composition` (the kind), `compose_seed` and `compose_index`.
    Raises UserError where `folders` or the options cannot be used, or `output` cannot be written.
    """
    if count < 1:
        raise ScrapeError(f"A count of {count} is less than 1.")
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ScrapeError(f"{output} is one of the sets to compose; choose another folder.")
    composer = Composer(folders, size, seed)
    check_folder(output, lambda fields: COLUMN in fields, "compose")
    try:
        with DatasetWriter(output) as writer:
            writer.finish(_write(composer, writer, count, seed))
    except OSError as error:
        raise cannot_write(output, error) from error
    return Dropped().report("compose", output, count)


def _write(composer: Composer, writer: DatasetWriter, count: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """Draw and write `count` pictures, and yield their rows."""
    for index in tqdm(range(count), "compose", disable=None, unit="image"):
        plan = composer.plan(index)
        png = encode(Image.fromarray(composer.picture(plan)))
        name = f"images/{index:07d}.png"
        writer.add(name, png)
        digest = hashlib.sha256(png).hexdigest()
        yield {
            "file_name": name,
            **COLUMNS,
            "text": plan.caption,
            "label": plan.caption,
            "skin_tone": list(plan.skin_tone),
            "source": plan.source,
            "license": plan.license,
            "width": composer.size,
            "height": composer.size,
            "sha256": digest,
            "png_sha256": digest,
            "source_file": "+".join(str(part.fields.get("source_file", part.label)) for part in plan.pictures),
            "parts": list(plan.parts),
            COLUMN: plan.kind,
            "compose_seed": seed,
            "compose_index": index,
        }
