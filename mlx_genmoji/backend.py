"""Fast float32 arithmetic on Linux CPUs.

MLX's published CPU build for Linux is linked to the reference BLAS (a few GFLOP/s). Where the system has OpenBLAS,
loading it with global symbols before `mlx.core` makes MLX's matrix products and convolutions use it instead, 15 to 30
times faster. `GENMOJI_NO_OPENBLAS=1` leaves MLX as it was published.
"""

from __future__ import annotations

import ctypes
import os
import sys

OPENBLAS = "libopenblas.so.0"
OPT_OUT = "GENMOJI_NO_OPENBLAS"


def prefer_openblas() -> bool:
    """Let MLX find OpenBLAS's symbols first, and tell whether it will. Without effect once `mlx.core` is imported.

    A system without OpenBLAS is no error: MLX works all the same.
    """
    opted_out = os.environ.get(OPT_OUT, "") not in ("", "0")
    if sys.platform != "linux" or opted_out or "mlx.core" in sys.modules:
        return False
    try:
        ctypes.CDLL(OPENBLAS, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
