"""Text in, a genmoji out, on your own machine.

    import mlx_genmoji

    mlx_genmoji.use_fast_cpu()  # on Linux: MLX computes several times faster; before anything imports MLX
    mlx_genmoji.Genmoji.load().generate("flying pig")[0].save("pig.png")

Importing this package imports neither MLX nor a model, and changes nothing of the process: `Genmoji` and `Sticker` are
imported when they are first used, as is `make_pack`.

Here: fast float32 arithmetic on Linux CPUs, for a process that asks for it with `use_fast_cpu`. MLX's published CPU
build for Linux is linked to the reference BLAS (a few GFLOP/s). Where the system has OpenBLAS, loading it with global
symbols before `mlx.core` makes MLX's matrix products and convolutions use it instead, 15 to 30 times faster.
OpenBLAS's threads wait for their next product by spinning, by default for 25 ms, on cores that other threads, such as
NumPy's, could use. MLX's CPU build also calls malloc for each array and free right after its use. glibc maps fresh
pages for each block of 128 KB or more, which costs more than a simple elementwise operation; with another limit it
reuses its memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, UserError

if TYPE_CHECKING:
    from .packs.make import make_pack
    from .pipeline import Genmoji
    from .sticker import Sticker

    __version__: str

__all__ = ["Cancelled", "Genmoji", "Sticker", "UserError", "make_pack", "use_fast_cpu"]

_MODULES = {"Genmoji": "pipeline", "Sticker": "sticker", "make_pack": "packs.make"}


OPENBLAS = "libopenblas.so.0"
OPT_OUT = "GENMOJI_NO_OPENBLAS"

# How long OpenBLAS's threads spin: 2 to the power of it, in cycles of the processor.
SPIN, SPIN_CYCLES = "OPENBLAS_THREAD_TIMEOUT", "18"

# glibc's mallopt: how much free memory is kept; the block size from which memory is mapped (32 MiB is the maximum);
# how many blocks may be mapped (none, so that larger arrays reuse memory too, without the zeroing of fresh pages); and
# how many arenas there are (one, so that memory that a thread freed is there for the others).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
MALLOC_OPTIONS = {M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_MAX: 0, M_ARENA_MAX: 1}


def use_fast_cpu() -> bool:
    """Make MLX several times faster on a Linux CPU, for this whole process: call it before `mlx.core` is imported.

    Loads OpenBLAS with global symbols, where the system has it, sets OPENBLAS_THREAD_TIMEOUT unless the environment
    does, and lets glibc keep freed memory. Without effect on other systems; `GENMOJI_NO_OPENBLAS=1` in the environment
    keeps MLX's own BLAS. The `genmoji` command calls it. Returns whether MLX will use OpenBLAS: False after `mlx.core`
    was imported.
    """
    keep_memory()
    return prefer_openblas()


def prefer_openblas() -> bool:
    """Load OpenBLAS so that MLX, imported later, uses it; return whether it will. A system without it is no error."""
    opted_out = os.environ.get(OPT_OUT, "") not in ("", "0")
    if sys.platform != "linux" or opted_out or "mlx.core" in sys.modules:
        return False
    # OpenBLAS reads it when it is loaded.
    os.environ.setdefault(SPIN, SPIN_CYCLES)
    try:
        ctypes.CDLL(OPENBLAS, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def keep_memory() -> None:
    """Let glibc keep freed memory for the next arrays. Other C libraries have no `mallopt` and need none."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, value in MALLOC_OPTIONS.items():
            mallopt(option, value)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Imported here: it takes 15 ms, which every command would wait for.
        from importlib.metadata import version

        return version("mlx-genmoji")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES, "__version__"]
