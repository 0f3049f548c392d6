"""The machine that trains: how much memory it has, and, on a Mac, that it stays awake and keeps some for others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

# What a Mac's other programs, and the pages of this one that are not MLX's, are left.
SHARE_OF_RAM = 0.8
CACHE_SHARE = 0.1


def memory_limit() -> int:
    """The bytes that a run may take here, what it has already included."""
    if mx.default_device() == mx.gpu:
        facts = mx.device_info()
        # A Mac's GPU says how much of the memory it works well with, NVIDIA's how much it has.
        recommended = facts.get("max_recommended_working_set_size") or facts.get("total_memory")
        if recommended:
            return int(recommended)
    if sys.platform == "linux":
        return _available() + mx.get_active_memory() + mx.get_cache_memory()
    return int(SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _available() -> int:
    """What Linux says that new programs can have without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@contextmanager
def at_work() -> Iterator[None]:
    """While a run lasts: a Mac does not fall asleep, its GPU keeps the model in memory, and freed memory goes back.

    Without effect on other machines. A Mac's limits are those of the process, so they are put back.
    """
    if sys.platform != "darwin":
        yield
        return
    # It ends with this process, however that ends.
    awake = subprocess.Popen(["caffeinate", "-i", "-w", str(os.getpid())])
    limit = memory_limit()
    wired, cache = mx.set_wired_limit(limit), mx.set_cache_limit(int(CACHE_SHARE * limit))
    try:
        yield
    finally:
        mx.set_wired_limit(wired)
        mx.set_cache_limit(cache)
        awake.terminate()
        awake.wait()
