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


@pytest.mark.usefixtures("before_mlx")
def test_a_system_without_openblas_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "OPENBLAS", "libno-such-blas.so.0")
    assert not backend.prefer_openblas()


@pytest.mark.usefixtures("before_mlx")
def test_only_linux_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: pytest.fail("loaded a library"))
    assert not backend.prefer_openblas()
