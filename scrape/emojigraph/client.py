"""Fetches one address politely: at the site's pace, again where that may help, and never more than was expected.

Nothing of an answer is trusted: where a redirect leads, what type and size it claims, what it unpacks to.
"""

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from yarl import URL

from ..errors import ScrapeError
from .faults import Fault
from .manners import AGENT, Gate, Robots, unwanted
from .patience import Patience

T = TypeVar("T")

LONGEST_URL = 2000
REDIRECTS = frozenset((301, 302, 303, 307, 308))
MOST_REDIRECTS = 5

# Answers that another attempt may change.
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))

CHUNK = 1 << 16


@dataclass(frozen=True)
class Kind:
    """What is asked for: its name, the Accept header, the content types that will do (empty: any), the most bytes."""

    name: str
    accept: str
    types: frozenset[str]
    most: int


ROBOTS = Kind("robots", "text/plain", frozenset(), 512 << 10)
HTML = frozenset(("text/html", "application/xhtml+xml"))
LIST = Kind("list", "text/html", HTML, 8 << 20)
PAGE = Kind("page", "text/html", HTML, 1 << 20)
IMAGE = Kind("image", "image/png", frozenset(("image/png",)), 4 << 20)


@dataclass(frozen=True)
class Validators:
    """What a server gave to tell a changed file from an unchanged one: header values, or None."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        pairs = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in pairs.items() if value}


@dataclass(frozen=True)
class Answer:
    """A body; None if the file is as it was when `validators` were given."""

    body: bytes | None
    validators: Validators

    @property
    def text(self) -> str:
        """The body as text, whatever is in it. UTF-8, as the site is: a charset is one more thing to trust."""
        return (self.body or b"").decode("utf-8", errors="replace")


class Client:
    """One site, spoken to at `rate` requests a second (0: no limit) or as slowly as its robots.txt asks.

    An async context manager. `contact` goes into the User-Agent; `requests` counts what left, and `interval` is the
    least number of seconds between two.
    """

    def __init__(self, origin: URL, *, rate: float, concurrency: int, contact: str, patience: Patience) -> None:
        self.origin, self.patience, self.requests = origin, patience, 0
        self.interval = 1 / rate if rate else 0.0
        self._gate = Gate(self.interval)
        self._robots = Robots("")
        self._agent = f"{AGENT}/{version('mlx-genmoji')} (emoji dataset collector; {contact})"
        self._concurrency = concurrency

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._agent, "Accept-Encoding": "gzip"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=self.patience.timeout),
        )
        # aiohttp would ask again by itself where a kept connection was closed, past the gate.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def obey_robots(self) -> None:
        """Read robots.txt and keep to it. Raises ScrapeError where it cannot be read: then nothing may be fetched."""
        url = str(self.origin.with_path("/robots.txt"))
        try:
            text, _, _ = await self.fetch(url, ROBOTS, Validators(), _text)
        except Fault as fault:
            # No robots.txt forbids nothing; a server in trouble forbids everything.
            if fault.status is None or not 400 <= fault.status < 500 or fault.status in PASSING:
                raise ScrapeError(
                    f"{url} cannot be read ({fault.reason}), and without it nothing may be fetched; try again later."
                ) from fault
            text = ""
        self._robots = Robots(text or "")
        if self._robots.delay > self.interval:
            self.interval = self._robots.delay
            self._gate = Gate(self.interval)
            # The first turn was that of robots.txt itself.
            await self._gate.turn()

    async def fetch(
        self, url: str, kind: Kind, known: Validators, use: Callable[[Answer], Awaitable[T]]
    ) -> tuple[T | None, Validators, int]:
        """What `use` makes of the answer (None: not changed since `known`), its validators, the attempts it took.

        `use` may raise Fault too. Raises the last Fault, with its `attempts`, once there is no use in going on.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._attempt(url, kind, known)
                return (None if answer.body is None else await use(answer)), answer.validators, attempt
            except Fault as fault:
                if fault.wait:
                    self._gate.close(min(fault.wait, self.patience.longest_wait))
                fault.attempts = attempt
                if not fault.passing or attempt >= self.patience.attempts or fault.wait > self.patience.longest_wait:
                    raise
                await asyncio.sleep(max(fault.wait, self.patience.pause(attempt)))

    def within(self, url: URL) -> bool:
        """Whether `url` is on the site: the same scheme, host and port."""
        place = (url.scheme, url.host, url.port)
        return place == (self.origin.scheme, self.origin.host, self.origin.port) and url.user is url.password is None

    async def _attempt(self, url: str, kind: Kind, known: Validators) -> Answer:
        """One answer, found behind a few redirects within the site."""
        place = URL(url, encoded=True)
        for _ in range(MOST_REDIRECTS + 1):
            if not self._robots.allow(str(place)):
                raise Fault("robots.txt forbids it")
            await self._gate.turn()
            self.requests += 1
            try:
                headers = {"Accept": kind.accept, **known.headers()}
                async with self._session.get(place, headers=headers, allow_redirects=False) as response:
                    if response.status not in REDIRECTS:
                        return await _read(response, kind, known)
                    location = response.headers.get("Location", "")
            except TimeoutError as error:
                raise Fault(f"no answer within {self.patience.timeout:g} s", passing=True) from error
            except (aiohttp.ClientPayloadError, zlib.error) as error:
                raise Fault("a body that ends early or cannot be unpacked", passing=True) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise Fault(f"no answer that can be read ({type(error).__name__})", passing=True) from error
            place = self._redirected(place, location)
        raise Fault(f"redirected more than {MOST_REDIRECTS} times")

    def _redirected(self, place: URL, location: str) -> URL:
        try:
            target = place.join(URL(location))
            inside = self.within(target)
        except ValueError:
            raise Fault("redirected to what is no address") from None
        if not inside:
            host = re.sub(r"[^a-z0-9.:-]", "", target.host or "")[:60]
            raise Fault(f"redirected off the site, to {host}" if host else "redirected off the site")
        if not location or len(str(target)) > LONGEST_URL:
            raise Fault("redirected to what is no address")
        return target.with_fragment(None)


