"""A folder of adapters, one for each skin tone and person type with enough training data, and its index.

Training writes `index.json`:

    {
      "base": {"name": "builtin", "sha256": "5d41..."},
      "adapters": [
        {"file": "style.safetensors", "skin_tone": null, "person_type": null, "examples": 3000},
        {"file": "dark.safetensors", "skin_tone": "dark", "person_type": null, "examples": 240},
        {"file": null, "skin_tone": "light", "person_type": "man", "examples": 3}
      ]
    }

The adapter without a skin tone and person type is the style's. There is exactly one, and requests fall back to it. An
adapter that was not trained, because it had too little data, has no file.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeGuard

from ..errors import UserError, quoted
from ..files import read_json, write_json

INDEX = "index.json"


@dataclass(frozen=True)
class Entry:
    """One adapter of a folder."""

    file: str | None
    """Its name in the folder; None if it was not trained, because it had too little data."""
    skin_tone: str | None = None
    person_type: str | None = None
    examples: int = 0
    """The number of pictures for it in the training data."""


class Choice(NamedTuple):
    """The adapter for a request."""

    file: str
    note: str | None
    """A sentence about what the adapter lacks that the request asks for; None if nothing."""


@dataclass(frozen=True)
class Index:
    """The contents of an `index.json`."""

    entries: tuple[Entry, ...]
    base_name: str | None = None
    base_sha256: str | None = None

    @property
    def style(self) -> Entry:
        """The style's adapter, which requests fall back to."""
        return next(entry for entry in self.entries if _persona(entry) == (None, None))

    def choose(self, skin_tone: str | None, person_type: str | None) -> Choice:
        """The most specific adapter: for both, else for the skin tone, else for the person type, else the style's."""
        missing: list[Entry] = []
        for tone, kind in ((skin_tone, person_type), (skin_tone, None), (None, person_type), (None, None)):
            entry = next((entry for entry in self.entries if _persona(entry) == (tone, kind)), None)
            if entry is not None and entry.file is not None:
                return Choice(entry.file, _note(entry, skin_tone, person_type, missing))
            if entry is not None:
                missing.append(entry)
        raise AssertionError("an index always has the style's adapter")


def read_index(folder: str | Path) -> Index:
    """The index of a folder. Raises UserError if it is missing or damaged, or if a file that it lists is missing."""
    path = Path(folder) / INDEX
    content = read_json(path)
    base = content.get("base") or {}
    try:
        index = Index(tuple(Entry(**entry) for entry in content["adapters"]), base.get("name"), base.get("sha256"))
        for entry in index.entries:
            _check(entry)
        personas = [_persona(entry) for entry in index.entries]
        if len(set(personas)) < len(personas):
            raise ValueError("two adapters are for the same skin tone and person type")
        if (None, None) not in personas or index.style.file is None:
            raise ValueError("the style's adapter, without a skin tone and person type, is missing")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a valid index of adapters: {quoted(error)}.") from None
    for entry in index.entries:
        if entry.file is not None and not (path.parent / entry.file).exists():
            raise UserError(f"{path} lists {quoted(entry.file)}, which is missing.")
    return index


def write_index(folder: str | Path, index: Index) -> None:
    """Write the index of a folder, whole or not at all."""
    base = {"name": index.base_name, "sha256": index.base_sha256}
    write_json(Path(folder) / INDEX, {"base": base, "adapters": [asdict(entry) for entry in index.entries]})


def _persona(entry: Entry) -> tuple[str | None, str | None]:
    return entry.skin_tone, entry.person_type


def _check(entry: Entry) -> None:
    for name, value in (("skin_tone", entry.skin_tone), ("person_type", entry.person_type), ("file", entry.file)):
        if not isinstance(value, str | None):
            raise ValueError(f"a {name} is {value!r}")
    if entry.file is not None and (Path(entry.file).name != entry.file or not entry.file.isprintable()):
        raise ValueError(f"{entry.file!r} is not the name of a file in the folder")


def _note(entry: Entry, skin_tone: str | None, person_type: str | None, missing: Sequence[Entry]) -> str | None:
    if _persona(entry) == (skin_tone, person_type):
        return None
    reason = f" (the training data had {missing[0].examples} pictures)" if missing else ""
    lacking = _persona(missing[0]) if missing else (skin_tone, person_type)
    return f"There is no adapter for {_description(*lacking)}{reason}: {entry.file} is used instead."


def _description(skin_tone: str | None, person_type: str | None) -> str:
    tone = f"{skin_tone} skin" if skin_tone else ""
    return " and ".join(filter(None, (tone, person_type)))


def is_index(path: object) -> TypeGuard[str | Path]:
    """Whether this is a folder of adapters."""
    return isinstance(path, str | Path) and (Path(path) / INDEX).is_file()
