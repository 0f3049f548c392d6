"""Compositions, drawn from plans: for a trainer one by one, or as a dataset."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mlx_genmoji.combinations.layouts import Layer
from mlx_genmoji.combinations.rasterize import Frame, bounds, frame
from mlx_genmoji.combinations.scenes import MARGIN, arranged, picture, prepared
from mlx_genmoji.combinations.sprites import Sprite

from ..dataset import SIZES, UNKNOWN, Dropped, Report, begin, check_folder, encode, finish, replace
from ..errors import ScrapeError
from .catalogue import read_catalogues
from .cutouts import Cutouts
from .plans import Plan, Planner

# What a composed row is told by.
COLUMN = "composition"


class Composition(NamedTuple):
    """A picture, uint8 (size, size, 3) on white, its caption, the names of its two parts, and how they are joined."""

    picture: NDArray[np.uint8]
    caption: str
    parts: tuple[str, str]
    kind: str


class Composer:
    """Compositions of the collected sets in `folders`; each picture's parts come from one set.

    The same folders, size and seed give the same picture for an index, in whatever order they are drawn, and the same
    parts always lie the same way: a caption does not say more, so a model would have to guess. Sprites are
    kept in memory (about 60 KB each at 128 px, so 400 MB once all of Fluent and Noto have been used).
    Raises ScrapeError where a folder is no dataset, or has fewer than two emoji that can be put together.
    """

    def __init__(self, folders: Sequence[Path], size: int = 128, seed: int = 0):
        if size not in SIZES:
            raise ScrapeError(f"A size of {size} px is not between {SIZES[0]} and {SIZES[-1]}.")
        self.size = size
        self._cutouts = Cutouts(size)
        self._planner = Planner(read_catalogues(folders), self._cutouts.colour, seed)

    @property
    def sources(self) -> list[str]:
        """The sets that the parts come from."""
        return self._planner.sources

    def plan(self, index: int) -> Plan:
        """What picture `index` shows and says, without drawing it."""
        return self._planner.plan(index)

    def combine(self, source: str, kind: str, first: str, second: str, index: int = 0) -> Plan | None:
        """A plan of this very combination, one that is held out included; None where `source` cannot make it."""
        return self._planner.combine(source, kind, first, second, index)

    def draw(self, index: int) -> Composition:
        """Picture `index`."""
        plan = self.plan(index)
        return Composition(self.picture(plan), plan.caption, plan.parts, plan.kind)

    def picture(self, plan: Plan) -> NDArray[np.uint8]:
        """A plan, drawn."""
        return np.asarray(picture(plan.kind, self._sprites(plan), plan.parts[1], self.size))

    def boxes(self, plan: Plan) -> list[tuple[int, tuple[float, float, float, float]]]:
        """Where the parts are in a plan's picture: which part, and left, top, right, bottom of a drawing of it, in px.

        A part may be drawn several times; a colour or a number is drawn by none.
        """
        sprites, layers, placed = self._arranged(plan)
        places = {id(sprite): place for place, sprite in enumerate(sprites)}
        found = []
        for layer in layers:
            left, top, right, bottom = bounds(layer)
            xs = [placed.x + placed.scale * across for across in (left, right)]
            ys = [placed.y + placed.scale * down for down in (top, bottom)]
            found.append((places[id(layer.sprite)], (xs[0], ys[0], xs[1], ys[1])))
        return found

    def _arranged(self, plan: Plan) -> tuple[list[Sprite], list[Layer], Frame]:
        """The sprites of a plan's parts as they are shown, and where they go."""
        sprites = prepared(plan.kind, self._sprites(plan), plan.parts[1])
        scene = arranged(plan.kind, sprites, plan.parts[1])
        return sprites, scene.layers, frame(scene, self.size, MARGIN)

    def _sprites(self, plan: Plan) -> list[Sprite]:
        return [self._cutouts.sprite(part) for part in plan.pictures]


def compose(folders: Sequence[Path], output: Path, *, count: int = 1000, seed: int = 0, size: int = 256) -> Report:
    """Make `output` a dataset of `count` compositions of the sets in `folders`.

    A row has what every dataset's has, and `parts`, `composition` (the kind), `compose_seed` and `compose_index`.
    Raises ScrapeError for what its user can put right.
    """
    if count < 1:
        raise ScrapeError(f"{count} pictures are none; ask for at least one.")
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ScrapeError(f"{output} is one of the sets to compose; choose another folder.")
    composer = Composer(folders, size, seed)
    check_folder(output, lambda fields: COLUMN in fields, "compose")
    try:
        begin(output)
        rows = list(_write(composer, output, count, seed))
        finish(output, rows)
    except OSError as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error
    return Dropped().report("compose", output, len(rows))


def _write(composer: Composer, output: Path, count: int, seed: int) -> Iterator[Mapping[str, Any]]:
    from PIL import Image

    for index in tqdm(range(count), "compose", disable=None, unit="image"):
        plan = composer.plan(index)
        png = encode(Image.fromarray(composer.picture(plan)))
        name = f"images/{index:07d}.png"
        replace(output / name, png)
        digest = hashlib.sha256(png).hexdigest()
        yield {
            "file_name": name,
            **UNKNOWN,
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