async def _text(answer: Answer) -> str:
    return answer.text


async def _read(response: aiohttp.ClientResponse, kind: Kind, known: Validators) -> Answer:
    status, headers = response.status, response.headers
    validators = Validators(_header(headers.get("ETag")), _header(headers.get("Last-Modified")))
    if status == 304 and known.headers():
        return Answer(None, validators if validators.headers() else known)
    if status != 200:
        wait = _seconds(headers.get("Retry-After", ""))
        raise Fault(f"HTTP {status}", passing=status in PASSING, wait=wait if status in PASSING else 0, status=status)
    for header in headers.getall("X-Robots-Tag", ()):
        if directive := unwanted(header):
            raise Fault(f"the site does not want it used so (X-Robots-Tag: {directive})")
    if kind.types and response.content_type not in kind.types:
        said = re.sub(r"[^\w/.+-]", "", response.content_type, flags=re.ASCII)[:40]
        raise Fault(f"sent as {said}, not as {min(kind.types, key=len)}", passing=True)
    return Answer(await _body(response, kind), validators)


async def _body(response: aiohttp.ClientResponse, kind: Kind) -> bytes:
    """The body, unzipped: never more of it in memory than is allowed, however much is announced or sent."""
    too_much = Fault(f"a body of more than {kind.most >> 10:,} KiB")
    if (response.content_length or 0) > kind.most:
        raise too_much
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity", ""):
        raise Fault("sent in an encoding that was not asked for", passing=True)
    unzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body = bytearray()
    async for received in response.content.iter_chunked(CHUNK):
        body += unzip.decompress(received, kind.most + 1 - len(body)) if unzip else received
        if len(body) > kind.most:
            raise too_much
    if unzip and not unzip.eof:
        raise zlib.error("ends early")
    return bytes(body)


def _header(value: str | None) -> str | None:
    """A validator as it may be sent back, or None."""
    return value if value and len(value) <= 200 and value.isascii() and value.isprintable() else None


def _seconds(retry_after: str) -> float:
    """What a Retry-After asks for, from now: seconds or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
