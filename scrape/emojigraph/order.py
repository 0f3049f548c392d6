"""The order of a crawl, checked, and its report."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..dataset import Form
from ..errors import ScrapeError
from .retry_policy import Patience

VENDOR = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_CONCURRENCY = 64


@dataclass(frozen=True)
class Order:
    """The options of `collect_emojigraph`. Raises ScrapeError for one out of range."""

    origin: str
    vendor: str
    form: Form
    rate: float
    concurrency: int
    limit: int | None
    descriptions: bool
    accept_fewer: bool
    contact: str
    patience: Patience

    def __post_init__(self) -> None:
        if not VENDOR.fullmatch(self.vendor) or len(self.vendor) > 40:
            raise ScrapeError(
                f"{self.vendor!r} is not the name of a vendor; give it as the site spells it, for example apple."
            )
        if not (math.isfinite(self.rate) and (self.rate == 0 or self.rate >= 0.001)):
            raise ScrapeError(
                f"A rate of {self.rate:g} requests a second is not possible; give 0.001 or more, or 0 for no limit."
            )
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ScrapeError(f"A concurrency of {self.concurrency} is not between 1 and {MAX_CONCURRENCY}.")
        if self.limit is not None and self.limit < 1:
            raise ScrapeError(f"A limit of {self.limit} is less than 1.")
        if not (0 < len(self.contact) <= 200 and self.contact.isascii() and self.contact.isprintable()):
            raise ScrapeError("The contact must be an e-mail address or a page, in at most 200 ASCII characters.")


@dataclass(frozen=True)
class CrawlReport:
    """The result of a crawl: the number of pictures in `output` and of requests, and of failed files by reason.

    After a dry run `images` and `requests` are still to come, and `seconds` is the shortest time for them.
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
        """Whether everything in the site's list was collected."""
        return not self.failures

    def __str__(self) -> str:
        if self.dry_run:
            duration = f"at least {math.ceil(self.seconds / 60):,} min" if self.seconds else "no rate limit"
            lines = [f"{self.vendor}: {self.images:,} images to collect, {self.requests:,} requests, {duration}"]
        else:
            lines = [f"{self.vendor}: {self.images:,} images in {self.output}, {self.requests:,} requests"]
        lines += [f"  {count:,} failed: {reason}" for reason, count in self.failures.items()]
        if self.failures and not self.dry_run:
            lines.append(f"  all are listed in {self.output / 'failures.jsonl'}; the same command tries them again")
        return "\n".join(lines)
