"""Runs the benchmarks beside this file and writes one table of goals and figures, to stdout and to RESULTS.md.

    python tests/benchmarks/run.py             # all of them
    python tests/benchmarks/run.py startup     # bench_startup.py alone; the other rows of RESULTS.md stay
    python tests/benchmarks/run.py export:chains export:sizes     # parts of one; its other rows stay too

A benchmark is a file `bench_NAME.py` with a function `rows()` that yields `Row`s; one with `PARTS` takes the names of
some. Rows are written as they come. A benchmark that raises an exception keeps its other rows in RESULTS.md, its
traceback goes to stderr, and the benchmarks after it still run. Exit code 1 if a goal is not met or a benchmark failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
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

    return run(chosen, names)


def run(chosen: Mapping[str, Sequence[str]], names: Sequence[str]) -> int:
    """Run the benchmarks `chosen` (name -> parts, none for all of it) and return the exit code.

    `names` are all benchmarks, in the order of their rows in RESULTS.md.
    """
    lines = {name: lines_of(name) for name in names}
    all_met, failed = True, []
    print(HEADER, end="")
    for name, parts in chosen.items():
        measured: list[str] = []
        try:
            for row in rows_of(name, parts):
                all_met &= row.met is not False
                measured.append(as_line(name, row))
                print(measured[-1], end="", flush=True)
                lines[name] = with_row(lines[name], measured[-1])
                write(lines)
            if not measured:
                raise ValueError("The benchmark yielded no rows.")
        # SystemExit is how the recognisers refuse a download that is not theirs.
        except (Exception, SystemExit):
            traceback.print_exc()
            failed.append(name)
            continue
        if not parts:
            lines[name] = measured
            write(lines)
    if failed:
        print(f"Failed, with their other rows left as they were: {', '.join(failed)}.", file=sys.stderr)
    return 0 if all_met and not failed else 1


def rows_of(name: str, parts: Sequence[str]) -> Iterator[Row]:
    """The rows of a benchmark, or of some of its parts."""
    benchmark = import_module(f"bench_{name}")
    yield from benchmark.rows(parts) if parts else benchmark.rows()


def with_row(lines: Sequence[str], line: str) -> list[str]:
    """`lines` with one more, in the place of the one that says the same of the same."""
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
