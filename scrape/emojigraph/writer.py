"""Writes a crawl's dataset. File names are code points or constants: no text of the site becomes part of a path."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from mlx_genmoji.dataset import METADATA

from ..dataset import DatasetWriter
from ..emojibase import HEXCODE
from ..errors import ScrapeError
from .crawl_state import STATE

IMAGES = "images"
ORIGINALS = "originals"
FAILURES = "failures.jsonl"


class CrawlWriter:
    """The dataset in the folder `path`, written by one or several runs of a crawl.

    New pictures wait beside the old dataset until `finish`. Raises ScrapeError if `path` holds another dataset.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise ScrapeError(f"{path} is a file; choose a folder for the dataset.")
        if not self.state.exists() and any((path / name).exists() for name in (METADATA, IMAGES)):
            raise ScrapeError(f"{path} already holds another dataset; choose another folder.")
        path.mkdir(parents=True, exist_ok=True)
        self._writer = DatasetWriter(path, durable=True, resume=True)

    @property
    def state(self) -> Path:
        return self.path / STATE

    def add(self, hexcode: str, png: bytes, original: bytes | None) -> None:
        """Write an emoji's new picture, and the file it was drawn from unless that is None."""
        if original is not None:
            self._writer.add(file_name(ORIGINALS, hexcode), original)
        else:
            self._writer.discard(file_name(ORIGINALS, hexcode))
        self._writer.add(file_name(IMAGES, hexcode), png)

    def holds(self, hexcode: str, png_sha256: str, original_sha256: str | None) -> bool:
        """Whether the newest picture of an emoji has this hash, and its original too unless that is None."""
        hashes = {file_name(IMAGES, hexcode): png_sha256}
        if original_sha256 is not None:
            hashes[file_name(ORIGINALS, hexcode)] = original_sha256
        try:
            return all(
                sha256(self._writer.newest(name).read_bytes()).hexdigest() == digest for name, digest in hashes.items()
            )
        except OSError:
            return False

    def hexcodes(self) -> set[str]:
        """The emoji whose pictures are in the folder already."""
        return {file.stem for file in (self.path / IMAGES).glob("*.png") if HEXCODE.fullmatch(file.stem)}

    def finish(
        self, rows: Iterable[Mapping[str, object]], failures: Iterable[Mapping[str, object]], listed: set[str]
    ) -> int:
        """Replace the old dataset by `rows` and the new pictures; return the number of rows.

        failures: the lines of `failures.jsonl`, which is removed where there are none; listed: the hexcodes of the
        site's list. The pictures of other emoji are removed; listed ones without a row stay: a later run may use them.
        """
        # In ASCII: names from the site may contain characters that turn a terminal's text around.
        lines = "".join(f"{json.dumps(fields)}\n" for fields in failures).encode()
        if lines:
            self._writer.add(FAILURES, lines)
        new = set(self._writer.new_files())
        files = {
            *new,
            *(f"{kind}/{file.name}" for kind in (IMAGES, ORIGINALS) for file in (self.path / kind).glob("*")),
        }
        unlisted = {name for name in files if (hexcode := _hexcode(name)) is not None and hexcode not in listed}
        # An original whose picture was drawn again without keeping the new original.
        outdated = {name.replace(IMAGES, ORIGINALS, 1) for name in new if name.startswith(f"{IMAGES}/")} - new
        return self._writer.finish(rows, {*unlisted, *outdated, *(() if lines else (FAILURES,))})


def file_name(kind: str, hexcode: str) -> str:
    """The name in the dataset of an emoji's file; `kind` is IMAGES or ORIGINALS."""
    if not HEXCODE.fullmatch(hexcode):
        raise ValueError(f"a hexcode of {hexcode!r}")
    return f"{kind}/{hexcode}.png"


def _hexcode(name: str) -> str | None:
    """The emoji whose picture or original a crawl wrote as `name`; None for a file of somebody else."""
    path = Path(name)
    return path.stem if path.suffix == ".png" and HEXCODE.fullmatch(path.stem) else None
