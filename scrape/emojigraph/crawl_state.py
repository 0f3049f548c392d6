"""The progress of a crawl, in a SQLite file in the dataset's folder that survives a kill at any moment.

A crawl begins with the vendor's list and is finished when the dataset is written. A run that finds an unfinished crawl
continues it and requests no settled file again. The next crawl requests every file again, conditionally.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ..errors import ScrapeError
from .client import Validators

STATE = "crawl.sqlite"

VERSION = 1

TABLES = """
CREATE TABLE IF NOT EXISTS site (origin TEXT, vendor TEXT);
CREATE TABLE IF NOT EXISTS crawl (number INTEGER PRIMARY KEY, begun TEXT, finished TEXT);
CREATE TABLE IF NOT EXISTS file (
    kind TEXT, url TEXT, crawl INTEGER, failure TEXT, attempts INTEGER, fetched_at TEXT,
    etag TEXT, last_modified TEXT, content TEXT,
    PRIMARY KEY (kind, url)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """The entry of one file of the site.

    crawl: the number of the last crawl that settled it; failure: the reason where that crawl did not get it; content:
    what the last successful crawl kept of it, None if there was none, and validators: its HTTP validators.
    """

    crawl: int
    failure: str | None
    content: dict[str, Any] | None
    validators: Validators


class CrawlState:
    """The state file of one vendor of one site. Raises ScrapeError if it is of another one, damaged, or in use."""

    def __init__(self, path: Path, origin: str, vendor: str) -> None:
        self.path = path
        try:
            self._database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
            with ExitStack() as stack:
                stack.callback(self._database.close)
                self._open(origin, vendor)
                stack.pop_all()
        except sqlite3.Error as error:
            reason = f"{path} cannot be used ({error}); does another crawl write to this folder?"
            raise ScrapeError(reason) from error

    def _open(self, origin: str, vendor: str) -> None:
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        # Survives a kill of the process. A loss of power may take the last entries, and those are fetched again.
        self._database.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise ScrapeError(f"{self.path} was written by another version of genmoji; choose another folder.")
        self._database.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        site = self._database.execute("SELECT origin, vendor FROM site").fetchone()
        if site is None or not self._database.execute("SELECT count(*) FROM file").fetchone()[0]:
            # A crawl that got nothing, for example of a mistyped address, does not count.
            self._database.execute("DELETE FROM site")
            self._database.execute("INSERT INTO site VALUES (?, ?)", (origin, vendor))
        elif site != (origin, vendor):
            raise ScrapeError(f"{self.path.parent} holds {site[1]} of {site[0]}; choose another folder.")
        self.crawl = self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _begin(self) -> int:
        """The number of the crawl that is not finished, or of a new one."""
        unfinished = self._database.execute("SELECT number FROM crawl WHERE finished IS NULL").fetchone()
        if unfinished is not None:
            return int(unfinished[0])
        return self._database.execute("INSERT INTO crawl (begun) VALUES (?)", (now(),)).lastrowid or 0

    def finish(self) -> None:
        """Mark this crawl as finished: its dataset is written."""
        self._database.execute("UPDATE crawl SET finished = ? WHERE number = ?", (now(), self.crawl))

    def get(self, kind: str, url: str) -> Entry | None:
        """The entry of a file, None where there is none."""
        fields = self._database.execute(
            "SELECT crawl, failure, content, etag, last_modified FROM file WHERE kind = ? AND url = ?", (kind, url)
        ).fetchone()
        if fields is None:
            return None
        crawl, failure, content, etag, last_modified = fields
        return Entry(crawl, failure, json.loads(content) if content else None, Validators(etag, last_modified))

    def succeed(self, kind: str, url: str, content: dict[str, Any], validators: Validators, attempts: int) -> None:
        """Settle a file that was fetched or is unchanged."""
        values = (kind, url, self.crawl, None, attempts, now(), validators.etag, validators.last_modified)
        self._database.execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, json.dumps(content))
        )

    def fail(self, kind: str, url: str, reason: str, attempts: int) -> None:
        """Settle a file that could not be fetched; the content of earlier crawls stays."""
        self._database.execute(
            "INSERT INTO file (kind, url, crawl, failure, attempts) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE"
            " SET crawl = excluded.crawl, failure = excluded.failure, attempts = excluded.attempts",
            (kind, url, self.crawl, reason, attempts),
        )

    def unsettle(self, files: list[tuple[str, str]]) -> None:
        """Let the next run request `files` (kind, URL) again."""
        self._database.executemany("UPDATE file SET crawl = 0 WHERE kind = ? AND url = ?", files)

    def failures(self) -> Iterator[tuple[str, str, str]]:
        """Kind, URL and reason of each file that this crawl did not get, by URL."""
        yield from self._database.execute(
            "SELECT kind, url, failure FROM file WHERE crawl = ? AND failure IS NOT NULL ORDER BY url, kind",
            (self.crawl,),
        )


def now() -> str:
    """The time, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
