"""`collect_emojigraph`, the crawler's entry."""

import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from mlx_genmoji.extras import install_command

from ..dataset import Form
from ..errors import ScrapeError
from .order import CrawlReport, Order
from .retry_policy import Patience

BASE_URL = "https://emojigraph.org"

CONTACT = "the mlx-genmoji project"


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
    accept_fewer: bool = False,
    dry_run: bool = False,
    contact: str = CONTACT,
    emojibase: Path | None = None,
    patience: Patience | None = None,
) -> CrawlReport:
    """Collect the emoji of `vendor` into the dataset `output`, or renew it.

    The vendor's list page names the emoji; each emoji's page gives its description, unless `descriptions` is False.
    A run that was stopped is continued; a finished one is renewed by conditional requests. Until the end of a renewal
    `output` holds the old dataset. `output/failures.jsonl` lists each failed file with the reason;
    `output/crawl.sqlite` records the requests.

    base_url: the site; rate: the most requests a second (0: no limit; the site's robots.txt may ask for fewer);
    concurrency: the most requests at a time; size, margin, keep_originals: see `scrape.dataset.Form`; limit: fetch the
    first pictures of the list only; accept_fewer: continue though the list lacks more than a tenth of the pictures in
    `output`, and remove these; dry_run: read the list and write nothing; contact: the operator's e-mail address or
    page, sent to the site; emojibase: a tarball or folder of emojibase-data, by default npm's; patience: the retry
    policy. Raises ScrapeError for an option out of range, and where the site cannot be crawled.
    """
    order = Order(
        origin=_origin(base_url),
        vendor=vendor,
        form=Form(size, margin, keep_originals),
        rate=rate,
        concurrency=concurrency,
        limit=limit,
        descriptions=descriptions,
        accept_fewer=accept_fewer,
        contact=contact,
        patience=patience or Patience(),
    )
    # Not at the top: what it imports is an optional extra, which the other sources do without.
    try:
        from .crawl import dry, run
    except ModuleNotFoundError as error:
        raise ScrapeError(f"The crawler needs {error.name}; install it with: {install_command('scrape')}") from error
    if dry_run:
        return dry(order, output)
    try:
        return run(order, output, emojibase)
    except (OSError, sqlite3.Error) as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error


def _origin(base_url: str) -> str:
    """The scheme, host and port of `base_url`. Raises ScrapeError where it is not the address of a site."""
    try:
        parts = urlsplit(base_url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ScrapeError(f"{base_url!r} is not the address of a site.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ScrapeError(f"{base_url!r} is not the address of a site; give one such as {BASE_URL}.")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ScrapeError(f"{base_url!r} is the address of a page; give that of the site, such as {BASE_URL}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
