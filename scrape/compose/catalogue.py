"""What the collected datasets have to compose: their rows as parts, by set and by name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mlx_genmoji.combinations.names import name_of, role_of

from ..errors import ScrapeError
from ..merge import read_rows
from .parts import Part


class Catalogue:
    """The parts of one image set.

    names: those of the figures that can be a subject, in the order of the dataset; by_name: a name's drawings without
    and with skin tones; by_label, drawings: every part without a skin tone, accessories included.
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
        """Those of `names` that this set draws."""
        return [name for name in names if name in self.by_name]


def read_catalogues(folders: Sequence[Path]) -> list[Catalogue]:
    """One catalogue for each set in the datasets. Raises ScrapeError where a folder is none, or has too few parts."""
    parts: dict[str, list[Part]] = {}
    for folder in folders:
        found = [
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
            for row in read_rows(folder)
            if isinstance(row.get("label"), str) and row["label"]
        ]
        if len({part.name for part in found if part.role}) < 2:
            raise ScrapeError(
                f"{folder} has fewer than two emoji that can be put together; genmoji scrape noto collects some."
            )
        for part in found:
            parts.setdefault(part.source, []).append(part)
    return [Catalogue(source, its) for source, its in parts.items()]
