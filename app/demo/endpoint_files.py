"""The files of the endpoint's answers, in the demo's own folder, the only one that it serves."""

from __future__ import annotations

import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from mlx_genmoji import Sticker

from ..generating import slug

LIFETIME_SECONDS = 3600


class Downloads:
    """Files in folders of unguessable names, deleted after an hour."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, stickers: list[Sticker], recipe: bool = True) -> list[Path]:
        """Write each sticker as a PNG named after its prompt, and return the paths."""
        paths = []
        for sticker in stickers:
            path = self._new_folder() / f"{slug(str(sticker.recipe.get('prompt', '')))}.png"
            sticker.save(path, recipe)
            paths.append(path)
        return paths

    def _new_folder(self) -> Path:
        """Make a folder, and delete those that are too old."""
        oldest = time.time() - LIFETIME_SECONDS
        for path in self.folder.iterdir():
            # The thread of another answer may have removed it by now.
            with suppress(FileNotFoundError):
                if path.is_dir() and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return folder
