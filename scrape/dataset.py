"""A set of captioned pictures as a Hugging Face ImageFolder: `images/*.png` beside `metadata.jsonl`.

What a row holds (`row`), and how a folder is written: each file under a temporary name and moved into place,
`metadata.jsonl` last, so a folder that has one is whole. The same input gives the same bytes.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from tqdm import tqdm

from .errors import ScrapeError
from .pictures import MARGINS, render

SIZES = range(16, 2049)

METADATA = "metadata.jsonl"

# What METADATA is called while the images it lists are being replaced.
OLD_METADATA = ".metadata.jsonl.old"

# The files a dataset is made of, and may remove: a list that somebody edited must not name a file elsewhere.
IMAGE = re.compile(r"images/[\w-]+\.png", re.ASCII)
ORIGINAL = re.compile(r"originals/[\w-]+\.\w+", re.ASCII)

# Why a picture is left out.
SAME_PIXELS = "the same pixels as another picture"
UNREADABLE = "not a picture that can be read"

# What a row says of a picture, in this order, and what it says where nothing is known.
UNKNOWN: Mapping[str, Any] = {
    "text": "",
    "label": "",
    "description": "",
    "emoji": None,
    "hexcode": None,
    "base_hexcode": None,
    "tags": [],
    "group": None,
    "subgroup": None,
    "skin_tone": [],
    "person_type": None,
}


@dataclass(frozen=True)
class Form:
    """How pictures are written: `size` px square, a `margin` of white at each side (a fraction), and whether the bytes
    as fetched are kept in `originals/`.

    Raises ScrapeError for a size or a margin that no picture can have.
    """

    size: int = 256
    margin: float = 0.0
    keep_originals: bool = False

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ScrapeError(f"A size of {self.size} px is not between {SIZES[0]} and {SIZES[-1]}.")
        if not MARGINS[0] <= self.margin <= MARGINS[1]:
            raise ScrapeError(f"A margin of {self.margin:g} is not between {MARGINS[0]:g} and {MARGINS[1]:g}.")


@dataclass(frozen=True)
class Picture:
    """A picture on its way into a dataset.

    stem: the name of the files it becomes, letters, digits, _ and - only; file: its name in its source; data: its bytes
    as fetched; order: its place in the list; fields: those of `UNKNOWN` that are known.
    """

    stem: str
    file: str
    data: bytes
    order: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What became of a source's pictures: how many are in `output`, and which were left out, by reason."""

    source: str
    output: Path
    images: int
    dropped: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.images:,} images in {self.output}"]
        lines += [f"  left out {len(files):,}: {reason}" for reason, files in self.dropped.items()]
        return "\n".join(lines)


@dataclass
class Dropped:
    """The pictures that were left out, by reason."""

    files: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, file: str) -> None:
        self.files.setdefault(reason, []).append(file)

    def report(self, source: str, output: Path, images: int) -> Report:
        return Report(source, output, images, {reason: tuple(files) for reason, files in sorted(self.files.items())})


def write(output: Path, source: str, license: str, pictures: Iterable[Picture], form: Form, dropped: Dropped) -> Report:
    """Make `output` the dataset of `pictures`. Of several with the same pixels the first is kept.

    Raises ScrapeError where none of them can be read, and where `output` holds something else or cannot be written.
    """
    check_source(output, source)
    try:
        begin(output, *(["originals"] if form.keep_originals else []))
        rows = _write_images(output, source, license, pictures, form, dropped)
        if not rows:
            raise ScrapeError(f"No picture of {source} can be read; look into where it came from, or fetch it again.")
        finish(output, rows)
    except OSError as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error
    return dropped.report(source, output, len(rows))


