"""The emoji that collected datasets have for combinations, by image set and name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_genmoji.combinations.names import name_of, role_of

from ..errors import ScrapeError
from ..inputs import read_dataset


@dataclass(frozen=True, eq=False)
class Part:
    """A row of a dataset that can be part of a combination.

    name: the name used in captions; role: a key of `names.ROLES`, or None for an accessory; fields: the whole row.
    """

    name: str
    label: str
    role: str | None
    source: str
    license: str
    skin_tone: tuple[str, ...]
    folder: Path
    fields: dict[str, Any] = field(repr=False)


class Catalogue:
    """The parts of one image set.

    names: the names of the parts that can be a subject, in the dataset's order; by_name, toned: name -> those parts,
    without and with one skin tone; by_label, drawings: label or name -> parts without a skin tone, accessories too.
    """

    def __init__(self, source: str, parts: Sequence[Part]):
        self.source = source
        self.by_label = {part.label: part for part in reversed(parts) if not part.skin_tone}
        self.drawings: dict[str, list[Part]] = {}
        self.by_name: dict[str, list[Part]] = {}
        self.toned: dict[str, list[Part]] = {}
        for part in parts:
            if not part.skin_tone:
                self.drawings.setdefault(part.name, []).append(part)
            if part.role is not None and len(part.skin_tone) < 2:
                (self.toned if part.skin_tone else self.by_name).setdefault(part.name, []).append(part)
        self.names = list(self.by_name)

    def with_role(self, *roles: str) -> list[str]:
        return [name for name, parts in self.by_name.items() if parts[0].role in roles]

    def having(self, names: Iterable[str]) -> list[str]:
        """The names among `names` that this set has."""
        return [name for name in names if name in self.by_name]


def read_catalogues(folders: Sequence[Path]) -> list[Catalogue]:
    """A catalogue for each image set in `folders`. Raises UserError where one is no dataset or has too few parts."""
    parts: dict[str, list[Part]] = {}
    for folder in folders:
        rows = [
            Part(
                name=name_of(row["label"]),
                label=row["label"],
                role=role_of(row["label"], row.get("subgroup")),
                source=row["source"],
                license=row["license"],
                skin_tone=tuple(row.get("skin_tone") or ()),
                folder=folder,
                fields=row,
            )
            for row in read_dataset(folder)
            if isinstance(row.get("label"), str) and row["label"]
        ]
        if len({part.name for part in rows if part.role}) < 2:
            raise ScrapeError(
                f"{folder} has fewer than two emoji that can be put together; genmoji scrape noto collects some."
            )
        for part in rows:
            parts.setdefault(part.source, []).append(part)
    return [Catalogue(source, members) for source, members in parts.items()]
