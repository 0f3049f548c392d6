"""The lists of `lists.txt`: which emoji can take part in what."""

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("lists.txt")


def listed(name: str) -> tuple[str, ...]:
    """The entries of one list, in their order."""
    return _lists()[name]


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in FILE.read_text("utf-8").splitlines():
        if line.startswith("["):
            entries = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            entries += [entry.strip() for entry in line.split(";") if entry.strip()]
    return {name: tuple(entries) for name, entries in found.items()}
