"""Merges datasets into one, without duplicate pictures."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from mlx_genmoji.dataset import COLUMNS

from .dataset import IMAGE, SAME_PIXELS, DatasetWriter, Dropped, Report, cannot_write, check_folder, to_lines
from .errors import ScrapeError
from .inputs import pixel_hash, read_dataset, read_image
from .own_pictures import slug

NAME = "merge"

# The file that lists the pictures left out.
DROPPED = "dropped.jsonl"

# Reasons for leaving a picture out, besides SAME_PIXELS.
UNREAD = "not a PNG of the dataset that can be read"
SAME_BYTES = "the same bytes fetched as another picture"

MAX_STEM = 100


def merge(folders: Sequence[Path], output: Path) -> Report:
    """Make `output` the union of the datasets in `folders`, in their order.

    Of several pictures with one `sha256` (the same bytes fetched) or with the same pixels, the first is kept with its
    caption; `dropped.jsonl` gives for each of the others the reason and the picture kept instead. Image files are
    copied unchanged and named after their source, `images/noto-1F600.png`; originals are not copied.
    Raises UserError where a folder is no dataset, or `output` is one of them.
    """
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ScrapeError(f"{output} is one of the datasets to merge; choose another folder.")
    rows = [(folder, fields) for folder in folders for fields in read_dataset(folder)]
    check_folder(output, _is_merged, NAME)
    dropped: list[dict[str, str | None]] = []
    try:
        with DatasetWriter(output) as writer:
            merged = list(_copy(rows, writer, dropped))
            if not merged:
                raise ScrapeError("None of the datasets holds a picture that can be read; make them again.")
            writer.add(DROPPED, to_lines(dropped))
            writer.finish(merged)
    except OSError as error:
        raise cannot_write(output, error) from error
    files = Dropped()
    for fields in dropped:
        files.add(str(fields["reason"]), str(fields["picture"]))
    return files.report(NAME, output, len(merged))


def _copy(
    rows: Sequence[tuple[Path, dict[str, Any]]], writer: DatasetWriter, dropped: list[dict[str, str | None]]
) -> Iterator[dict[str, Any]]:
    """Copy the images and yield their rows; add an entry to `dropped` for each one left out.

    An entry names a picture with its dataset's folder: `noto/images/1F600.png`.
    """
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
        writer.add(name, png)
        copied = {column: value for column, value in fields.items() if column not in ("file_name", "original")}
        yield {"file_name": name, **COLUMNS, **copied, "sha256": sha256, "png_sha256": png_sha256}


def _prefix(fields: Mapping[str, Any]) -> str:
    return f"images/{slug(str(fields['source'])) or 'unknown'}-"


def _name(fields: Mapping[str, Any], taken: set[str]) -> str:
    """A new file name, made of the picture's source and old name; it is added to `taken`, names in small letters."""
    prefix = _prefix(fields)
    stem = re.sub(r"[^\w-]", "-", PurePosixPath(fields["file_name"]).stem, flags=re.ASCII)
    name = prefix + stem.removeprefix(prefix.removeprefix("images/"))[:MAX_STEM]
    candidate, number = name, 2
    while candidate.lower() in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(candidate.lower())
    return f"{candidate}.png"


def _is_merged(fields: Mapping[str, Any]) -> bool:
    """Whether `merge` wrote this row and may replace its image."""
    name = str(fields["file_name"])
    return IMAGE.fullmatch(name) is not None and name.startswith(_prefix(fields))
