"""A dataset folder as arrays: pictures resized once and kept on disk, captions filled in from their template."""

import copy
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlx_genmoji.errors import UserError, quoted

from ..recipe import Data
from .captions import caption

Row = tuple[Path, dict[str, Any]]
"""Its folder, and what `metadata.jsonl` says."""


class Dataset:
    """Rows of one or more dataset folders, in the order of their files, those that `data.where` asks for.

    captions: N strings; weights: float64 (N,), how often each row is drawn, summing to 1.
    """

    def __init__(self, data: Data, cache: Path, whole: "Dataset | None" = None):
        """whole: a dataset of the same folders of which this is a part, and shares what is computed of it."""
        self.data, self.cache, self._whole = data, cache, whole
        rows: list[Row] = [] if whole is None else whole.rows
        if whole is None:
            rows = [(folder, row) for folder in data.folders for row in read_metadata(folder)]
        chosen = [place for place, (_, row) in enumerate(rows) if matches(row, data.where)]
        self.rows: list[Row] = [rows[place] for place in chosen]
        self.places = np.array(chosen if whole else range(len(chosen)), np.int64)
        """Which rows of `whole` they are."""
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
        """What it is a part of; itself where it is of none."""
        return self._whole or self

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """`count` row numbers, by weight."""
        return rng.choice(len(self), size=count, p=self.weights)

    @cached_property
    def identities(self) -> list[Any]:
        """What tells each picture from all others."""
        return [row.get("png_sha256") or _identity(folder / row["file_name"]) for folder, row in self.rows]

    @cached_property
    def hashes(self) -> list[str]:
        """The SHA-256 of each picture's file."""
        return [row.get("png_sha256") or _file_sha256(folder / row["file_name"]) for folder, row in self.rows]

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
        names = json.dumps([*self.identities, size])
        path = self.cache / f"pictures-{hashlib.sha256(names.encode()).hexdigest()[:16]}.npy"
        if not path.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.npy")
            pictures = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(self), size, size, 3))

            def load(index: int) -> None:
                folder, row = self.rows[index]
                pictures[index] = read_picture(folder / row["file_name"], size)

            try:
                with ThreadPoolExecutor() as pool:
                    list(pool.map(load, range(len(self))))
                pictures.flush()
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return mapped


def matches(row: dict[str, Any], where: dict[str, Any]) -> bool:
    """Whether each field has the value asked for, or one of a list of values; of a field with several, any of them.

    {skin_tone: dark} also takes a row of ["dark", "light"], {skin_tone: [[dark]]} does not. Raises UserError for a
    field that the row lacks.
    """
    for name, wanted in where.items():
        if name not in row:
            raise UserError(f"Recipe: 'data.where' asks for {name!r}, which the picture {row['file_name']} lacks.")
        values = wanted if isinstance(wanted, list) else [wanted]
        own = row[name]
        if own not in values and not (isinstance(own, list) and any(item in values for item in own)):
            return False
    return True


def _identity(path: Path) -> list[Any]:
    """What tells that a picture is the same, where its row has no hash of the file."""
    try:
        stat = path.stat()
    except OSError:
        raise UserError(f"The picture {path} cannot be read.") from None
    # How it is read is part of it: other makers' pictures may be transparent, or not square.
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns, "padded on white"]


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise UserError(f"The picture {path} cannot be read.") from None


def read_metadata(folder: Path) -> list[dict[str, Any]]:
    """The rows of a dataset folder. Raises UserError where it is not one."""
    path = folder / "metadata.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except OSError:
        raise UserError(f"{folder} is not a dataset: {path.name} is missing in it.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON lines: {error}.") from None
    if not rows:
        raise UserError(f"{folder} is a dataset without pictures.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise UserError(f"{path}: row {number} has no file_name.")
    return rows


def read_picture(path: Path, size: int) -> NDArray[np.uint8]:
    """RGB on white, padded to a square, (size, size, 3). Raises UserError where the file is no picture."""
    try:
        with Image.open(path) as image:
            flat = on_white(image).resize((size, size), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError) as error:
        raise UserError(f"The picture {path} cannot be read: {error}.") from None
    return np.asarray(flat)


def on_white(image: Image.Image) -> Image.Image:
    """RGB, what is transparent white, in the middle of a white square."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    flat = image.convert("RGB")
    width, height = flat.size
    if width == height:
        return flat
    side = max(width, height)
    square = Image.new("RGB", (side, side), "white")
    square.paste(flat, ((side - width) // 2, (side - height) // 2))
    return square


def to_model(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0..255 -> [-1, 1]."""
    return pictures.astype(np.float32) / 127.5 - 1.0
