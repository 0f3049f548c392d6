"""What of Gradio's server is open: the page's own files, its queue, and the pictures of this demo. Nothing else.

Gradio also takes uploads, fetches other sites' files, lists what it measured. The demo needs none of it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024

API = "/gradio_api/"
OPEN = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
OPEN_FOLDERS = ("/static/", "/assets/", "/svelte/")
OPEN_API = (
    "info",
    "openapi.json",
    "queue/join",
    "queue/data",
    "cancel",
    "reset",
    "startup-events",
    "app_id",
    "theme.css",
)
OPEN_API_FOLDERS = ("call/", "run/", "heartbeat/")


class Gate:
    """ASGI middleware: 404 for what is not open, 413 for a body over `MOST_BYTES`."""

    def __init__(self, app: ASGIApp, folder: Path):
        self.app = app
        self.folder = folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" or not self.is_open(scope["path"]):
            await PlainTextResponse("There is no such page here.", 404)(scope, receive, send)
        elif (body := await _body(receive)) is None:
            await PlainTextResponse(f"That is too long; {MOST_BYTES:,} bytes is the most.", 413)(scope, receive, send)
        else:
            await self._pass(body, scope, receive, send)

    async def _pass(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request whose body has been read; cancelled as soon as whoever asked hangs up.

        Gradio looks for that every ten seconds only, and a drawing is to stop within one step.
        """
        messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.Event()

        async def again() -> Message:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            # An answer to a POST is sent at once, and may leave work behind it.
            if scope["method"] == "GET":
                answering.cancel()

        answering = asyncio.ensure_future(self.app(scope, again, send))
        watching = asyncio.create_task(watch())
        try:
            await answering
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
        finally:
            watching.cancel()
            answering.cancel()

    def is_open(self, path: str) -> bool:
        if path in OPEN or path.startswith(OPEN_FOLDERS):
            return ".." not in path
        if not path.startswith(API):
            return False
        rest = path.removeprefix(API)
        if rest.startswith("file="):
            return self.is_own(unquote(rest.removeprefix("file=")))
        return rest.rstrip("/") in OPEN_API or rest.startswith(OPEN_API_FOLDERS)

    def is_own(self, path: str) -> bool:
        """Whether this is a file that the demo wrote."""
        try:
            file = Path(path).resolve()
            return file.is_relative_to(self.folder) and file.is_file()
        except (OSError, ValueError):
            return False


async def _body(receive: Receive) -> bytes | None:
    """What is sent; None where it is too much, of which the rest is not read."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return body
