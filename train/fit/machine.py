"""The machine that trains: how much memory it has, and, on a Mac, that it stays awake and keeps some for others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

# A Mac's other programs, and the pages of this one that are not MLX's, are left the rest.
SHARE_OF_RAM = 0.8
CACHE_SHARE = 0.1


def memory_limit() -> int:
    """The bytes that a run may take here, including what it has already."""
    if mx.default_device() == mx.gpu and (gpu := gpu_memory()):
        return gpu
    if sys.platform == "linux":
        return _available() + mx.get_active_memory() + mx.get_cache_memory()
    limit = int(SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    # Where the CPU computes, arrays are in Metal's memory all the same.
    return min(limit, gpu_memory() or limit) if mx.metal.is_available() else limit


def gpu_memory() -> int | None:
    """The bytes that the GPU can use: a Mac's recommended working set, all memory of an NVIDIA card."""
    facts = mx.device_info(mx.gpu)
    size = facts.get("max_recommended_working_set_size") or facts.get("total_memory")
    return int(size) if size else None


def _available() -> int:
    """The bytes that Linux says new programs can have without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@contextmanager
def at_work() -> Iterator[None]:
    """While a run lasts: a Mac does not fall asleep, its GPU keeps the model in memory, and freed memory goes back.

    Memory is wired only where the GPU computes. Without effect on other machines. A Mac's limits are those of the
    process, so they are put back.
    """
    if sys.platform != "darwin":
        yield
        return
    # It ends with this process, however that ends.
    awake = subprocess.Popen(["caffeinate", "-i", "-w", str(os.getpid())])
    limit = memory_limit()
    cache = mx.set_cache_limit(int(CACHE_SHARE * limit))
    wired = mx.set_wired_limit(limit) if mx.default_device() == mx.gpu else None
    try:
        yield
    finally:
        mx.set_cache_limit(cache)
        if wired is not None:
            mx.set_wired_limit(wired)
        awake.terminate()
        awake.wait()
