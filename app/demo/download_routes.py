"""The downloads of a finished drawing: `take/{token}/{index}.{png|transparent.png|zip|pack.zip}?recipe=0|1`.

Files are made when they are requested, and nothing is written to a disk. The address says everything about the file, so
a link in the page is right as soon as it is there.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZipFile

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from mlx_genmoji import Sticker
from mlx_genmoji.errors import UserError
from mlx_genmoji.packs.make import PACK_FILE, STICKERS

from ..generating import slug
from .session import HistoryEntry, Sessions

PREFIX = "/take/"
GONE = "That drawing is no longer here; draw it again."

MESSENGERS = ("slack", "discord-emoji", "discord-sticker", "telegram", "whatsapp")
"""The targets of `Sticker.export` that the zip file holds."""

MAX_EXPORTS = 2
"""How many files are made at the same time; a zip file takes a second."""

_PATH = re.compile(r"/take/([\w-]{1,64})/(\d{1,2})\.(png|transparent\.png|zip|pack\.zip)", re.ASCII)


class DownloadRoutes:
    """An ASGI application that serves the drawings in `sessions`; 404, with a sentence, for any other address."""

    def __init__(self, sessions: Sessions):
        self.sessions = sessions
        # A disconnect frees a thread only if its export has not started, so these are few and apart from asyncio's.
        self._threads = ThreadPoolExecutor(MAX_EXPORTS, thread_name_prefix="download")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._response(Request(scope)))(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.url.path) if request.method == "GET" else None
        entry = self.sessions.entry(match[1]) if match else None
        if match is None or entry is None or int(match[2]) >= len(entry.pictures) or not _has(entry, match[3]):
            return PlainTextResponse(GONE, 404)
        index, kind, recipe = int(match[2]), match[3], request.query_params.get("recipe") == "1"
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._threads, encode, entry, index, kind, recipe)
        stem = slug(entry.request.prompt) if kind == "pack.zip" else file_stem(entry, index)
        name = quote(f"{stem}{'.' if kind in ('png', 'zip') else '-'}{kind}")
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}", "Cache-Control": "no-store"}
        return Response(data, media_type="application/zip" if kind.endswith("zip") else "image/png", headers=headers)


def _has(entry: HistoryEntry, kind: str) -> bool:
    return kind != "pack.zip" or entry.pack is not None


def file_stem(entry: HistoryEntry, index: int) -> str:
    """The file name of a candidate, as `genmoji generate` names it: red-apple, or red-apple-2 if there are several."""
    name = slug(entry.request.prompt)
    if entry.moods:
        return f"{name}-{entry.moods[index]}"
    return name if len(entry.pictures) == 1 else f"{name}-{index + 1}"


def encode(entry: HistoryEntry, index: int, kind: str, recipe: bool) -> bytes:
    """A candidate as "png", as "transparent.png" without its background, or as a "zip" of both and messengers' files;
    or the whole pack as "pack.zip".

    recipe: whether the files hold how the picture was made.
    """
    if kind == "pack.zip":
        assert entry.pack is not None
        return entry.pack if recipe else _without_recipes(entry.pack)
    sticker = entry.sticker(index)
    if kind == "png":
        return sticker.encoded(".png", recipe)
    cutout = Sticker(sticker.cutout(), sticker.recipe)
    if kind == "transparent.png":
        return cutout.encoded(".png", recipe)
    name = file_stem(entry, index)
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.png", sticker.encoded(".png", recipe))
        archive.writestr(f"{name}-transparent.png", cutout.encoded(".png", recipe))
        # An empty picture cannot be exported.
        with suppress(UserError):
            for target in MESSENGERS:
                for file, data in cutout.export(target, name, recipe).items():
                    archive.writestr(f"{target}/{file}", data)
        if recipe:
            archive.writestr("recipe.json", json.dumps(sticker.recipe, ensure_ascii=False, indent=2))
    return buffer.getvalue()


def _without_recipes(pack: bytes) -> bytes:
    """The zip of a pack without its own description and the drawings that hold their recipes."""
    buffer = io.BytesIO()
    with ZipFile(io.BytesIO(pack)) as whole, ZipFile(buffer, "w") as archive:
        for info in whole.infolist():
            if info.filename != PACK_FILE and not info.filename.startswith(f"{STICKERS}/"):
                archive.writestr(info, whole.read(info))
    return buffer.getvalue()
