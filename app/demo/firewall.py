"""ASGI middleware that lets clients reach only what the demo needs of Gradio's server: its page, queue and files.

Gradio's server also takes uploads, fetches files of other sites and lists its measurements; all that is closed.
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

MAX_BODY_BYTES = 64 * 1024

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""The host names of this machine. Any other means DNS rebinding: a page of another site whose name resolves to here."""

BAD_REQUEST = "The demo cannot read this request; /?view=api documents its endpoint."

API = "/gradio_api/"
OPEN = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
LOGIN = ("/login", f"{API}login", "/logout", f"{API}logout")
"""Gradio's, where visitors log in."""
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


class Firewall:
    """Answers 404 to closed paths, 413 to a body over `MAX_BODY_BYTES`, 400 where Gradio fails on a request.

    app: Gradio. folder: holds the files that the demo wrote. downloads: the application below `PREFIX`. hosts: the host
    names that the demo answers to, 403 for others; None is any.
    """

    def __init__(
        self,
        app: ASGIApp,
        folder: Path,
        downloads: ASGIApp,
        hosts: Sequence[str] | None = LOCAL_HOSTS,
        login: bool = False,
    ):
        """login: whether visitors log in, so that the path of Gradio's login is open."""
        self.app = app
        self.folder = folder.resolve()
        self.downloads = downloads
        self.hosts = hosts
        self.login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and not self.is_allowed_host(Headers(scope=scope).get("host", "")):
            message = f"The demo answers only to the host names {', '.join(self.hosts or ())}; open it by one of these."
            await PlainTextResponse(message, 403)(scope, receive, send)
        elif scope["type"] != "http" or not self.is_open(scope["path"]):
            await PlainTextResponse("There is no such page here.", 404)(scope, receive, send)
        elif (body := await _body(receive)) is None:
            message = f"The request is too long; at most {MAX_BODY_BYTES:,} bytes are allowed."
            await PlainTextResponse(message, 413)(scope, receive, send)
        else:
            await self._forward(body, scope, receive, send)

    async def _forward(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose body has been read. A GET is cancelled as soon as its client disconnects.

        Gradio itself checks for a disconnect every ten seconds only, and a drawing should stop within one step.
        """
        application = self.downloads if scope["path"].startswith(PREFIX) else self._gradio
        messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
        disconnected = asyncio.Event()

        async def receive_again() -> Message:
            if messages:
                return messages.pop()
            await disconnected.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            disconnected.set()
            # Gradio answers a POST at once and may start work after that, which must not be cancelled here.
            if scope["method"] == "GET":
                answering.cancel()

        answering = asyncio.ensure_future(application(scope, receive_again, send))
        watching = asyncio.create_task(watch())
        try:
            await answering
        except asyncio.CancelledError:
            if not disconnected.is_set():
                raise
        finally:
            watching.cancel()
            answering.cancel()

    async def _gradio(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's response; 400 if Gradio fails, which only a malformed request makes it do.

        A drawing that fails is not an error of Gradio's: its status says so.
        """
        started = failed = False

        async def checked_send(message: Message) -> None:
            nonlocal started, failed
            failed |= message["type"] == "http.response.start" and message["status"] == 500
            if not failed:
                started = True
                await send(message)

        try:
            await self.app(scope, receive, checked_send)
        except Exception as error:
            if started:
                raise
            failed = True
            print(f"genmoji: {scope['path']}: {type(error).__name__}: {quoted(error)}", file=sys.stderr)
        if failed:
            await PlainTextResponse(BAD_REQUEST, 400)(scope, receive, send)

    def is_allowed_host(self, host: str) -> bool:
        """Whether the demo answers to a request with this Host header."""
        return self.hosts is None or re.sub(r":\d*$", "", host).lower() in map(str.lower, self.hosts)

    def is_open(self, path: str) -> bool:
        """Whether clients may request this path."""
        if path.startswith(PREFIX) or (self.login and path.rstrip("/") in LOGIN):
            return True
        if path in OPEN or path.startswith(OPEN_FOLDERS):
            return ".." not in path
        if not path.startswith(API):
            return False
        rest = path.removeprefix(API)
        if rest.startswith("file="):
            return self.is_demo_file(unquote(rest.removeprefix("file=")))
        return rest.rstrip("/") in OPEN_API or rest.startswith(OPEN_API_FOLDERS)

    def is_demo_file(self, path: str) -> bool:
        """Whether this is the path of a file that the demo wrote."""
        try:
            file = Path(path).resolve()
            return file.is_relative_to(self.folder) and file.is_file()
        except (OSError, ValueError):
            return False


async def _body(receive: Receive) -> bytes | None:
    """The request's body; None if it is too long, and the rest is then not read."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body
