"""What every benchmark reports."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One goal and what was measured. `met` is None for a figure without a goal."""

    what: str
    goal: str
    measured: str
    met: bool | None
    note: str = ""
