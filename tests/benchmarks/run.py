"""Runs the benchmarks beside this file and writes one table of goals and figures, to stdout and to RESULTS.md.

    python tests/benchmarks/run.py             # all of them
    python tests/benchmarks/run.py startup     # bench_startup.py alone; the other rows of RESULTS.md stay
    python tests/benchmarks/run.py export:chains export:sizes     # parts of one; its other rows stay too

A benchmark is a file `bench_NAME.py` with a function `rows()` that yields `Row`s; one with `PARTS` takes the names of
some. Rows are written as they come. Exit code 1 if a goal is not met.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import fast_cpu  # noqa: F401
from row import Row

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
HEADER = "| benchmark | what | goal | measured | met | note | machine |\n|---|---|---|---|---|---|---|\n"
MET = {True: "yes", False: "**no**", None: ""}


def main() -> int:
    names = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description="Run the benchmarks, all or those named.")
    parser.add_argument("name", nargs="*", help=f"out of: {', '.join(names)}; or a part, NAME:PART")
    chosen: dict[str, list[str]] = {}
    for given in parser.parse_args().name or names:
        name, _, part = given.partition(":")
        if name not in names:
            parser.error(f"no benchmark is called {name}; there are: {', '.join(names)}")
        chosen.setdefault(name, []).extend([part] if part else [])

    lines = {name: lines_of(name) for name in names}
    all_met = True
    print(HEADER, end="")
    for name, parts in chosen.items():
        measured: list[str] = []
        for row in rows_of(name, parts):
            all_met &= row.met is not False
            measured.append(as_line(name, row))
            print(measured[-1], end="", flush=True)
            lines[name] = with_row(lines[name], measured[-1])
            write(lines)
        if not parts:
            lines[name] = measured
            write(lines)
    return 0 if all_met else 1


def rows_of(name: str, parts: Sequence[str]) -> Iterator[Row]:
    """The rows of a benchmark or of some of its parts; an error ends them with a row that reports it."""
    try:
        benchmark = import_module(f"bench_{name}")
        yield from benchmark.rows(parts) if parts else benchmark.rows()
    except Exception as error:
        yield Row("did not end", "", "", False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def with_row(lines: Sequence[str], line: str) -> list[str]:
    """`lines` with one more line, which replaces the line of the same figure if there is one."""
    about = line.split(" | ")[:2]
    places = [i for i, other in enumerate(lines) if other.split(" | ")[:2] == about]
    return [*lines[: places[0]], line, *lines[places[0] + 1 :]] if places else [*lines, line]


def write(lines: Mapping[str, Sequence[str]]) -> None:
    table = HEADER + "".join(line for own in lines.values() for line in own)
    RESULTS.write_text(f"# Figures\n\nWritten by `make bench`.\n\n{table}", encoding="utf-8")


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
