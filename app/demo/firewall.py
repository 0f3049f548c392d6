"""What of Gradio's server is open: the page's own files, its queue, and the pictures of this demo. Nothing else.

Gradio also takes uploads, fetches other sites' files, lists what it measured. The demo needs none of it.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_genmoji.errors import quoted

from .download_routes import PREFIX

MOST_BYTES = 64 * 1024

# What this machine calls itself. A page of another site whose name was made to lead here says that name.
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")

NONSENSE = "That makes no sense to the demo; /?view=api says what does."

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
OPEN_API_FOLDERS = ("run/predict", "call/generate", "call/v2/generate", "heartbeat/")


class Gate:
    """ASGI middleware: 404 for what is not open, 413 for a body over `MOST_BYTES`, 400 for what Gradio chokes on.

    take: what answers below `PREFIX`. hosts: names that the demo answers to, 403 for others; None is all of them.
    """

    def __init__(self, app: ASGIApp, folder: Path, take: ASGIApp, hosts: Sequence[str] | None = OWN_HOSTS):
        self.app = app
        self.folder = folder.resolve()
        self.take = take
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and not self.is_called(Headers(scope=scope).get("host", "")):
            said = f"The demo answers to {', '.join(self.hosts or ())} only; open it by one of these."
            await PlainTextResponse(said, 403)(scope, receive, send)
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
        answer = self.take if scope["path"].startswith(PREFIX) else self._sensible
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

        answering = asyncio.ensure_future(answer(scope, again, send))
        watching = asyncio.create_task(watch())
        try:
            await answering
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
        finally:
            watching.cancel()
            answering.cancel()

    async def _sensible(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What Gradio answers; 400 where it fails, which it does on what was sent: a drawing that fails says so."""
        begun = failed = False

        async def checked(message: Message) -> None:
            nonlocal begun, failed
            failed |= message["type"] == "http.response.start" and message["status"] == 500
            if not failed:
                begun = True
                await send(message)

        try:
            await self.app(scope, receive, checked)
        except Exception as error:
            if begun:
                raise
            failed = True
            print(f"genmoji: {scope['path']}: {type(error).__name__}: {quoted(error)}", file=sys.stderr)
        if failed:
            await PlainTextResponse(NONSENSE, 400)(scope, receive, send)

    def is_called(self, host: str) -> bool:
        """Whether a request's Host is a name of the demo."""
        return self.hosts is None or re.sub(r":\d*$", "", host).lower() in self.hosts

    def is_open(self, path: str) -> bool:
        if path.startswith(PREFIX):
            return True
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
