"""The HTTP client: keeps to the rate limit and robots.txt, tries again where that may help, and limits each answer.

No answer is trusted: redirects must stay on the site, and content type, size and unpacked size are checked.
"""

import re
import sys
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from tqdm import tqdm
from yarl import URL

from ..errors import ScrapeError
from .fetch_error import FORBIDDEN, FetchError
from .rate_limit import Clock, RateLimit
from .retry_policy import Patience
from .robots import AGENT, Robots, decoded, forbidding_directive, reserves

T = TypeVar("T")

MAX_URL_LENGTH = 2000
REDIRECTS = frozenset((301, 302, 303, 307, 308))
MAX_REDIRECTS = 5

# The statuses that another attempt may change, and those of a site that gets too many requests.
RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))
OVERLOADED = frozenset((429, 503))

CHUNK_SIZE = 1 << 16

# The operator is told of longer waits.
SILENT_WAIT_S = 5.0


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, the Accept header, the content types allowed (empty: any), and the most bytes."""

    name: str
    accept: str
    types: frozenset[str]
    max_bytes: int


ROBOTS = Kind("robots", "text/plain", frozenset(), 512 << 10)
RESERVATIONS = Kind("tdmrep", "application/json", frozenset(), 512 << 10)
HTML = frozenset(("text/html", "application/xhtml+xml"))
LIST = Kind("list", "text/html", HTML, 8 << 20)
PAGE = Kind("page", "text/html", HTML, 1 << 20)
IMAGE = Kind("image", "image/png", frozenset(("image/png",)), 4 << 20)


@dataclass(frozen=True)
class Validators:
    """The header values by which a server recognizes an unchanged file, or None."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        pairs = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in pairs.items() if value}


@dataclass(frozen=True)
class Answer:
    """The body of an answer, None where the file is unchanged, and the validators that came with it."""

    body: bytes | None
    validators: Validators

    @property
    def text(self) -> str:
        """The body as text in UTF-8; a charset that the answer names is not trusted."""
        return (self.body or b"").decode("utf-8", errors="replace")