def row(picture: Picture, source: str, license: str, png: bytes, form: Form) -> dict[str, Any]:
    """One line of `metadata.jsonl`.

    `sha256` is that of the bytes as fetched, `png_sha256` that of the image file, which differs by size and margin;
    `source_file` is the picture's name in its source, `original` the file that keeps the bytes as fetched, if any does.
    """
    fields = {
        "file_name": f"images/{picture.stem}.png",
        **UNKNOWN,
        **picture.fields,
        "source": source,
        "license": license,
        "width": form.size,
        "height": form.size,
        "sha256": hashlib.sha256(picture.data).hexdigest(),
        "png_sha256": hashlib.sha256(png).hexdigest(),
        "source_file": picture.file,
    }
    return {**fields, "original": _original(picture)} if form.keep_originals else fields


def _original(picture: Picture) -> str:
    suffix = PurePosixPath(picture.file).suffix.lower()
    name = f"originals/{picture.stem}{suffix}"
    return name if ORIGINAL.fullmatch(name) else f"originals/{picture.stem}.bin"


def _write_images(
    output: Path, source: str, license: str, pictures: Iterable[Picture], form: Form, dropped: Dropped
) -> list[dict[str, Any]]:
    """The rows of the images written, in order. Of several pictures with the same pixels, the first gets them."""
    rows: list[tuple[int, dict[str, Any]]] = []
    seen: set[bytes] = set()
    for picture in tqdm(pictures, source, disable=None, unit="image"):
        image = render(picture.data, form.size, form.margin)
        pixels = hashlib.sha256(image.tobytes()).digest() if image else b""
        if image is None or pixels in seen:
            dropped.add(SAME_PIXELS if image else UNREADABLE, picture.file)
            continue
        seen.add(pixels)
        png = encode(image)
        fields = row(picture, source, license, png, form)
        replace(output / fields["file_name"], png)
        if form.keep_originals:
            replace(output / fields["original"], picture.data)
        rows.append((picture.order, fields))
    return [fields for _, fields in sorted(rows, key=lambda pair: pair[0])]


def begin(output: Path, *folders: str) -> None:
    """Make the dataset's folders, and put the list of what is about to be replaced aside."""
    for folder in ("images", *folders):
        (output / folder).mkdir(parents=True, exist_ok=True)
    if (output / METADATA).exists():
        os.replace(output / METADATA, output / OLD_METADATA)


def finish(output: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remove what only the folder's last dataset had, then write `metadata.jsonl`."""
    written = {fields.get(column) for fields in rows for column in ("file_name", "original")}
    for fields in _old_rows(output):
        for name, pattern in ((fields["file_name"], IMAGE), (fields.get("original"), ORIGINAL)):
            if isinstance(name, str) and name not in written and pattern.fullmatch(name):
                (output / name).unlink(missing_ok=True)
    replace(output / METADATA, to_lines(rows))
    (output / OLD_METADATA).unlink(missing_ok=True)


def to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines. What is not Unicode, as the names of files need not be, becomes a question mark."""
    return "".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in rows).encode(errors="replace")


def encode(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def check_source(output: Path, source: str) -> None:
    """A folder holds one source: two would overwrite each other's pictures. Raises ScrapeError where it has another."""
    check_folder(output, lambda fields: fields["source"] == source, source)


def check_folder(output: Path, ours: Callable[[Mapping[str, Any]], bool], what: str) -> None:
    """Raise ScrapeError where `output` lists a picture that is not `ours`, and so is not for `what` to replace."""
    if not all(ours(fields) for fields in _old_rows(output)):
        raise ScrapeError(f"{output} already holds another dataset; choose another folder for {what}.")


def _old_rows(output: Path) -> list[dict[str, Any]]:
    """The rows of the dataset that `output` holds or, where its making was interrupted, held."""
    try:
        files = [output / name for name in (METADATA, OLD_METADATA) if (output / name).exists()]
        rows = [dict(json.loads(line)) for file in files for line in file.read_text("utf-8").split("\n") if line]
    except OSError as error:
        raise ScrapeError(f"{output} cannot be read ({error}); choose another folder.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ScrapeError(f"{output / METADATA} is not a dataset's; choose another folder.") from error
    if not all({"source", "file_name", "hexcode"} <= fields.keys() for fields in rows):
        raise ScrapeError(f"{output} already holds another dataset; choose another folder.")
    return rows
