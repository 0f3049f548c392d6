"""The captions of a user's own pictures, in the forms that people have them.

A picture's caption is the first of:

- its row in a `metadata.jsonl` or `metadata.csv` of its folder or one above it, as in Hugging Face's ImageFolder with
  splits: `file_name`, relative to that folder, `text` (or `caption`, or `prompt`), and any of `OPTIONAL`;
- the file of its name: `pig.txt`, `pig.caption` (kohya), `pig.png.txt`, or `pig.json` with a `caption` (img2dataset);
- the words of its name, or where that has none ("IMG_0001.png"), of its folder: "flying pig/0001.png".
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mlx_genmoji.prompt.lexicon import SKIN_TONES

from .errors import ScrapeError

METADATA = ("metadata.jsonl", "metadata.csv")

TEXTS = ("text", "caption", "prompt")
"""The columns of a metadata file, and the fields of a picture's JSON file, that may hold the caption."""

CAPTION_SUFFIXES = (".txt", ".caption", ".cap", ".json")

# The optional columns of a metadata file; lists are separated by commas in a CSV file.
OPTIONAL = {"label": str, "description": str, "tags": list, "skin_tone": list, "person_type": str}

# Longer captions are cut: a text encoder reads 77 tokens.
CAPTION_LENGTH = 1_000

# The largest files that are read.
CAPTION_BYTES = 64_000
METADATA_BYTES = 200_000_000

DELIMITERS = ",;\t"
"""Those that spreadsheets put between the cells of a CSV file; the first line tells which."""

NO_WORDS = re.compile(r"(img|dsc[fn]?|pxl|image|images|photo|picture|screenshot|untitled|download|[0-9a-f]{8,})?")
"""What is left of a name that says nothing, without its digits."""

SPLITS = frozenset(
    "train training test testing val valid validation dev data dataset images image img pictures".split()
)
"""Folders of a dataset that are no class of pictures."""

# Unicode's embeddings, overrides, isolates and marks of direction.
DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F))


class Captions:
    """The captions of the pictures in a folder. Raises ScrapeError, which names file and line, for invalid metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = read_metadata(path)

    def of(self, name: str) -> dict[str, Any]:
        """The fields of the picture `name`, such as `cats/tom.png`; its `text` is "" where there is none."""
        fields = self._rows.get(_key(name), {})
        file = self.path / name
        text = fields.get("text") or self._beside(file) or words(file.stem) or self._class(name)
        return {**fields, "text": text}

    def without_picture(self, names: Collection[str]) -> list[str]:
        """The names in metadata files of pictures that are not among `names`."""
        return sorted(self._rows.keys() - set(map(_key, names)))

    def _beside(self, picture: Path) -> str:
        """The caption in the file with a picture's name, "" where there is none."""
        for suffix in CAPTION_SUFFIXES:
            for file in (picture.with_suffix(suffix), picture.with_name(picture.name + suffix)):
                if file.is_file() and inside(file, self.path) and file.stat().st_size <= CAPTION_BYTES:
                    text = decode(file.read_bytes())
                    if caption := plain(_json_caption(text) if suffix == ".json" else text):
                        return caption
        return ""

    def _class(self, name: str) -> str:
        """The words of the nearest folder that names a class; kohya's "10_flying pig" is "flying pig"."""
        for folder in PurePosixPath(name).parent.parts[::-1]:
            said = words(re.sub(r"^[0-9]+_", "", folder))
            if said and said not in SPLITS:
                return said
        return ""


def read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """Picture name -> the columns in the metadata files of a folder and those in it. Opens no file that a row names."""
    captions: dict[str, dict[str, Any]] = {}
    found = (file for kind in METADATA for file in sorted(path.rglob(kind)))
    for file in found:
        folder = file.parent.relative_to(path)
        if any(part.startswith(".") for part in folder.parts) or not file.is_file() or not inside(file, path):
            continue
        if file.stat().st_size > METADATA_BYTES:
            raise ScrapeError(f"{file} is larger than {METADATA_BYTES // 1_000_000} MB.")
        text = decode(file.read_bytes())
        for number, row in _json_rows(file, text) if file.suffix == ".jsonl" else _csv_rows(file, text):
            name, fields = _fields(f"{file}, line {number}", row)
            captions.setdefault(_key((folder / name).as_posix()), fields)
    return captions


