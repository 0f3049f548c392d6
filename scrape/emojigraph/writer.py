"""The dataset's folder as a crawl writes it: each file under a temporary name, synced, moved into place.

Names are code points in hexadecimal or constants of ours: what a site says never reaches a path.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ..dataset import METADATA, OLD_METADATA, to_lines
from ..emojibase import HEXCODE
from ..errors import ScrapeError
from .state import STATE

IMAGES = "images"
ORIGINALS = "originals"
FAILURES = "failures.jsonl"


class Folder:
    """A dataset's folder. Raises ScrapeError if `path` holds a dataset that no crawl wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise ScrapeError(f"{path} is a file; choose a folder for the dataset.")
        if not self.state.exists() and any((path / name).exists() for name in (METADATA, OLD_METADATA, IMAGES)):
            raise ScrapeError(f"{path} already holds another dataset; choose another folder.")
        path.mkdir(parents=True, exist_ok=True)

    @property
    def state(self) -> Path:
        return self.path / STATE

    def keep(self, hexcode: str, png: bytes, original: bytes | None) -> None:
        """Write or replace an emoji's picture, and the one it was drawn from unless that is None."""
        self._put_aside()
        if original is not None:
            self._replace(name(ORIGINALS, hexcode), [original])
        else:
            (self.path / name(ORIGINALS, hexcode)).unlink(missing_ok=True)
        self._replace(name(IMAGES, hexcode), [png])

    def holds(self, hexcode: str, png_sha256: str, original_sha256: str | None) -> bool:
        """Whether an emoji's picture is there, whole, and its original too unless that is None."""
        wanted = {name(IMAGES, hexcode): png_sha256}
        if original_sha256 is not None:
            wanted[name(ORIGINALS, hexcode)] = original_sha256
        try:
            return all(sha256((self.path / file).read_bytes()).hexdigest() == digest for file, digest in wanted.items())
        except OSError:
            return False

    def finish(
        self, rows: Iterable[Mapping[str, object]], failures: Iterable[Mapping[str, object]], hexcodes: set[str]
    ) -> int:
        """Remove pictures of what is not among `hexcodes`, then write the failures, if any, and `metadata.jsonl` last.

        Returns the number of `rows`. Pictures that stay may be more: of another size, and not asked for again yet.
        """
        self._put_aside()
        for kind in (IMAGES, ORIGINALS):
            self._sweep(kind, hexcodes)
        # In ASCII: the names in it are a stranger's, and may turn a terminal's text around.
        if not self._replace(FAILURES, (f"{json.dumps(fields)}\n".encode() for fields in failures)):
            (self.path / FAILURES).unlink()
        count = self._replace(METADATA, (to_lines([fields]) for fields in rows))
        (self.path / OLD_METADATA).unlink(missing_ok=True)
        return count

    def _put_aside(self) -> None:
        """Take `metadata.jsonl` out of the way: it no longer says what the folder holds."""
        with suppress(FileNotFoundError):
            os.replace(self.path / METADATA, self.path / OLD_METADATA)

    def _sweep(self, kind: str, hexcodes: set[str]) -> None:
        """Remove what a crawl wrote there and no longer wants, unfinished files too; nothing else."""
        for file in [*(self.path / kind).glob("*.png"), *(self.path / kind).glob(".*.png.part")]:
            stem = file.name.removeprefix(".").split(".")[0]
            if HEXCODE.fullmatch(stem) and (stem not in hexcodes or file.suffix == ".part"):
                file.unlink()

    def _replace(self, file_name: str, pieces: Iterable[bytes]) -> int:
        """Write a file piece by piece, whole or not at all; how many pieces there were."""
        path, count = self.path / file_name, 0
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        return count


def name(kind: str, hexcode: str) -> str:
    """The name in the folder of an emoji's picture, of the `kind` IMAGES or ORIGINALS."""
    if not HEXCODE.fullmatch(hexcode):
        raise ValueError(f"a hexcode of {hexcode!r}")
    return f"{kind}/{hexcode}.png"
