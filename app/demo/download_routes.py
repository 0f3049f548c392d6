"""Candidates to take away, made when they are asked for: `take/{token}/{index}.{png|transparent.png|zip}?recipe=0|1`.

The address says all of it, so that a page's link is right as soon as it is there; nothing is written to a disk.
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

from ..generating import slug
from .session import Drawn, Sessions

PREFIX = "/take/"
GONE = "That drawing is no longer here; draw it again."

# The targets of `Sticker.export` that are in the zip file.
MESSENGERS = ("slack", "discord-emoji", "discord-sticker", "telegram", "whatsapp")

# How many are made at once; a zip file takes a second.
AT_ONCE = 2

_PATH = re.compile(r"/take/([\w-]{1,64})/(\d)\.(png|transparent\.png|zip)", re.ASCII)


class Take:
    """An ASGI application for what is drawn in `sessions`. 404, with a sentence, for what is not there any more."""

    def __init__(self, sessions: Sessions):
        self.sessions = sessions
        # Whoever hangs up gives a turn back only if it has not come yet.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="take")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._answer(Request(scope)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        named = _PATH.fullmatch(request.url.path) if request.method == "GET" else None
        drawn = self.sessions.drawn(named[1]) if named else None
        if named is None or drawn is None or int(named[2]) >= len(drawn.pictures):
            return PlainTextResponse(GONE, 404)
        index, kind, recipe = int(named[2]), named[3], request.query_params.get("recipe") == "1"
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._threads, made, drawn, index, kind, recipe)
        name = quote(f"{stem(drawn, index)}{'-' if kind.startswith('transparent') else '.'}{kind}")
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}", "Cache-Control": "no-store"}
        return Response(data, media_type="application/zip" if kind == "zip" else "image/png", headers=headers)


def stem(drawn: Drawn, index: int) -> str:
    """What the files of a candidate are called, as `genmoji generate` does: red-apple, or red-apple-2 of several."""
    name = slug(drawn.request.prompt)
    return name if len(drawn.pictures) == 1 else f"{name}-{index + 1}"


def made(drawn: Drawn, index: int, kind: str, recipe: bool) -> bytes:
    """A candidate as a PNG, as one without its background, or as a zip of both and of what messengers take."""
    sticker = drawn.sticker(index)
    if kind == "png":
        return sticker.encoded(".png", recipe)
    cut = Sticker(sticker.cutout(), sticker.recipe)
    if kind == "transparent.png":
        return cut.encoded(".png", recipe)
    name = stem(drawn, index)
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.png", sticker.encoded(".png", recipe))
        archive.writestr(f"{name}-transparent.png", cut.encoded(".png", recipe))
        # A picture without a figure has no form that a messenger takes.
        with suppress(UserError):
            for target in MESSENGERS:
                for file, data in cut.export(target, name, recipe).items():
                    archive.writestr(f"{target}/{file}", data)
        if recipe:
            archive.writestr("recipe.json", json.dumps(sticker.recipe, ensure_ascii=False, indent=2))
    return buffer.getvalue()
