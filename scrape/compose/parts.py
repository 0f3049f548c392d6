"""A row of a dataset as a part of compositions."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, eq=False)
class Part:
    """A row of a dataset as a part of compositions. `role` is a key of `names.ROLES`, or None for an accessory."""

    name: str
    label: str
    role: str | None
    source: str
    license: str
    skin_tone: tuple[str, ...]
    folder: Path
    fields: dict[str, Any] = field(repr=False)
