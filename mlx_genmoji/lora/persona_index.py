"""A folder of adapters, one for each skin tone and person type that the data had enough of, and its index.

`index.json`, written by training:

    {
      "base": {"name": "builtin", "sha256": "5d41..."},
      "adapters": [
        {"file": "style.safetensors", "skin_tone": null, "person_type": null, "examples": 3000},
        {"file": "dark.safetensors", "skin_tone": "dark", "person_type": null, "examples": 240},
        {"file": null, "skin_tone": "light", "person_type": "man", "examples": 3}
      ]
    }

The adapter of neither a skin tone nor a person type is the style's, which requests fall back to; there is one. An
adapter that was not made, its data being too few, has no file.
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
    """Its name in the folder; None where it was not made, for want of data."""
    skin_tone: str | None = None
    person_type: str | None = None
    examples: int = 0
    """Pictures that it was, or would have been, trained on."""


class Choice(NamedTuple):
    """The adapter for a request."""

    file: str
    note: str | None
    """What of the request it does not know, and why, as a sentence."""


@dataclass(frozen=True)
class Index:
    """What an `index.json` says."""

    entries: tuple[Entry, ...]
    base_name: str | None = None
    base_sha256: str | None = None

    @property
    def style(self) -> Entry:
        """What requests fall back to."""
        return next(entry for entry in self.entries if _asks(entry) == (None, None))

    def choose(self, skin_tone: str | None, person_type: str | None) -> Choice:
        """The most specific adapter: of both, else of the skin tone, else of the person type, else the style's."""
        missing: list[Entry] = []
        for tone, kind in ((skin_tone, person_type), (skin_tone, None), (None, person_type), (None, None)):
            entry = next((entry for entry in self.entries if _asks(entry) == (tone, kind)), None)
            if entry is not None and entry.file is not None:
                return Choice(entry.file, _note(entry, skin_tone, person_type, missing))
            if entry is not None:
                missing.append(entry)
        raise AssertionError("an index has a style's adapter")


def read_index(folder: str | Path) -> Index:
    """Raises UserError in one sentence where the index is missing, damaged, or names a file that is not there."""
    path = Path(folder) / INDEX
    said = read_json(path)
    base = said.get("base") or {}
    try:
        index = Index(tuple(Entry(**entry) for entry in said["adapters"]), base.get("name"), base.get("sha256"))
        for entry in index.entries:
            _check(entry)
        asked = [_asks(entry) for entry in index.entries]
        if len(set(asked)) < len(asked):
            raise ValueError("two adapters are for the same")
        if (None, None) not in asked or index.style.file is None:
            raise ValueError("no adapter is for neither a skin tone nor a person type")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no index of adapters: {quoted(error)}.") from None
    for entry in index.entries:
        if entry.file is not None and not (path.parent / entry.file).exists():
            raise UserError(f"{path} lists {quoted(entry.file)}, which is not there.")
    return index


def write_index(folder: str | Path, index: Index) -> None:
    """Write the index of a folder, moved into place when whole."""
    base = {"name": index.base_name, "sha256": index.base_sha256}
    write_json(Path(folder) / INDEX, {"base": base, "adapters": [asdict(entry) for entry in index.entries]})


def _asks(entry: Entry) -> tuple[str | None, str | None]:
    return entry.skin_tone, entry.person_type


def _check(entry: Entry) -> None:
    for name, value in (("skin_tone", entry.skin_tone), ("person_type", entry.person_type), ("file", entry.file)):
        if not isinstance(value, str | None):
            raise ValueError(f"a {name} is {value!r}")
    if entry.file is not None and (Path(entry.file).name != entry.file or not entry.file.isprintable()):
        raise ValueError(f"{entry.file!r} is not the name of a file beside it")


def _note(found: Entry, skin_tone: str | None, person_type: str | None, missing: Sequence[Entry]) -> str | None:
    if _asks(found) == (skin_tone, person_type):
        return None
    counted = f", of which the data had {missing[0].examples} pictures" if missing else ""
    lacks = _asks(missing[0]) if missing else (skin_tone, person_type)
    return f"There is no adapter for {_words(*lacks)}{counted}: {found.file} draws instead."


def _words(skin_tone: str | None, person_type: str | None) -> str:
    tone = f"{skin_tone} skin" if skin_tone else ""
    return " and ".join(filter(None, (tone, person_type)))


def is_index(path: object) -> TypeGuard[str | Path]:
    """Whether this is a folder of adapters."""
    return isinstance(path, str | Path) and (Path(path) / INDEX).is_file()
