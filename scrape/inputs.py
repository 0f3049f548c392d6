"""Reads the datasets that `merge`, `compose`, `synonyms` and `summarize` take."""

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image

from mlx_genmoji.dataset import read_rows
from mlx_genmoji.pictures import UNREADABLE, decode

# The columns that each row must have text in; `scrape.collect_folder` makes such a dataset of any pictures.
NEEDED = ("file_name", "text", "source", "license")


def read_dataset(folder: Path) -> list[dict[str, Any]]:
    """The rows of a dataset, with text in the columns `NEEDED`. Raises UserError where `folder` is none."""
    return read_rows(folder, NEEDED)


def read_image(folder: Path, file_name: str) -> tuple[bytes, Image.Image] | None:
    """A dataset's PNG file, as bytes and as RGB; None where it cannot be read, or lies outside the folder."""
    path = folder / file_name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return None
        png = path.read_bytes()
        return png, decode(png, ("PNG",)).convert("RGB")
    except (*UNREADABLE, RuntimeError):
        return None


def pixel_hash(picture: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels, whatever file holds it."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
