"""What a sticker can be taken away as: files in the demo's own folder, the only one that it serves."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from mlx_genmoji import Sticker
from mlx_genmoji.errors import UserError

from ..generating import slug

# The targets of `Sticker.export` that are in the zip file.
MESSENGERS = ("slack", "discord-emoji", "discord-sticker", "telegram", "whatsapp")

# How long a file stays, in seconds.
KEPT = 3600


class Downloads:
    """Files in folders with names that nobody guesses, for an hour."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, sticker: Sticker, recipe: bool = True) -> Path:
        """The sticker as a PNG."""
        path = self._new_folder() / f"{slug(str(sticker.recipe.get('prompt', '')))}.png"
        sticker.save(path, recipe)
        return path

    def save_all(self, sticker: Sticker, recipe: bool = True) -> tuple[Path, Path, Path]:
        """As a PNG, as one without its background, and as a zip file of both and of what messengers take."""
        png = self.save(sticker, recipe)
        transparent = png.with_stem(f"{png.stem}-transparent")
        cut = Sticker(sticker.cutout(), sticker.recipe)
        cut.save(transparent, recipe)
        packed = png.with_suffix(".zip")
        with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
            for path in (png, transparent):
                archive.write(path, path.name)
            # A picture without a figure has no form that a messenger takes.
            with suppress(UserError):
                for kind in MESSENGERS:
                    for name, data in cut.export(kind, png.stem).items():
                        archive.writestr(f"{kind}/{name}", data)
            if recipe:
                archive.writestr("recipe.json", json.dumps(sticker.recipe, ensure_ascii=False, indent=2))
        return png, transparent, packed

    def _new_folder(self) -> Path:
        oldest = time.time() - KEPT
        for path in self.folder.iterdir():
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)
        made = self.folder / secrets.token_hex(16)
        made.mkdir()
        return made
