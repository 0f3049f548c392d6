"""A small sound site, and the crawler at work on it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from folders import PATIENCE, SIZE, Collect, QuickClock
from local_site import (
    Listed,
    LocalSite,
    emoji_site,
    emojis,
    serve,
    write_emojibase,
)

from scrape import CrawlReport, collect_emojigraph
from scrape.emojigraph.client import Client


@pytest.fixture
def listed() -> list[Listed]:
    return emojis(12)


@pytest.fixture
def site(listed: list[Listed]) -> LocalSite:
    return emoji_site(listed)


@pytest.fixture
def url(site: LocalSite) -> Iterator[str]:
    with serve(site) as address:
        yield address


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def collect(url: str, listed: list[Listed], out: Path, tmp_path: Path) -> Collect:
    emojibase = write_emojibase(tmp_path / "emojibase", listed)

    def run(**options: Any) -> CrawlReport:
        defaults = {"rate": 0.0, "concurrency": 8, "size": SIZE, "patience": PATIENCE}
        return collect_emojigraph(out, base_url=url, emojibase=emojibase, **{**defaults, **options})

    return run


@pytest.fixture
def clock(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> QuickClock:
    """The time of both the crawler and the site's log; with a concurrency of 1 the log is exact."""
    clock = QuickClock()
    site.clock = clock.time
    monkeypatch.setattr("scrape.emojigraph.crawl.Client", partial(Client, clock=clock))
    return clock
