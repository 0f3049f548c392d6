"""Writes datasets: captioned pictures as a Hugging Face ImageFolder, `images/*.png` beside `metadata.jsonl`.

`DatasetWriter` writes the files of every dataset that this package makes; `write` makes one of a list of pictures.
The same input gives the same bytes.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from PIL import Image
from tqdm import tqdm

from mlx_genmoji.dataset import COLUMNS, METADATA, read_rows
from mlx_genmoji.errors import UserError, first_few
from mlx_genmoji.files import whole_file, write_bytes
from mlx_genmoji.pictures import is_blank

from .errors import ScrapeError
from .pictures import MARGINS, render

SIZES = range(16, 2049)

# The folder inside a dataset where new files wait until all of them are written.
NEW = ".genmoji-new"

# The files that a writer may remove: a `metadata.jsonl` that somebody edited must not name a file elsewhere.
IMAGE = re.compile(r"images/[\w-]+\.png", re.ASCII)
ORIGINAL = re.compile(r"originals/[\w-]+\.\w+", re.ASCII)

# The columns that name a file.
FILE_COLUMNS = {"file_name": IMAGE, "original": ORIGINAL}

OWN = "folder"
"""The source of a user's own pictures; the names of those that are left out are printed."""

# Reasons for leaving a picture out.
SAME_PIXELS = "the same pixels as another picture"
UNREADABLE = "not a picture that can be read"
BLANK = "a blank picture"


