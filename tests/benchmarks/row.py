"""The row of the results' table that every benchmark yields."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One measured figure and its goal. `met` is None for a figure without a goal."""

    what: str
    goal: str
    measured: str
    met: bool | None
    note: str = ""
