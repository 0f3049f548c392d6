"""Runs the benchmarks beside this file and writes one table of goals and figures, to stdout and to RESULTS.md.

    python tests/benchmarks/run.py             # all of them
    python tests/benchmarks/run.py startup     # bench_startup.py alone; the other rows of RESULTS.md stay

A benchmark is a file `bench_NAME.py` with a function `rows()` that yields `Row`s. Exit code 1 if a goal is not met.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from row import Row

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
HEADER = "| benchmark | what | goal | measured | met | note | machine |\n|---|---|---|---|---|---|---|\n"
MET = {True: "yes", False: "**no**", None: ""}


def main() -> int:
    names = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description="Run the benchmarks, all or those named.")
    parser.add_argument("name", nargs="*", help=f"out of: {', '.join(names)}")
    chosen = parser.parse_args().name or names
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(names)}")

    lines = {name: lines_of(name) for name in names}
    all_met = True
    print(HEADER, end="")
    for name in chosen:
        lines[name] = []
        for row in import_module(f"bench_{name}").rows():
            all_met &= row.met is not False
            lines[name].append(as_line(name, row))
            print(lines[name][-1], end="", flush=True)
    table = HEADER + "".join(line for name in names for line in lines[name])
    RESULTS.write_text(f"# Figures\n\nWritten by `make bench`.\n\n{table}", encoding="utf-8")
    return 0 if all_met else 1


def lines_of(name: str) -> list[str]:
    """The rows that RESULTS.md holds of the benchmark `name`."""
    if not RESULTS.exists():
        return []
    lines = RESULTS.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.startswith(f"| {name} |")]


def as_line(name: str, row: Row) -> str:
    machine = f"{os.cpu_count()} x {platform.machine()}, {platform.system()}, MLX {version('mlx')}"
    cells = (name, row.what, row.goal, row.measured, MET[row.met], row.note, machine)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.exit(main())
