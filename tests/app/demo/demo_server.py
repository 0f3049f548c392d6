"""What the tests of the demo share."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from app.demo.worker import Worker

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Demo(NamedTuple):
    url: str
    worker: Worker


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def eventually(is_so: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it becomes so."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
