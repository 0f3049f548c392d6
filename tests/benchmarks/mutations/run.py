"""Plants the faults of `table.py` one at a time, and reports whether the tests notice each.

    python tests/benchmarks/mutations/run.py             # all, in a quarter of an hour or more
    python tests/benchmarks/mutations/run.py 1 7         # the first and the seventh
    python tests/benchmarks/mutations/run.py --check     # only whether each has its place in the code

A fault is planted in a temporary copy of the working tree, never in the tree itself. Its tests run until the first
failure. They have to pass without the fault, which is tried first. A fault whose text is not found exactly once is an
error: the code has changed, and `table.py` has to follow. Exit code 0 if at most two faults go unnoticed, 1 if more do,
2 for an error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[3]
MAX_UNNOTICED = 2
PASSED, FAILED = 0, 1
"""Exit codes of pytest; all others are errors of the run itself."""


def main() -> int:
    # A shell starts background jobs with Ctrl-C ignored, which tests that send it would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description="Do the tests notice planted faults?")
    parser.add_argument("number", nargs="*", type=int, help=f"faults by number, 1 to {len(MUTATIONS)}")
    parser.add_argument("--check", action="store_true", help="only check that each fault has its place in the code")
    arguments = parser.parse_args()
    numbers = arguments.number or list(range(1, len(MUTATIONS) + 1))
    if unknown := [number for number in numbers if not 1 <= number <= len(MUTATIONS)]:
        parser.error(f"there are faults 1 to {len(MUTATIONS)}, not {unknown[0]}")

    errors = [fault for number in numbers if (fault := misplaced(MUTATIONS[number - 1]))]
    for error in errors:
        print(error, file=sys.stderr)
    if arguments.check or errors:
        print(f"{len(numbers) - len(errors)} of {len(numbers)} faults have their place in the code.")
        return 2 if errors else 0
    with tempfile.TemporaryDirectory() as scratch:
        return try_all(Path(scratch) / "tree", numbers)


def misplaced(mutation: Mutation) -> str | None:
    """Why a fault cannot be planted, in a sentence; None where it can."""
    path = ROOT / mutation.file
    if not path.exists():
        return f"{mutation.name}: there is no file {mutation.file}."
    count = path.read_text(encoding="utf-8").count(mutation.old)
    if count != 1:
        return f"{mutation.name}: {mutation.file} has {mutation.old!r} {count} times, it must be once."
    missing = [tests for tests in mutation.tests if not (ROOT / tests).exists()]
    return f"{mutation.name}: there are no tests {missing[0]}." if missing else None


def try_all(tree: Path, numbers: Sequence[int]) -> int:
    """Try the faults in a copy of the working tree at `tree`, print a row for each, and return the exit code."""
    copy_working_tree(tree)
    sound: dict[tuple[str, ...], int] = {}
    unnoticed = errors = 0
    print("| | fault | noticed | seconds |\n|---|---|---|---|", flush=True)
    for number in numbers:
        mutation = MUTATIONS[number - 1]
        if mutation.tests not in sound:
            sound[mutation.tests] = run_tests(tree, mutation.tests)
        start = time.perf_counter()
        code = planted(tree, mutation) if sound[mutation.tests] == PASSED else None
        verdict = {PASSED: "**no**", FAILED: "yes", None: "error: the tests fail without it"}.get(
            code, f"error: pytest ended with code {code}"
        )
        unnoticed += code == PASSED
        errors += code not in (PASSED, FAILED)
        print(f"| {number} | {mutation.name} | {verdict} | {time.perf_counter() - start:.0f} |", flush=True)
    print(f"\n{unnoticed} of {len(numbers)} faults are not noticed.")
    return 2 if errors else int(unnoticed > MAX_UNNOTICED)


def copy_working_tree(tree: Path) -> None:
    """Copy what git tracks or does not ignore, as it is in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)


def planted(tree: Path, mutation: Mutation) -> int:
    """Run a fault's tests with the fault planted; returns pytest's exit code."""
    path = tree / mutation.file
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return run_tests(tree, mutation.tests)
    finally:
        path.write_text(before, encoding="utf-8")


def run_tests(tree: Path, tests: Sequence[str]) -> int:
    """Run tests in a copy of the tree until the first failure; returns pytest's exit code."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "--exitfirst", "--quiet", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
