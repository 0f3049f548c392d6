"""The files of the endpoint's answers, in the demo's own folder, the only one that it serves."""

from __future__ import annotations

import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from mlx_genmoji import Sticker

from ..generating import slug

# How long a file stays, in seconds.
KEPT = 3600


class Downloads:
    """Files in folders with names that nobody guesses, for an hour."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, stickers: list[Sticker], recipe: bool = True) -> list[Path]:
        """Each sticker as a PNG."""
        paths = []
        for sticker in stickers:
            path = self._new_folder() / f"{slug(str(sticker.recipe.get('prompt', '')))}.png"
            sticker.save(path, recipe)
            paths.append(path)
        return paths

    def _new_folder(self) -> Path:
        oldest = time.time() - KEPT
        for path in self.folder.iterdir():
            # Another answer's thread may have removed it by now.
            with suppress(FileNotFoundError):
                if path.is_dir() and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)
        made = self.folder / secrets.token_hex(16)
        made.mkdir()
        return made
