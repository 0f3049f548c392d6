"""OpenBLAS in place of MLX's reference BLAS, and memory that is kept: for a process that asks, and no other."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlx_genmoji

GFLOPS = """
import sys, time
import mlx_genmoji
assert mlx_genmoji.use_fast_cpu() == (sys.argv[1] == "True"), "wrong about OpenBLAS"
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
        ctypes.CDLL(mlx_genmoji.OPENBLAS)
    except OSError:
        return False
    return sys.platform == "linux"


needs_openblas = pytest.mark.skipif(not has_openblas(), reason="needs Linux with OpenBLAS")


def gflops(openblas: bool, **environment: str) -> float:
    base = {name: value for name, value in os.environ.items() if name != mlx_genmoji.OPT_OUT}
    run = subprocess.run(
        [sys.executable, "-c", GFLOPS, str(openblas)], env=base | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return float(run.stdout)


@needs_openblas
def test_openblas_makes_matrix_products_several_times_faster() -> None:
    assert gflops(True) > 4 * gflops(False, GENMOJI_NO_OPENBLAS="1")


@pytest.fixture
def before_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.delenv(mlx_genmoji.OPT_OUT, raising=False)


@needs_openblas
@pytest.mark.usefixtures("before_mlx")
def test_openblas_is_preferred_unless_the_user_opts_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlx_genmoji.prefer_openblas()
    monkeypatch.setenv(mlx_genmoji.OPT_OUT, "1")
    assert not mlx_genmoji.prefer_openblas()
    monkeypatch.setenv(mlx_genmoji.OPT_OUT, "0")
    assert mlx_genmoji.prefer_openblas()


@needs_openblas
@pytest.mark.usefixtures("before_mlx")
def test_openblas_s_threads_spin_as_long_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mlx_genmoji.SPIN, "26")
    mlx_genmoji.prefer_openblas()
    assert os.environ[mlx_genmoji.SPIN] == "26"
    monkeypatch.delenv(mlx_genmoji.SPIN)
    mlx_genmoji.prefer_openblas()
    assert os.environ[mlx_genmoji.SPIN] == mlx_genmoji.SPIN_CYCLES


@pytest.mark.usefixtures("before_mlx")
def test_a_system_without_openblas_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_genmoji, "OPENBLAS", "libno-such-blas.so.0")
    assert not mlx_genmoji.prefer_openblas()


@pytest.mark.usefixtures("before_mlx")
def test_only_linux_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: pytest.fail("loaded a library"))
    assert not mlx_genmoji.prefer_openblas()


def test_openblas_comes_too_late_once_mlx_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", sys)
    monkeypatch.delenv(mlx_genmoji.OPT_OUT, raising=False)
    monkeypatch.delenv(mlx_genmoji.SPIN, raising=False)
    assert not mlx_genmoji.use_fast_cpu()
    assert mlx_genmoji.SPIN not in os.environ


CHANGES = """
import ctypes, os, sys
calls, load = [], ctypes.CDLL
def spy(name, *arguments, **options):
    calls.append(str(name))
    return load(name, *arguments, **options)
ctypes.CDLL = spy
before = dict(os.environ)
import mlx_genmoji
assert not any(name.split(".")[0] == "mlx" for name in sys.modules), "importing mlx_genmoji imports MLX"
if sys.argv[1] == "command":
    from mlx_genmoji.__main__ import main
    sys.argv[1:] = ["--version"]
    main()
elif sys.argv[1] == "function":
    mlx_genmoji.use_fast_cpu()
    mlx_genmoji.use_fast_cpu()
elif sys.argv[1] == "everything":
    import mlx_genmoji.pipeline, mlx_genmoji.lora, mlx_genmoji.hub, scrape, train, quantize, app.cli
changed = sorted(name for name in os.environ if os.environ[name] != before.get(name))
loaded = "libopenblas.so" in open("/proc/self/maps").read()
print(changed, loaded, [name for name in calls if name in ("None", "libopenblas.so.0")])
"""


@pytest.fixture
def some_openblas(tmp_path: Path) -> str:
    """A folder with another library under OpenBLAS's name, so that this can be tested without OpenBLAS."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").split()
    (tmp_path / mlx_genmoji.OPENBLAS).write_bytes(Path(next(name for name in maps if "/libm." in name)).read_bytes())
    return str(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is touched")
@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("import", "[] False []"),
        ("everything", "[] False []"),
        ("function", "['OPENBLAS_THREAD_TIMEOUT'] True ['None', 'libopenblas.so.0', 'None', 'libopenblas.so.0']"),
        ("command", "['OPENBLAS_THREAD_TIMEOUT'] True ['None', 'libopenblas.so.0']"),
    ],
)
def test_only_who_asks_for_it_has_the_process_changed(what: str, changes: str, some_openblas: str) -> None:
    """Its environment, the libraries in its memory, and the C library's options (`mallopt` of the library None)."""
    base = {name: value for name, value in os.environ.items() if name not in (mlx_genmoji.OPT_OUT, mlx_genmoji.SPIN)}
    base["LD_LIBRARY_PATH"] = some_openblas
    run = subprocess.run([sys.executable, "-c", CHANGES, what], env=base, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == changes


PAGE_FAULTS = """
import ctypes, resource, sys
import mlx_genmoji
if sys.argv[1] == "fast":
    mlx_genmoji.use_fast_cpu()
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
    def faults(how: str) -> int:
        run = subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], capture_output=True, text=True)
        return int(run.stdout)

    assert faults("fast") < 100 < 1000 < faults("as it is")
