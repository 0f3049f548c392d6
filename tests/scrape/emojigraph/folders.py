"""What a crawl left in its folder, to compare and to look into; how the tests crawl; and a clock without waiting."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scrape import CrawlReport
from scrape.emojigraph import Patience
from scrape.emojigraph.rate_limit import Clock

SIZE = 32
PATIENCE = Patience(timeout=2.0, attempts=4, first_pause=0.01, longest_pause=0.1, longest_wait=3.0)

Collect = Callable[..., CrawlReport]


class QuickClock(Clock):
    """A clock on which only waiting takes time, and none of the test's."""

    START = datetime(2026, 1, 1, tzinfo=UTC)

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.START + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        end = self.seconds + seconds
        await asyncio.sleep(0)
        self.seconds = max(self.seconds, end)


def dataset(folder: Path) -> dict[str, bytes]:
    """All of a dataset but what is about the fetching."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("crawl.sqlite"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {fields["hexcode"]: fields for fields in lines(folder / "metadata.jsonl")}


def reasons(folder: Path, url: str) -> dict[str, str]:
    return {fields["url"].removeprefix(url): fields["reason"] for fields in lines(folder / "failures.jsonl")}
