"""What the tests of the demo share."""

from __future__ import annotations

import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from app.demo.job import Job
from app.demo.session import Sessions
from app.demo.worker import Worker

MAC = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


class Demo(NamedTuple):
    url: str
    worker: Worker
    sessions: Sessions
    late_steps: Counter[Job]
    """How many steps each job was drawn on for after it was cancelled."""

    @property
    def most_late_steps(self) -> int:
        return max(self.late_steps.values(), default=0)


def chromium() -> str | None:
    """The program, of the system or as Playwright installs it."""
    for name in ("chromium", "chromium-browser", "google-chrome", *MAC):
        if candidate := shutil.which(name):
            return candidate
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        bundled = playwright.chromium.executable_path
    return bundled if Path(bundled).exists() else None


def free_port() -> int:
    """One below those that the system gives to whoever connects to another, as tests beside these do."""
    while True:
        port = random.randrange(30_000, 32_000)
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port


def eventually(is_so: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it becomes so."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
