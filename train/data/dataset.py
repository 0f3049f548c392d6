"""Dataset folders as arrays: pictures resized once and kept on disk, captions filled in from their template."""

import copy
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlx_genmoji.dataset import read_rows
from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.pictures import UNREADABLE, decode, on_white

from ..recipe import Data
from .cached import cached_parts
from .captions import caption

Row = tuple[Path, dict[str, Any]]
"""A picture's folder and its row of `metadata.jsonl`."""


class Dataset:
    """Rows of one or more dataset folders, in the order of their files, those that `data.where` asks for.

    captions: N strings; weights: float64 (N,), how often each row is drawn, summing to 1.
    """

    def __init__(self, data: Data, cache: Path, whole: "Dataset | None" = None):
        """whole: a dataset of the same folders that contains this one; what was computed for it is used again."""
        self.data, self.cache, self._whole = data, cache, whole
        rows = folder_rows(data) if whole is None else whole.rows
        chosen = [place for place, (_, row) in enumerate(rows) if matches(row, data.where)]
        self.rows: list[Row] = [rows[place] for place in chosen]
        self.places = np.array(chosen if whole else range(len(chosen)), np.int64)
        """The rows' numbers in `whole`."""
        if not self.rows:
            raise UserError(f"Recipe: 'data.where' leaves none of {len(rows)} pictures: {quoted(data.where)}.")
        self.captions = [caption(data, row) for _, row in self.rows]
        weights = np.array([data.tone_weight if row.get("skin_tone") else 1.0 for _, row in self.rows])
        if data.shares:
            owner = np.array([data.folders.index(folder) for folder, _ in self.rows])
            drawn = np.bincount(owner, weights, len(data.folders))
            weights = weights * (np.array(data.shares) / np.where(drawn, drawn, 1))[owner]
        if not weights.sum() > 0:
            raise UserError("Recipe: 'data.tone_weight' and 'data.shares' leave no picture to draw.")
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, count: int) -> "Dataset":
        """The first rows alone."""
        part = copy.copy(self)
        part.rows, part.captions = self.rows[:count], self.captions[:count]
        part.places, part._whole = np.arange(len(part.rows)), None
        part.weights = np.full(len(part.rows), 1 / len(part.rows))
        return part

    @property
    def whole(self) -> "Dataset":
        """The dataset that contains this one; itself where there is none."""
        return self._whole or self

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """`count` row numbers, by weight."""
        return rng.choice(len(self), size=count, p=self.weights)

    @cached_property
    def identities(self) -> list[Any]:
        """For each picture, JSON that no other picture has: the hash of its file, where its row has that hash.

        A file that was edited since its row was written, such as a retouched picture, is another picture.
        """
        return [
            digest if row.get("png_sha256") else _identity(folder / row["file_name"])
            for (folder, row), digest in zip(self.rows, self.hashes, strict=True)
        ]

    @cached_property
    def hashes(self) -> list[str]:
        """The SHA-256 of each picture's file."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(_file_sha256, (folder / row["file_name"] for folder, row in self.rows)))

    @cached_property
    def sha256(self) -> str:
        """A hash of pictures and captions, the same on every machine."""
        return hashlib.sha256(json.dumps([self.hashes, self.captions, self.data.size]).encode()).hexdigest()

    @cached_property
    def pictures(self) -> NDArray[np.uint8]:
        """uint8 (N, size, size, 3), mapped from a cache file."""
        if self._whole is not None:
            return self._whole.pictures[self.places]
        size = self.data.size

        def fill(pictures: NDArray[np.uint8]) -> None:
            def load(index: int) -> None:
                folder, row = self.rows[index]
                pictures[index] = read_picture(folder / row["file_name"], size)

            with ThreadPoolExecutor() as pool:
                list(pool.map(load, range(len(self))))

        shape = (len(self), size, size, 3)
        return cached_parts(self.cache, "pictures", [*self.identities, size], shape, np.uint8, fill)


def folder_rows(data: Data) -> list[Row]:
    """The rows of all folders. Raises UserError where one is no dataset, or an empty one."""
    rows: list[Row] = []
    for folder in data.folders:
        pictures = read_rows(folder)
        if not pictures:
            raise UserError(f"{folder} is a dataset without pictures.")
        rows += [(folder, row) for row in pictures]
    return rows


def matches(row: dict[str, Any], where: dict[str, Any]) -> bool:
    """Whether each field named in `where` has the value given there, or one of a list of values.

    A field that is a list matches with any of its items: {skin_tone: dark} takes a row of ["dark", "light"];
    {skin_tone: [[dark]]} takes only a row of exactly ["dark"]. Raises UserError for a field that the row lacks.
    """
    for name, wanted in where.items():
        if name not in row:
            raise UserError(f"Recipe: 'data.where' asks for {name!r}, which the picture {row['file_name']} lacks.")
        values = wanted if isinstance(wanted, list) else [wanted]
        value = row[name]
        if value not in values and not (isinstance(value, list) and any(item in values for item in value)):
            return False
    return True


def _identity(path: Path) -> list[Any]:
    """Path, size and time of a picture whose row has no hash of the file."""
    try:
        stat = path.stat()
    except OSError:
        raise UserError(f"The picture {path} cannot be read.") from None
    # How a picture is read belongs to the key: those of other makers may be transparent, or not square.
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns, "padded on white"]


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise UserError(f"The picture {path} cannot be read.") from None


def read_picture(path: Path, size: int) -> NDArray[np.uint8]:
    """RGB on white, padded to a square, (size, size, 3). Raises UserError where the file is no picture."""
    try:
        flat = on_white(decode(path, formats=None))
    except UNREADABLE as error:
        raise UserError(f"The picture {path} cannot be read: {quoted(error)}.") from None
    return np.asarray(_square(flat).resize((size, size), Image.Resampling.LANCZOS))


def _square(picture: Image.Image) -> Image.Image:
    """A picture in the middle of a white square."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def to_model(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0..255 -> [-1, 1]."""
    return pictures.astype(np.float32) / 127.5 - 1.0