class Client:
    """A client of one site, at most `rate` requests a second (0: no limit), fewer where its robots.txt asks for that.

    An async context manager. contact: goes into the User-Agent; `requests` counts the requests sent.
    """

    def __init__(
        self,
        origin: URL,
        *,
        rate: float,
        concurrency: int,
        contact: str,
        patience: Patience,
        clock: Clock | None = None,
    ) -> None:
        self.origin, self.patience, self.requests = origin, patience, 0
        self._clock = clock or Clock()
        self._rate_limit = RateLimit(1 / rate if rate else 0.0, self._clock)
        self._robots = Robots("")
        self._agent = f"{AGENT}/{version('mlx-genmoji')} (emoji dataset collector; {contact})"
        self._concurrency = concurrency
        # Pauses in a row for an overloaded site, and when the last one began.
        self._pauses, self._paused_at = 0, -float("inf")

    @property
    def interval(self) -> float:
        """The least number of seconds between two requests."""
        return self._rate_limit.interval

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._agent, "Accept-Encoding": "gzip"},
            auto_decompress=False,
            # HTTP_PROXY, HTTPS_PROXY and NO_PROXY are heeded.
            trust_env=True,
            timeout=aiohttp.ClientTimeout(total=self.patience.timeout),
        )
        # aiohttp would by itself repeat a request on a closed connection, outside the rate limit.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def obey_robots(self) -> None:
        """Read robots.txt and tdmrep.json and keep to them.

        Raises ScrapeError where robots.txt cannot be read: then nothing may be fetched.
        """
        url = str(self.origin.with_path("/robots.txt"))
        try:
            text, _, _ = await self.fetch(url, ROBOTS, Validators(), _robots_text)
        except FetchError as error:
            # A missing robots.txt forbids nothing; a server in trouble forbids everything.
            if error.status is None or not 400 <= error.status < 500 or error.status in RETRYABLE:
                raise ScrapeError(
                    f"{url} cannot be read ({error.reason}), and without it nothing may be fetched; try again later."
                ) from error
            text = ""
        self._robots = Robots(text or "")
        if self._robots.delay > self.interval:
            self._rate_limit.interval = self._robots.delay
            if self.interval > SILENT_WAIT_S:
                _tell(f"robots.txt of {self.origin} asks for {self.interval:,.0f} s between two requests.")
        reservations = str(self.origin.with_path("/.well-known/tdmrep.json"))
        try:
            rules, _, _ = await self.fetch(reservations, RESERVATIONS, Validators(), _robots_text)
        except FetchError:
            rules = ""
        self._robots = Robots(text or "", rules or "")

    async def fetch(
        self, url: str, kind: Kind, known: Validators, use: Callable[[Answer], Awaitable[T]]
    ) -> tuple[T | None, Validators, int]:
        """Fetch `url` and pass the answer to `use`, as often as the retry policy allows.

        Returns the result of `use` (None: unchanged since `known`), the validators, and the number of attempts. `use`
        may raise FetchError too. Raises the FetchError of the last attempt.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._attempt(url, kind, known)
                self._pauses = 0
                return (None if answer.body is None else await use(answer)), answer.validators, attempt
            except FetchError as error:
                error.attempts = attempt
                told = self._pause(error)
                final = attempt >= self.patience.attempts or error.retry_after > self.patience.longest_wait
                if final or not error.retryable:
                    raise
                seconds = max(error.retry_after, self.patience.pause(attempt))
                if seconds > SILENT_WAIT_S and not told:
                    _tell(f"{url}: {error.reason}; trying again in {seconds:,.0f} s.")
                await self._clock.sleep(seconds)

    def _pause(self, error: FetchError) -> bool:
        """Send nothing to an overloaded site for a while; returns whether the operator was told.

        The pause is the one that the site asks for (Retry-After), or else that of the retry policy, longer each time.
        """
        if error.retry_after:
            seconds = min(error.retry_after, self.patience.longest_wait)
        elif error.status not in OVERLOADED or error.sent_at <= self._paused_at:
            # A request that was sent before the last pause began is no reason for another one.
            return False
        else:
            self._pauses += 1
            seconds = self.patience.pause(self._pauses)
        self._paused_at = self._clock.time()
        told = self._rate_limit.pause(seconds) > SILENT_WAIT_S
        if told:
            _tell(f"{self.origin} is overloaded ({error.reason}); the next request is sent in {seconds:,.0f} s.")
        return told

    def within(self, url: URL) -> bool:
        """Whether `url` is on the site: the same scheme, host and port, and no user name."""
        site = (self.origin.scheme, self.origin.host, self.origin.port)
        return (url.scheme, url.host, url.port) == site and url.user is url.password is None

    async def _attempt(self, url: str, kind: Kind, known: Validators) -> Answer:
        """The answer of one attempt, after at most `MAX_REDIRECTS` redirects within the site."""
        target = URL(url, encoded=True)
        for _ in range(MAX_REDIRECTS + 1):
            if not self._robots.allow(str(target)):
                raise FetchError("robots.txt forbids it")
            if self._robots.reserved(target.path):
                raise FetchError(f"{FORBIDDEN} (tdmrep.json)")
            sent_at = await self._rate_limit.turn()
            self.requests += 1
            try:
                answer = await self._send(target, kind, known)
            except FetchError as error:
                error.sent_at = sent_at
                raise
            if isinstance(answer, Answer):
                return answer
            target = self._redirected(target, answer)
        raise FetchError(f"redirected more than {MAX_REDIRECTS} times")

    async def _send(self, target: URL, kind: Kind, known: Validators) -> Answer | str:
        """Send one request: the answer, or the Location of a redirect."""
        try:
            headers = {"Accept": kind.accept, **known.headers()}
            async with self._session.get(target, headers=headers, allow_redirects=False) as response:
                if response.status in REDIRECTS:
                    return response.headers.get("Location", "")
                return await _read(response, kind, known, self._clock.now())
        except TimeoutError as error:
            raise FetchError(f"no answer within {self.patience.timeout:g} s", retryable=True) from error
        except (aiohttp.ClientPayloadError, zlib.error) as error:
            raise FetchError("a body that ends early or cannot be unpacked", retryable=True) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"no answer that can be read ({type(error).__name__})", retryable=True) from error

    def _redirected(self, source: URL, location: str) -> URL:
        """The target of a redirect. Raises FetchError where it is not an address on the site."""
        try:
            target = source.join(URL(location))
            inside = self.within(target)
        except ValueError:
            raise FetchError("redirected to what is no address") from None
        if not inside:
            host = re.sub(r"[^a-z0-9.:-]", "", target.host or "")[:60]
            raise FetchError(f"redirected off the site, to {host}" if host else "redirected off the site")
        if not location or len(str(target)) > MAX_URL_LENGTH:
            raise FetchError("redirected to what is no address")
        return target.with_fragment(None)


async def _robots_text(answer: Answer) -> str:
    return decoded(answer.body or b"")


def _tell(line: str) -> None:
    """Tell the operator, above the progress bar."""
    tqdm.write(line, file=sys.stderr)


async def _read(response: aiohttp.ClientResponse, kind: Kind, known: Validators, now: datetime) -> Answer:
    """A response as an answer. Raises FetchError where its status, X-Robots-Tag, content type or size forbids that."""
    status, headers = response.status, response.headers
    unchanged = status == 304 and bool(known.headers())
    if status != 200 and not unchanged:
        retryable = status in RETRYABLE
        retry_after = _retry_after(headers.get("Retry-After", ""), now) if retryable else 0.0
        raise FetchError(f"HTTP {status}", retryable=retryable, retry_after=retry_after, status=status)
    for header in headers.getall("X-Robots-Tag", ()):
        if directive := forbidding_directive(header):
            raise FetchError(f"{FORBIDDEN} (X-Robots-Tag: {directive})")
    if reserves(headers.get("tdm-reservation")):
        raise FetchError(f"{FORBIDDEN} (tdm-reservation: 1)")
    validators = Validators(_header(headers.get("ETag")), _header(headers.get("Last-Modified")))
    if unchanged:
        return Answer(None, validators if validators.headers() else known)
    if kind.types and response.content_type not in kind.types:
        content_type = re.sub(r"[^\w/.+-]", "", response.content_type, flags=re.ASCII)[:40]
        raise FetchError(f"sent as {content_type}, not as {min(kind.types, key=len)}", retryable=True)
    return Answer(await _body(response, kind), validators)


async def _body(response: aiohttp.ClientResponse, kind: Kind) -> bytes:
    """The body, unzipped; at most `kind.max_bytes` of it are ever in memory. Raises FetchError where it is larger."""
    too_much = FetchError(f"a body of more than {kind.max_bytes >> 10:,} KiB")
    if (response.content_length or 0) > kind.max_bytes:
        raise too_much
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity", ""):
        raise FetchError("sent in an encoding that was not asked for", retryable=True)
    unzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body = bytearray()
    async for received in response.content.iter_chunked(CHUNK_SIZE):
        body += unzip.decompress(received, kind.max_bytes + 1 - len(body)) if unzip else received
        if len(body) > kind.max_bytes:
            raise too_much
    if unzip and not unzip.eof:
        raise zlib.error("ends early")
    return bytes(body)


def _header(value: str | None) -> str | None:
    """A validator that may be sent back, or None."""
    return value if value and len(value) <= 200 and value.isascii() and value.isprintable() else None


def _retry_after(header: str, now: datetime) -> float:
    """The seconds from `now` that a Retry-After names, in seconds or as a date (RFC 9110, 10.2.3); 0 where neither."""
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