def decode(data: bytes) -> str:
    """Text in UTF-8, in UTF-16 with a byte order mark, or else in Windows' Western encoding."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def plain(text: str) -> str:
    """Text as one readable line: without control characters, lone surrogates, and marks of direction."""
    spaced = "".join(" " if char.isspace() else char for char in unicodedata.normalize("NFC", text))
    kept = "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cs"))
    return " ".join(kept.translate(DIRECTIONS).split())[:CAPTION_LENGTH]


def words(stem: str) -> str:
    """The words of a file's name: "Flying_pig-2" -> "flying pig 2"; "" for one that says nothing, "IMG_0001".

    Letters, their marks (of Hindi and Thai, for example) and digits are words; everything else separates them.
    """
    text = plain(stem).casefold()
    spaced = "".join(
        char if unicodedata.category(char)[0] in "LMN" or char in "'\u2019\u200d" else " " for char in text
    )
    said = " ".join(spaced.split())
    letters = re.sub(r"[\s0-9]+", "", said)
    return "" if NO_WORDS.fullmatch(letters) and not said.isalpha() else said


def inside(file: Path, path: Path) -> bool:
    """Whether a file, or what it links to, lies in a folder."""
    return file.resolve().is_relative_to(path.resolve())


def _key(name: str) -> str:
    """A picture's name as it is compared: with forward slashes, in one of Unicode's normal forms."""
    parts = (part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    return unicodedata.normalize("NFC", "/".join(parts))


def _json_caption(text: str) -> str:
    """The caption in a picture's JSON file, "" where there is none."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    values = [fields.get(name) for name in TEXTS] if isinstance(fields, dict) else []
    return next((value for value in values if isinstance(value, str) and value.strip()), "")


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, dict(json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise ScrapeError(f"{file}, line {number}: not a JSON object.") from error


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    head = text.lstrip().partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row:
                raise ScrapeError(
                    f"{file}, line {reader.line_num}: more cells than the first line has names; put a text that has"
                    f" {delimiter!r} in it between double quotes."
                )
            fields = {name.strip(): value for name, value in row.items() if value or name.strip() in TEXTS}
            lists = (name for name, kind in OPTIONAL.items() if kind is list and name in fields)
            yield reader.line_num, {**fields, **{name: str(fields[name]).split(",") for name in lists}}
    except csv.Error as error:
        raise ScrapeError(f"{file}, line {reader.reader.line_num}: not a line of a CSV file ({error}).") from error


def _fields(place: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A row's file name and its cleaned fields. Raises ScrapeError, which names the `place`, for an invalid row."""
    name = row.get("file_name")
    text = next((row[column] for column in TEXTS if isinstance(row.get(column), str)), None)
    if not isinstance(name, str) or text is None:
        raise ScrapeError(f"{place}: file_name and text are needed, both of them text.")
    fields: dict[str, Any] = {"text": plain(text)}
    for column, kind in OPTIONAL.items():
        value = row.get(column)
        if value in (None, ""):
            continue
        if not isinstance(value, kind) or (kind is list and not all(isinstance(part, str) for part in value)):
            raise ScrapeError(f"{place}: {column} is not {'a list of texts' if kind is list else 'text'}.")
        fields[column] = plain(value) if kind is str else [plain(part) for part in value]
    if unknown := [tone for tone in fields.get("skin_tone", ()) if tone not in SKIN_TONES]:
        raise ScrapeError(f"{place}: there is no skin tone {unknown[0]}; there are {', '.join(SKIN_TONES)}.")
    return name, fields
