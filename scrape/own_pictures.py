"""Makes a dataset of a user's own pictures and captions.

A picture's caption is the first of: its row in `metadata.jsonl` or `metadata.csv` (columns `file_name` and `text`, as
in Hugging Face's ImageFolder, and any of `OPTIONAL`), the text file of its name (`pig.txt` for `pig.png`), the words of
its name.
"""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx_genmoji.prompt.lexicon import SKIN_TONES

from .dataset import Dropped, Form, Picture, Report, check_source, write
from .errors import ScrapeError

SOURCE = "folder"

LICENSE = "yours"

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp"))

METADATA = ("metadata.jsonl", "metadata.csv")

# The optional columns of a metadata file; lists are separated by commas in a CSV file.
OPTIONAL = {"label": str, "description": str, "tags": list, "skin_tone": list, "person_type": str}

# Longer captions are cut: a text encoder reads 77 tokens.
CAPTION_LENGTH = 1_000

# The largest files that are read.
CAPTION_BYTES = 64_000
PICTURE_BYTES = 200_000_000
METADATA_BYTES = 200_000_000

LINK, LARGE = "a link that leads outside the folder", "a file too large to be a picture of a sticker"


def collect_folder(
    path: Path,
    output: Path,
    *,
    size: int = 256,
    margin: float = 0.0,
    keep_originals: bool = False,
    license: str = LICENSE,
) -> Report:
    """Make the dataset of the pictures in `path` and the folders in it; options as for `scrape.collect`.

    Raises ScrapeError where there are no pictures, a metadata file is invalid, or `output` lies in `path`.
    """
    form = Form(size, margin, keep_originals)
    if not path.is_dir():
        raise ScrapeError(f"There is no folder {path}.")
    if output.resolve().is_relative_to(path.resolve()):
        raise ScrapeError(f"{output} lies in {path}, which is only read; choose another folder.")
    check_source(output, SOURCE)
    try:
        captions, dropped = read_metadata(path), Dropped()
        files = list(_pictures(path, dropped))
    except OSError as error:
        raise ScrapeError(f"{path} cannot be read ({error.strerror or error}).") from error
    for name in sorted(captions.keys() - set(files)):
        dropped.add("a caption without a picture in the folder", name)
    if not files:
        raise ScrapeError(f"{path} has no picture ({', '.join(sorted(SUFFIXES))}).")
    return write(output, SOURCE, plain(license), _read(path, files, captions, dropped), form, dropped)


def read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """Picture name -> the columns in a folder's metadata files. Opens no file that a row names."""
    captions: dict[str, dict[str, Any]] = {}
    for file in (path / name for name in METADATA):
        if not file.is_file() or not _inside(file, path):
            continue
        if file.stat().st_size > METADATA_BYTES:
            raise ScrapeError(f"{file} is larger than {METADATA_BYTES // 1_000_000} MB.")
        text = decode(file.read_bytes())
        for number, row in _json_rows(file, text) if file.suffix == ".jsonl" else _csv_rows(file, text):
            name, fields = _fields(f"{file}, line {number}", row)
            captions.setdefault(name, fields)
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


# Unicode's embeddings, overrides, isolates and marks of direction.
DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F))


def words(stem: str) -> str:
    """The words of a file's name: "Flying_pig-2" -> "flying pig 2"."""
    return " ".join(re.findall(r"[^\W_]+", plain(stem).casefold()))


def slug(name: str) -> str:
    """A name as letters, digits and hyphens of ASCII."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "-".join(re.findall("[A-Za-z0-9]+", ascii_name))[:60].strip("-").lower()


def _pictures(path: Path, dropped: Dropped) -> Iterator[str]:
    """The names of the pictures in `path`, such as `cats/tom.png`, sorted; hidden files are left out."""
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if not _inside(file, path):
            dropped.add(LINK, name.as_posix())
        elif file.stat().st_size > PICTURE_BYTES:
            dropped.add(LARGE, name.as_posix())
        else:
            yield name.as_posix()


def _inside(file: Path, path: Path) -> bool:
    return file.resolve().is_relative_to(path.resolve())


def _read(
    path: Path, files: list[str], captions: Mapping[str, Mapping[str, Any]], dropped: Dropped
) -> Iterator[Picture]:
    for order, name in enumerate(files):
        file = path / name
        try:
            data = file.read_bytes()
            fields = captions.get(name, {})
            text = fields.get("text") or _caption_file(file, path) or words(file.stem)
        except OSError:
            dropped.add("a file that cannot be read", name)
            continue
        if not text:
            dropped.add("no caption", name)
            continue
        # File names may differ in characters that `slug` drops; the digest keeps the stems apart.
        digest = hashlib.sha256(name.encode(errors="surrogateescape") + b"\0" + data).hexdigest()[:12]
        stem = "-".join(part for part in (slug(file.stem), digest) if part)
        yield Picture(stem, name, data, order, {"label": text, **fields, "text": text})


def _caption_file(picture: Path, path: Path) -> str:
    """The caption in the text file with a picture's name, "" where there is none."""
    file = picture.with_suffix(".txt")
    if not file.is_file() or not _inside(file, path) or file.stat().st_size > CAPTION_BYTES:
        return ""
    return plain(decode(file.read_bytes()))


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, dict(json.loads(line))
            except (ValueError, TypeError, RecursionError) as error:
                raise ScrapeError(f"{file}, line {number}: not a JSON object.") from error


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            fields = {name: value for name, value in row.items() if value or name == "text"}
            lists = (name for name, kind in OPTIONAL.items() if kind is list and name in fields)
            yield reader.line_num, {**fields, **{name: str(fields[name]).split(",") for name in lists}}
    except csv.Error as error:
        raise ScrapeError(f"{file}, line {reader.line_num}: not a line of a CSV file ({error}).") from error


def _fields(place: str, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A row's file name and its cleaned fields. Raises ScrapeError, which names the `place`, for an invalid row."""
    name, text = row.get("file_name"), row.get("text")
    if not isinstance(name, str) or not isinstance(text, str):
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
    return name.removeprefix("./"), fields
