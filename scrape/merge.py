"""Several datasets as one: their union, without the pictures that two of them have."""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from tqdm import tqdm

from .dataset import (
    IMAGE,
    METADATA,
    SAME_PIXELS,
    UNKNOWN,
    Dropped,
    Report,
    begin,
    check_folder,
    finish,
    replace,
    to_lines,
)
from .errors import ScrapeError
from .own_pictures import slug
from .pictures import MAX_PIXELS, UNREADABLE

NAME = "merge"

# What a row has to say to be merged; `scrape.own_pictures` makes it of whatever else there is.
NEEDED = ("file_name", "text", "source", "license")

# What was left out, beside METADATA.
DROPPED = "dropped.jsonl"

UNREAD = "not a PNG of the dataset that can be read"
SAME_BYTES = "the same bytes fetched as another picture"

MAX_STEM = 100


def merge(folders: Sequence[Path], output: Path) -> Report:
    """Make `output` the union of the datasets in `folders`, in their order.

    Of several pictures with one `sha256` (the same bytes fetched), and of several with the same pixels, the first
    stays, caption and all; `dropped.jsonl` says of each of the others why, and which one stayed. Image files are
    copied as they are and named after their source, `images/noto-1F600.png`; kept originals stay where they are.
    Raises ScrapeError where a folder is no dataset, or `output` is one of them.
    """
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ScrapeError(f"{output} is one of the datasets to merge; choose another folder.")
    rows = [(folder, fields) for folder in folders for fields in read_rows(folder)]
    check_folder(output, _is_merged, NAME)
    dropped: list[dict[str, str | None]] = []
    try:
        begin(output)
        merged = list(_copy(rows, output, dropped))
        if not merged:
            raise ScrapeError("None of the datasets holds a picture that can be read; make them again.")
        replace(output / DROPPED, to_lines(dropped))
        finish(output, merged)
    except OSError as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error
    files = Dropped()
    for fields in dropped:
        files.add(str(fields["reason"]), str(fields["picture"]))
    return files.report(NAME, output, len(merged))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the dataset in `folder`. Raises ScrapeError where it is none."""
    path = folder / METADATA
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except OSError as error:
        raise ScrapeError(f"{folder} is not a dataset: {METADATA} cannot be read in it.") from error
    except (ValueError, RecursionError) as error:
        raise ScrapeError(f"{path} is not valid JSON lines ({error}).") from error
    for number, fields in enumerate(rows, 1):
        if not isinstance(fields, dict) or not all(isinstance(fields.get(column), str) for column in NEEDED):
            raise ScrapeError(
                f"{path}, line {number}: {', '.join(NEEDED)} are needed, all of them text; genmoji scrape folder makes"
                f" such a dataset of {folder}."
            )
    return rows


def read_image(folder: Path, file_name: str) -> tuple[bytes, Image.Image] | None:
    """A dataset's PNG, as bytes and as RGB; None where it is none, is too large, or lies outside the folder."""
    path = folder / file_name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return None
        png = path.read_bytes()
        with Image.open(io.BytesIO(png), formats=("PNG",)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return None
            return png, opened.convert("RGB")
    except (*UNREADABLE, RuntimeError):
        return None


def pixel_hash(picture: Image.Image) -> str:
    """A hash of what a picture shows, whatever file it is in."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()


def _copy(
    rows: Sequence[tuple[Path, dict[str, Any]]], output: Path, dropped: list[dict[str, str | None]]
) -> Iterator[dict[str, Any]]:
    """The rows of the images copied. One that is dropped is named with its dataset, as `noto/images/1F600.png`."""
    kept: dict[str, str] = {}
    taken: set[str] = set()
    for folder, fields in tqdm(rows, NAME, disable=None, unit="image"):
        picture = f"{folder.resolve().name}/{fields['file_name']}"
        read = read_image(folder, fields["file_name"])
        if read is None:
            dropped.append({"picture": picture, "reason": UNREAD, "kept": None})
            continue
        png, image = read
        png_sha256 = hashlib.sha256(png).hexdigest()
        sha256 = str(fields.get("sha256") or png_sha256)
        reasons = {f"bytes {sha256}": SAME_BYTES, f"pixels {pixel_hash(image)}": SAME_PIXELS}
        same = next((seen for seen in reasons if seen in kept), None)
        if same is not None:
            dropped.append({"picture": picture, "reason": reasons[same], "kept": kept[same]})
            continue
        name = _name(fields, taken)
        kept.update(dict.fromkeys(reasons, name))
        replace(output / name, png)
        said = {column: value for column, value in fields.items() if column not in ("file_name", "original")}
        yield {"file_name": name, **UNKNOWN, **said, "sha256": sha256, "png_sha256": png_sha256}


def _prefix(fields: Mapping[str, Any]) -> str:
    return f"images/{slug(str(fields['source'])) or 'unknown'}-"


def _name(fields: Mapping[str, Any], taken: set[str]) -> str:
    """A file name of the picture's source and its own, added to those taken, which capitals do not tell apart."""
    prefix = _prefix(fields)
    stem = re.sub(r"[^\w-]", "-", PurePosixPath(fields["file_name"]).stem, flags=re.ASCII)
    name = prefix + stem.removeprefix(prefix.removeprefix("images/"))[:MAX_STEM]
    candidate, number = name, 2
    while candidate.lower() in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(candidate.lower())
    return f"{candidate}.png"


def _is_merged(fields: Mapping[str, Any]) -> bool:
    """Whether a row is one that `merge` wrote, and so may replace."""
    name = str(fields["file_name"])
    return IMAGE.fullmatch(name) is not None and name.startswith(_prefix(fields))
