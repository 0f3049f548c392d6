"""A site like emojigraph.org on this machine, at fault where it is told to be, that keeps a log of what it was asked.

`LocalSite` answers on 127.0.0.1 whatever its routes say, down to answers that no web framework would send.
`emoji_site(emojis(120))` has the list, the pages and the pictures of 120 emoji. As a program it serves one, says where,
and gives its log to whoever asks for `/-/log`, beginning a new one:

    python tests/scrape/emojigraph/local_site.py 3770 --faults --delay 0.1
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import io
import json
import random
import struct
import threading
import time
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

LAST_MODIFIED = "Tue, 03 Dec 2024 10:00:00 GMT"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


class Request(NamedTuple):
    """A path, the headers in small letters, and how many times the path has been asked for, this time included."""

    path: str
    headers: Mapping[str, str]
    attempt: int


@dataclass(frozen=True)
class Reply:
    """An answer. `length` is the Content-Length where that lies, `pause` the seconds before anything is sent, and
    `sent` how much of the body is sent before the connection is closed (None: all of it, and the connection stays).
    A `silent` one closes it at once. `faulty` marks it in the log."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    sent: int | None = None
    pause: float = 0.0
    silent: bool = False
    faulty: bool = False


class Served(NamedTuple):
    """A line of the log: when, what, the status, how many bytes of a body were sent, whether that was faulty."""

    at: float
    path: str
    status: int
    body: int
    faulty: bool


Route = Callable[[Request], Reply]


class LocalSite:
    """Routes by path, an answer to everything else, and the log."""

    def __init__(self, routes: Mapping[str, Route] | None = None, delay: float = 0.0) -> None:
        self.routes: dict[str, Route] = dict(routes or {})
        self.other: Route = lambda request: Reply(b"not here", 404)
        self.delay = delay
        self.clock: Callable[[], float] = time.monotonic
        self.log: list[Served] = []
        self.headers: list[Mapping[str, str]] = []
        self.served = threading.Condition()
        self._asked: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget what was asked for."""
        self.log, self.headers, self._asked = [], [], Counter()

    def requested(self, beginning: str = "/") -> list[Served]:
        """The log of paths that begin so."""
        return [served for served in self.log if served.path.startswith(beginning)]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer_one(reader, writer):
                pass
        writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        at, path = self.clock(), head[0].split(" ")[1]
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in head[1:])}
        if path == "/-/log":
            await self._send(writer, Reply(json.dumps(self.log).encode()))
            self.reset()
            return True
        self._asked[path] += 1
        self.headers.append(headers)
        reply = self.routes.get(path, self.other)(Request(path, headers, self._asked[path]))
        await asyncio.sleep(self.delay + reply.pause)
        body = len(reply.body) if reply.sent is None else reply.sent
        self.log.append(Served(at, path, reply.status, body, reply.faulty))
        with self.served:
            self.served.notify_all()
        if reply.silent:
            return False
        await self._send(writer, reply)
        return reply.sent is None

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        length = len(reply.body) if reply.length is None else reply.length
        lines = [f"HTTP/1.1 {reply.status} Said"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines += [] if reply.status == 304 else [f"Content-Length: {length}"]
        writer.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + reply.body[: reply.sent])
        await writer.drain()


def most_in(seconds: float, log: Iterable[Served]) -> int:
    """The most requests that came within so many seconds."""
    times = sorted(served.at for served in log)
    return max((place - bisect_left(times, at - seconds) + 1 for place, at in enumerate(times)), default=0)


@contextmanager
def serve(site: LocalSite) -> Iterator[str]:
    """Answer in a thread; the site's address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(site.answer, "127.0.0.1", 0), loop).result()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def stop() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run_coroutine_threadsafe(stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def html(body: str | bytes, **headers: str) -> Route:
    """A page."""
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    return lambda request: Reply(data, headers={"Content-Type": "text/html; charset=utf-8", **headers})


