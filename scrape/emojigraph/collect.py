"""What a caller asks for, checked, and what a crawl reports back."""

import math
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..dataset import Form
from ..errors import ScrapeError
from .patience import Patience

BASE_URL = "https://emojigraph.org"

CONTACT = "the mlx-genmoji project"

VENDOR = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MOST_CONCURRENT = 64


@dataclass(frozen=True)
class Order:
    """What to collect and how; see `collect_emojigraph`. Raises ScrapeError where that cannot be done."""

    origin: str
    vendor: str
    form: Form
    rate: float
    concurrency: int
    limit: int | None
    descriptions: bool
    contact: str
    patience: Patience

    def __post_init__(self) -> None:
        if not VENDOR.fullmatch(self.vendor) or len(self.vendor) > 40:
            raise ScrapeError(f"{self.vendor!r} is no vendor's name; apple is one, as the site spells it.")
        if not (math.isfinite(self.rate) and (self.rate == 0 or self.rate >= 0.001)):
            raise ScrapeError(f"A rate of {self.rate:g} requests a second cannot be kept; 0 means no limit.")
        if not 1 <= self.concurrency <= MOST_CONCURRENT:
            raise ScrapeError(f"A concurrency of {self.concurrency} is not between 1 and {MOST_CONCURRENT}.")
        if self.limit is not None and self.limit < 1:
            raise ScrapeError(f"A limit of {self.limit} leaves nothing to collect.")
        if not (0 < len(self.contact) <= 200 and self.contact.isascii() and self.contact.isprintable()):
            raise ScrapeError("A contact is an e-mail address or a page, in at most 200 ASCII characters.")


@dataclass(frozen=True)
class CrawlReport:
    """What became of a crawl: the pictures in `output`, the requests it took, and how many files failed, by reason.

    Of a dry run, `images` is how many there are to collect, and `seconds` how long that takes at least.
    """

    vendor: str
    output: Path
    images: int
    requests: int
    failures: Mapping[str, int] = field(default_factory=dict)
    dry_run: bool = False
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything that the site lists was collected."""
        return not self.failures

    def __str__(self) -> str:
        if self.dry_run:
            minutes = f"at least {math.ceil(self.seconds / 60):,} min" if self.seconds else "no limit of the rate"
            lines = [f"{self.vendor}: {self.images:,} images to collect, {self.requests:,} requests, {minutes}"]
        else:
            lines = [f"{self.vendor}: {self.images:,} images in {self.output}, {self.requests:,} requests"]
        lines += [f"  {count:,} failed: {reason}" for reason, count in self.failures.items()]
        if self.failures and not self.dry_run:
            lines.append(f"  each is in {self.output / 'failures.jsonl'}; the same command tries them again")
        return "\n".join(lines)


def collect_emojigraph(
    output: Path,
    *,
    vendor: str = "apple",
    base_url: str = BASE_URL,
    rate: float = 1.5,
    concurrency: int = 4,
    size: int = 256,
    margin: float = 0.0,
    limit: int | None = None,
    keep_originals: bool = False,
    descriptions: bool = True,
    dry_run: bool = False,
    contact: str = CONTACT,
    emojibase: Path | None = None,
    patience: Patience | None = None,
) -> CrawlReport:
    """Collect the emoji of `vendor` into `output`: `images/*.png`, `size` px square with a `margin` of white at each
    side (a fraction), and `metadata.jsonl`, last.

    The vendor's list page says what there is; each emoji's page is asked for its description unless `descriptions` is
    False. At most `rate` requests leave a second (0: no limit; the site's robots.txt may ask for fewer), `concurrency`
    at a time, the first `limit` pictures of the list only if that is given. A run that was stopped is gone on with; a
    finished one is renewed by conditional requests. What failed is in `output/failures.jsonl`, with the reason; what
    is about the fetching is in `output/crawl.sqlite`. `keep_originals` keeps the pictures as fetched in
    `output/originals`. `dry_run` reads the list, and writes nothing. `contact` (an address, a page) is told to the
    site. `emojibase` is a tarball or folder of emojibase-data, else npm's. Raises ScrapeError for whatever its user
    can put right, and where the site cannot be crawled at all.
    """
    order = Order(
        origin=_origin(base_url),
        vendor=vendor,
        form=Form(size, margin, keep_originals),
        rate=rate,
        concurrency=concurrency,
        limit=limit,
        descriptions=descriptions,
        contact=contact,
        patience=patience or Patience(),
    )
    try:
        from .crawl import dry, run
    except ModuleNotFoundError as error:
        raise ScrapeError(f'The crawler needs {error.name}; install "mlx-genmoji[scrape]".') from error
    if dry_run:
        return dry(order, output)
    try:
        return run(order, output, emojibase)
    except (OSError, sqlite3.Error) as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error


def _origin(base_url: str) -> str:
    """The site's address without a path. Raises ScrapeError for what is no site's."""
    try:
        parts = urlsplit(base_url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ScrapeError(f"{base_url!r} is no address of a site.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ScrapeError(f"{base_url!r} is no address of a site; {BASE_URL} is one.")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ScrapeError(f"{base_url!r} is an address on a site; give the site's, as {BASE_URL}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
