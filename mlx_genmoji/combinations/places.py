"""Places that a subject can be at, each an emoji that is drawn behind it: `places.tsv`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("places.tsv")


@cache
def _table() -> dict[str, str]:
    lines = FILE.read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {row[0]: row[1] for row in rows}


def backdrop(name: str) -> str | None:
    """The label of the emoji that shows a place, by the place's name; None for a name that is not in the table."""
    return _table().get(name)


def is_backdrop(label: str) -> bool:
    """Whether an emoji is a picture of a place, which is drawn behind what is there."""
    return label in _table().values()
