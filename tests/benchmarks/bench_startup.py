"""Measures the time of a cold `genmoji generate`, compared with that of `import torch, diffusers` alone.

Both are timed alternately, so that other work on the machine slows both equally.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from row import Row

ROUNDS = 7
GENMOJI = Path(sys.executable).with_name("genmoji")
# One picture, which the goals are for, and two put together.
ONE, COMBINED = "pig", "flying pig"
GOALS = {"without OpenBLAS": 1.5, "with OpenBLAS": 1.0}
OPT_OUT = "GENMOJI_NO_OPENBLAS"


def rows() -> Iterator[Row]:
    has_openblas = _has_openblas()
    with tempfile.TemporaryDirectory() as folder:
        oracle = [sys.executable, "-c", "import torch, diffusers"]
        oracle_times: list[float] = []
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):
            oracle_times.append(_seconds(oracle))
            for prompt in (ONE, COMBINED):
                generate = [str(GENMOJI), "generate", prompt, "--output", f"{folder}/pig.png"]
                times.setdefault((prompt, "without OpenBLAS"), []).append(_seconds(generate, {OPT_OUT: "1"}))
                if has_openblas:
                    times.setdefault((prompt, "with OpenBLAS"), []).append(_seconds(generate))
    for (prompt, how), taken in times.items():
        yield _row(prompt, how, taken, oracle_times)


def _row(prompt: str, how: str, times: list[float], oracle_times: list[float]) -> Row:
    seconds, oracle = statistics.median(times), statistics.median(oracle_times)
    goal = GOALS[how] if prompt == ONE else None
    return Row(
        what=f"cold `genmoji generate {prompt!r}` to PNG, {how}, against `import torch, diffusers`",
        goal=f"<= {goal} x" if goal else "reported",
        measured=f"{seconds / oracle:.2f} x ({seconds:.2f} s / {oracle:.2f} s)",
        met=seconds <= goal * oracle if goal else None,
        note=f"medians of {len(times)}, in turn" + ("" if goal else "; drawn by parts, so two pictures"),
    )


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    base = {name: value for name, value in os.environ.items() if name != OPT_OUT}
    start = time.perf_counter()
    subprocess.run(command, env=base | (environment or {}), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _has_openblas() -> bool:
    code = "import sys; from mlx_genmoji import prefer_openblas; sys.exit(not prefer_openblas())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