def file(data: bytes, kind: str = "image/png", validators: bool = True) -> Route:
    """A file that is not sent again to whoever has it."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    known = {"ETag": etag, "Last-Modified": LAST_MODIFIED} if validators else {}

    def route(request: Request) -> Reply:
        if validators and request.headers.get("if-none-match") == etag:
            return Reply(status=304, headers=known)
        return Reply(data, headers={"Content-Type": kind, **known})

    return route


def png(number: int, size: int = 40) -> bytes:
    """A picture that no other number has, with soft edges on a transparent ground."""
    chance = random.Random(number)
    image = Image.new("RGBA", (2 * size, 2 * size))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, r = (chance.randrange(2 * size) for _ in range(3))
        pen.ellipse((x - r // 2, y - r // 2, x + r // 2, y + r // 2), fill=(*chance.randbytes(3), 255))
    buffer = io.BytesIO()
    image.resize((size, size), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A small PNG file of 20,000 x 20,000 pixels."""
    lines, packed = zlib.compressobj(9), b""
    for _ in range(20_000):
        packed += lines.compress(bytes(1 + 20_000 // 8))
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed + lines.flush()) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gzip_bomb() -> bytes:
    """Some 100 KB that unzip to 100 MB."""
    return gzip.compress(b"<p>" + bytes(100 << 20), mtime=0)


@dataclass(frozen=True)
class Listed:
    """An emoji of the site: its code points as a file name spells them, its slug, its picture as it ought to arrive."""

    points: str
    slug: str
    picture: bytes

    @property
    def image(self) -> str:
        return f"/media/apple/{self.slug}_{self.points}.png"

    @property
    def page(self) -> str:
        return f"/{self.slug}/"

    @property
    def description(self) -> str:
        return f"What {self.slug.replace('-', ' ')} means & is for."


def emojis(count: int, size: int = 40) -> list[Listed]:
    """`count` emoji, those of a hand in five skin tones among them."""
    listed = []
    for number in range(count):
        base, variant = divmod(number, 6)
        points = f"{0x1F300 + base:x}" + (f"-{TONES[variant - 1]}" if variant else "")
        listed.append(Listed(points, f"thing-{base}" + (f"-tone-{variant}" if variant else ""), png(number, size)))
    return listed


def list_page(listed: list[Listed]) -> str:
    """A vendor's list as the site lays it out: thumbnails, every other one loaded late."""
    lines = ["<!doctype html><title>Apple</title><div id='category__first'><div class='row cva'>"]
    for number, emoji in enumerate(listed):
        thumbnail = emoji.image.replace("/media/", "/media/72/")
        source = f"src='..{thumbnail}'" if number % 2 else f"src='data:image/gif;base64,R0lGOD' data-src='{thumbnail}'"
        lines.append(f"<a class='pim' href='/apple/{emoji.slug}/'><img {source} alt='x'></a>")
    return "\n".join([*lines, "</div></div>"])


def emoji_page(emoji: Listed) -> str:
    """The page of an emoji, as the site lays it out."""
    name, description = emoji.slug.replace("-", " ").title(), emoji.description.replace("&", "&amp;")
    return (
        f"<!doctype html><h1 class='emoji__title'><span class='emoji'>{name}</span></h1>"
        f"<div><div class='emoji__copy'><span class='emoji'>x</span></div><p> {description}\n</p></div>"
    )


def emoji_site(listed: list[Listed], seed: int | None = None, delay: float = 0.0, stall: float = 3.0) -> LocalSite:
    """The site of `listed`. With a `seed`, some of it is at fault the first time or two that it is asked for: of 100
    addresses 5 answer 503 (half of them with a Retry-After), 2 break off, 1 sends HTML for a picture, 1 stalls."""
    site = LocalSite(delay=delay)
    site.routes["/robots.txt"] = lambda request: Reply(b"User-agent: *\nDisallow: /admin\n")
    site.routes["/apple/"] = file(list_page(listed).encode(), "text/html")
    for emoji in listed:
        site.routes[emoji.image] = file(emoji.picture)
        site.routes[emoji.page] = file(emoji_page(emoji).encode(), "text/html")
        if seed is not None:
            for path in (emoji.image, emoji.page):
                site.routes[path] = faulty(site.routes[path], random.Random(f"{seed}{path}"), stall)
    return site


def faulty(route: Route, chance: random.Random, stall: float) -> Route:
    """`route`, after no, one or two faulty answers."""
    place, times = chance.random(), chance.choice((1, 2))

    def answer(request: Request) -> Reply:
        reply = route(request)
        if request.attempt > times or place >= 0.09 or reply.status == 304:
            return reply
        if place < 0.025:
            return Reply(b"busy", 503, faulty=True)
        if place < 0.05:
            soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
            return Reply(b"busy", 503, {"Retry-After": soon if place < 0.0375 else "1"}, faulty=True)
        if place < 0.07:
            return Reply(reply.body, 200, reply.headers, sent=len(reply.body) // 2, faulty=True)
        if place < 0.08:
            return Reply(b"<!doctype html><title>Busy</title>", 200, {"Content-Type": "image/png"}, faulty=True)
        return Reply(reply.body, 200, reply.headers, sent=0, pause=stall, faulty=True)

    return answer


def spoil(site: LocalSite, listed: list[Listed]) -> dict[str, str]:
    """Put a redirect off the site in place of one picture, a bomb in place of another; why each fails, by path."""
    away, large = listed[len(listed) // 3].image, listed[len(listed) // 2].image
    site.routes[away] = lambda request: Reply(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere.png"})
    site.routes[large] = file(bomb())
    return {
        away: "redirected off the site, to 127.0.0.1",
        large: "a picture of more than 4,194,304 pixels: a decompression bomb",
    }


def write_emojibase(folder: Path, listed: list[Listed]) -> Path:
    """emojibase-data, unpacked, that names all of `listed`."""
    records: list[dict[str, Any]] = []
    for order, emoji in enumerate(listed, 1):
        hexcode = emoji.points.upper()
        characters = "".join(chr(int(part, 16)) for part in hexcode.split("-"))
        fields = {"hexcode": hexcode, "emoji": characters, "order": order}
        if "-" in hexcode:
            records[-1]["skins"].append({**fields, "tone": TONES.index(emoji.points.split("-")[1]) + 1})
        else:
            label = emoji.slug.replace("-", " ")
            records.append({**fields, "label": label, "tags": [], "group": 0, "subgroup": 0, "skins": []})
    (folder / "en").mkdir(parents=True)
    (folder / "meta").mkdir()
    (folder / "package.json").write_text('{"name": "emojibase-data", "version": "17.0.0"}')
    (folder / "en" / "data.json").write_text(json.dumps(records))
    (folder / "meta" / "groups.json").write_text('{"groups": {"0": "people-body"}, "subgroups": {"0": "hands"}}')
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a site of so many emoji until stopped.")
    parser.add_argument("count", type=int)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    chosen = parser.parse_args()
    listed = emojis(chosen.count, chosen.size)
    site = emoji_site(listed, 1 if chosen.faults else None, chosen.delay)
    if chosen.faults:
        spoil(site, listed)
    with serve(site) as url:
        print(url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