@dataclass(frozen=True)
class Form:
    """The form of a dataset's pictures.

    size: width and height in pixels; margin: the white at each side, a fraction of the size; keep_originals: whether
    the files as fetched are kept in `originals/`. Raises ScrapeError for a size or margin out of range.
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
    """A picture to write.

    stem: the name of its files without a suffix: ASCII letters, digits, _ and - only; file: its name in its source;
    data: the bytes as fetched; order: its row's position among the others; fields: the known ones of `COLUMNS`.
    """

    stem: str
    file: str
    data: bytes
    order: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """The result of making a dataset: the number of images in `output`, and the files left out, by reason."""

    source: str
    output: Path
    images: int
    dropped: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.images:,} images in {self.output}"]
        for reason, files in self.dropped.items():
            names = f" ({first_few(files)})" if self.source == OWN else ""
            lines.append(f"  left out {len(files):,}: {reason}{names}")
        return "\n".join(lines)


@dataclass
class Dropped:
    """Collects the names of the pictures that are left out, by reason."""

    files: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, file: str) -> None:
        self.files.setdefault(reason, []).append(file)

    def report(self, source: str, output: Path, images: int) -> Report:
        return Report(source, output, images, {reason: tuple(files) for reason, files in sorted(self.files.items())})


class DatasetWriter:
    """Writes the dataset `output`; until `finish` moves the new files into place, the old dataset stays untouched.

    A context manager: without `finish`, the new files are removed, unless `resume` is True. Raises OSError.

    durable: the data of each file is on the disk before the file gets its name (fsync). resume: new files that an
    interrupted run left behind are used again, for a caller that checks each of them (`newest`).
    """

    def __init__(self, output: Path, *, durable: bool = False, resume: bool = False) -> None:
        self.output, self.durable, self.resume = output, durable, resume
        self._new = output / NEW

    def __enter__(self) -> Self:
        if not self.resume:
            shutil.rmtree(self._new, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.resume:
            shutil.rmtree(self._new, ignore_errors=True)

    def add(self, name: str, data: bytes) -> None:
        """Write the new file `name`, a path inside the dataset."""
        path = self._new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data, self.durable)

    def discard(self, name: str) -> None:
        """Remove the new file `name` where there is one; that of the old dataset stays."""
        (self._new / name).unlink(missing_ok=True)

    def newest(self, name: str) -> Path:
        """The path of the new file `name`, or of the old dataset's where there is no new one."""
        new = self._new / name
        return new if new.exists() else self.output / name

    def new_files(self) -> list[str]:
        """The names of the new files, sorted."""
        files = (path for path in self._new.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(path.relative_to(self._new).as_posix() for path in files)

    def finish(self, rows: Iterable[Mapping[str, Any]], obsolete: Iterable[str] | None = None) -> int:
        """Replace the old dataset by the new files and `rows`, `metadata.jsonl` last; return the number of rows.

        obsolete: names of files to remove afterwards, except those that `rows` list; by default those of the old rows.
        """
        obsolete = set(_listed_files(_old_rows(self.output)) if obsolete is None else obsolete)
        count = 0
        self._new.mkdir(parents=True, exist_ok=True)
        with whole_file(self._new / METADATA, self.durable) as partial, partial.open("wb") as file:
            # Row by row: thousands of them need not be in memory together.
            for fields in rows:
                file.write(to_lines([fields]))
                obsolete.difference_update(fields.get(column) for column in FILE_COLUMNS)
                count += 1
        for name in self.new_files():
            if name != METADATA:
                (self.output / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._new / name, self.output / name)
        os.replace(self._new / METADATA, self.output / METADATA)
        for name in obsolete:
            (self.output / name).unlink(missing_ok=True)
        shutil.rmtree(self._new)
        return count


def write(output: Path, source: str, license: str, pictures: Iterable[Picture], form: Form, dropped: Dropped) -> Report:
    """Make `output` the dataset of `pictures`. Of several pictures with the same pixels the first is kept.

    Raises ScrapeError where no picture can be read, and where `output` holds another dataset or cannot be written.
    """
    check_source(output, source)
    try:
        with DatasetWriter(output) as writer:
            rows = _write_images(writer, source, license, pictures, form, dropped)
            if not rows:
                raise ScrapeError(f"No picture of {source} can be read; check the files, or fetch them again.")
            writer.finish(rows)
    except OSError as error:
        raise cannot_write(output, error) from error
    return dropped.report(source, output, len(rows))


def row(picture: Picture, source: str, license: str, png: bytes, form: Form) -> dict[str, Any]:
    """One row of `metadata.jsonl`, for a picture and the PNG file made of it.

    `sha256` is that of the bytes as fetched, `png_sha256` that of the PNG, which depends on size and margin;
    `source_file` is the picture's name in its source; `original` names the file with the bytes as fetched, if kept.
    """
    fields = {
        "file_name": f"images/{picture.stem}.png",
        **COLUMNS,
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


def to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines in UTF-8. Characters that are not Unicode, as file names may have, become question marks."""
    return "".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in rows).encode(errors="replace")


def encode(picture: Image.Image) -> bytes:
    """The bytes of a picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def check_source(output: Path, source: str) -> None:
    """Raise ScrapeError where `output` holds another source's dataset, whose pictures would be overwritten."""
    check_folder(output, lambda fields: fields["source"] == source, source)


def check_folder(output: Path, ours: Callable[[Mapping[str, Any]], bool], command: str) -> None:
    """Raise ScrapeError where `output` lists a picture that `ours` refuses: `command` must not replace it."""
    if not all(ours(fields) for fields in _old_rows(output)):
        raise ScrapeError(f"{output} already holds another dataset; choose another folder for {command}.")


def cannot_write(output: Path, error: OSError) -> ScrapeError:
    """The error to raise where the dataset `output` cannot be written."""
    return ScrapeError(f"{output} cannot be written ({error}); choose another folder.")


def _original(picture: Picture) -> str:
    suffix = PurePosixPath(picture.file).suffix.lower()
    name = f"originals/{picture.stem}{suffix}"
    return name if ORIGINAL.fullmatch(name) else f"originals/{picture.stem}.bin"


def _write_images(
    writer: DatasetWriter, source: str, license: str, pictures: Iterable[Picture], form: Form, dropped: Dropped
) -> list[dict[str, Any]]:
    """Write the images; return their rows in the pictures' `order`."""
    rows: list[tuple[int, dict[str, Any]]] = []
    seen: set[bytes] = set()
    for picture in tqdm(_lesser_flags_last(pictures), source, disable=None, unit="image"):
        image = render(picture.data, form.size, form.margin)
        pixels = hashlib.sha256(image.tobytes()).digest() if image else b""
        # An emoji set may have a white square; a user's blank picture is a mistake.
        blank = image is not None and source == OWN and is_blank(image)
        if image is None or blank or pixels in seen:
            dropped.add(UNREADABLE if image is None else BLANK if blank else SAME_PIXELS, picture.file)
            continue
        seen.add(pixels)
        png = encode(image)
        fields = row(picture, source, license, png, form)
        writer.add(fields["file_name"], png)
        if form.keep_originals:
            writer.add(fields["original"], picture.data)
        rows.append((picture.order, fields))
    return [fields for _, fields in sorted(rows, key=lambda pair: pair[0])]


LESSER_FLAGS = frozenset("AC BV CP DG EA HM IC MC MF SJ TA TD UM".split())
"""Countries and territories whose flag, in some sets, has the pixels of another's that people mean: France, not
Clipperton Island; the United States, not its outlying islands; Indonesia, not Monaco; Romania, not Chad.
"""


def _lesser_flags_last(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """The pictures, those of `LESSER_FLAGS` last, so that of equal pictures the flag that people mean is kept."""
    last = []
    for picture in pictures:
        if _country(picture.stem) in LESSER_FLAGS:
            last.append(picture)
        else:
            yield picture
    yield from last


def _country(stem: str) -> str:
    """The letters of a flag's two code points, such as "FR" for 1F1EB-1F1F7; "" for other pictures."""
    points = re.fullmatch(r"1F1([0-9A-F]{2})-1F1([0-9A-F]{2})", stem)
    return "".join(chr(int(letter, 16) - 0xE6 + ord("A")) for letter in points.groups()) if points else ""


def _old_rows(output: Path) -> list[dict[str, Any]]:
    """The rows of the dataset in `output`, none where there is none. Raises ScrapeError where it is not one of ours."""
    try:
        rows = read_rows(output, ("file_name", "source")) if (output / METADATA).exists() else []
    except UserError as error:
        raise ScrapeError(f"{output} already holds another dataset; choose another folder.") from error
    except OSError as error:
        raise ScrapeError(f"{output} cannot be read ({error}); choose another folder.") from error
    if not all("hexcode" in fields for fields in rows):
        raise ScrapeError(f"{output} already holds another dataset; choose another folder.")
    return rows


def _listed_files(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The files that `rows` list and a writer may remove."""
    names = ((fields.get(column), pattern) for fields in rows for column, pattern in FILE_COLUMNS.items())
    return [name for name, pattern in names if isinstance(name, str) and pattern.fullmatch(name)]
