"""OpenBLAS in place of MLX's reference BLAS: there when it can be, quietly absent when it cannot."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from mlx_genmoji import backend

GFLOPS = """
import sys, time
import mlx_genmoji
assert not any(name.split(".")[0] == "mlx" for name in sys.modules), "importing mlx_genmoji imports MLX"
import mlx.core as mx
n = 1024
a, b = mx.random.normal((n, n)), mx.random.normal((n, n))
mx.eval(a, b, a[:64] @ b)
start = time.perf_counter()
mx.eval(a @ b)
print(2 * n**3 / (time.perf_counter() - start) / 1e9)
"""


def has_openblas() -> bool:
    try:
        ctypes.CDLL(backend.OPENBLAS)
    except OSError:
        return False
    return sys.platform == "linux"


needs_openblas = pytest.mark.skipif(not has_openblas(), reason="needs Linux with OpenBLAS")


def gflops(**environment: str) -> float:
    base = {name: value for name, value in os.environ.items() if name != backend.OPT_OUT}
    run = subprocess.run([sys.executable, "-c", GFLOPS], env=base | environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return float(run.stdout)


@needs_openblas
def test_openblas_makes_matrix_products_several_times_faster() -> None:
    assert gflops() > 4 * gflops(GENMOJI_NO_OPENBLAS="1")


@pytest.fixture
def before_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.delenv(backend.OPT_OUT, raising=False)


@needs_openblas
@pytest.mark.usefixtures("before_mlx")
def test_openblas_is_preferred_unless_the_user_opts_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend.prefer_openblas()
    monkeypatch.setenv(backend.OPT_OUT, "1")
    assert not backend.prefer_openblas()
    monkeypatch.setenv(backend.OPT_OUT, "0")
    assert backend.prefer_openblas()


@needs_openblas
@pytest.mark.usefixtures("before_mlx")
def test_openblas_s_threads_spin_as_long_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.SPIN, "26")
    backend.prefer_openblas()
    assert os.environ[backend.SPIN] == "26"
    monkeypatch.delenv(backend.SPIN)
    backend.prefer_openblas()
    assert os.environ[backend.SPIN] == backend.SPIN_CYCLES


@pytest.mark.usefixtures("before_mlx")
def test_a_system_without_openblas_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "OPENBLAS", "libno-such-blas.so.0")
    assert not backend.prefer_openblas()


@pytest.mark.usefixtures("before_mlx")
def test_only_linux_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: pytest.fail("loaded a library"))
    assert not backend.prefer_openblas()


PAGE_FAULTS = """
import ctypes, resource, sys
if sys.argv[1] == "ours":
    import mlx_genmoji
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def page_faults(size=30 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(size) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print([page_faults() for _ in range(4)][-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux alone has to be told")
def test_memory_that_arrays_give_back_is_kept_for_the_next() -> None:
    def faults(whose: str) -> int:
        run = subprocess.run([sys.executable, "-c", PAGE_FAULTS, whose], capture_output=True, text=True)
        return int(run.stdout)

    assert faults("ours") < 100 < 1000 < faults("the system's")
