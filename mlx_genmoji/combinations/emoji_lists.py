"""The lists in `lists.txt`: which emoji can be worn, ridden, held and so on."""

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("lists.txt")


def listed(name: str) -> tuple[str, ...]:
    """The labels in one list, in the order of the file."""
    return _lists()[name]


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    lists: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in FILE.read_text("utf-8").splitlines():
        if line.startswith("["):
            entries = lists.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            entries += [entry.strip() for entry in line.split(";") if entry.strip()]
    return {name: tuple(entries) for name, entries in lists.items()}
