"""Fast float32 arithmetic on Linux CPUs.

MLX's published CPU build for Linux is linked to the reference BLAS (a few GFLOP/s). Where the system has OpenBLAS,
loading it with global symbols before `mlx.core` makes MLX's matrix products and convolutions use it instead, 15 to 30
times faster. `GENMOJI_NO_OPENBLAS=1` leaves MLX as it was published. OpenBLAS's threads wait for their next product by
spinning, for 25 ms unless told otherwise, on cores that others could use, NumPy's threads first of all.

Its CPU build also asks the C library for each array and gives it back at once. From glibc's first threshold on, 128 KB,
that is a mapping of fresh pages each time, which costs more than a simple formula; so such memory is kept for the next.
"""

from __future__ import annotations

import ctypes
import os
import sys

OPENBLAS = "libopenblas.so.0"
OPT_OUT = "GENMOJI_NO_OPENBLAS"

# For how long OpenBLAS's threads spin: 2 to the power of it, in cycles of the processor.
SPIN, SPIN_CYCLES = "OPENBLAS_THREAD_TIMEOUT", "18"

# glibc's mallopt: the size from which memory is mapped (32 MiB is its maximum), and the free memory that is kept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = {M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 2**31 - 1}


def prefer_openblas() -> bool:
    """Let MLX find OpenBLAS's symbols first, and tell whether it will. Without effect once `mlx.core` is imported.

    A system without OpenBLAS is no error: MLX works all the same.
    """
    opted_out = os.environ.get(OPT_OUT, "") not in ("", "0")
    if sys.platform != "linux" or opted_out or "mlx.core" in sys.modules:
        return False
    os.environ.setdefault(SPIN, SPIN_CYCLES)
    try:
        ctypes.CDLL(OPENBLAS, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def keep_memory() -> None:
    """Let the C library keep what arrays give back. Only glibc has to be told, and only it has `mallopt`."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, value in KEPT.items():
            mallopt(option, value)
