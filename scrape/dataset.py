"""A set of emoji pictures as a Hugging Face ImageFolder: `images/*.png` beside `metadata.jsonl`.

What a source must say of itself (`Source`, `Art`), what a row holds (`row`), and how a folder is written: each file
under a temporary name and moved into place, `metadata.jsonl` last, so a folder that has one is whole. The same input
gives the same bytes.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .emojibase import HEXCODE, Emoji, read_emojis
from .errors import ScrapeError
from .packages import Package
from .pictures import render

SIZES = range(16, 2049)

METADATA = "metadata.jsonl"

# What METADATA is called while the images it lists are being replaced.
OLD_METADATA = ".metadata.jsonl.old"


@dataclass(frozen=True)
class Art:
    """A picture of a source: the key of the emoji it shows, its name there, its encoded bytes, why to leave it out."""

    key: str
    file: str
    data: bytes
    fault: str | None = None


@dataclass(frozen=True)
class Source:
    """An image set: the package that holds it, the licence of its art (SPDX), and how its files become pictures."""

    name: str
    package: Package
    license: str
    read: Callable[[Mapping[str, bytes]], Iterable[Art]]


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


def write(source: Source, output: Path, size: int, package: Path | None, emojibase: Path | None) -> Report:
    """Make the dataset of `source` in `output`; see `scrape.collect`."""
    if size not in SIZES:
        raise ScrapeError(f"A size of {size} px is not between {SIZES[0]} and {SIZES[-1]}.")
    _check_folder(source, output)
    emojis = read_emojis(emojibase)
    dropped: dict[str, list[str]] = {}
    arts = _choose(source.read(source.package.read(package)), emojis, dropped)
    if not arts:
        raise ScrapeError(f"{source.package.spec} has no picture of an emoji; fetch it again.")
    try:
        rows = _write_images(source, output, size, arts, emojis, dropped)
        if not rows:
            raise ScrapeError(f"No picture of {source.package.spec} can be read; fetch it again.")
        _finish(output, rows)
    except OSError as error:
        raise ScrapeError(f"{output} cannot be written ({error}); choose another folder.") from error
    return Report(source.name, output, len(rows), {reason: tuple(files) for reason, files in sorted(dropped.items())})


def row(emoji: Emoji, art: Art, source: Source, file_name: str, png: bytes, size: int) -> dict[str, object]:
    """One line of `metadata.jsonl`; `sha256` is the image file's, `source_file` the picture's name in its package."""
    return {
        "file_name": file_name,
        "text": emoji.text,
        "label": emoji.label,
        "emoji": emoji.emoji,
        "hexcode": emoji.hexcode,
        "base_hexcode": emoji.base_hexcode,
        "tags": list(emoji.tags),
        "group": emoji.group,
        "subgroup": emoji.subgroup,
        "skin_tone": list(emoji.skin_tone),
        "person_type": emoji.person_type,
        "source": source.name,
        "license": source.license,
        "width": size,
        "height": size,
        "sha256": hashlib.sha256(png).hexdigest(),
        "source_file": art.file,
    }


def _choose(arts: Iterable[Art], emojis: Mapping[str, Emoji], dropped: dict[str, list[str]]) -> list[Art]:
    """One faultless picture for each known emoji, the most neutral emojis first."""
    chosen: dict[str, Art] = {}
    for art in arts:
        reason = art.fault
        if reason is None and art.key not in emojis:
            reason = "no emoji that emojibase names"
        if reason is None and art.key in chosen:
            reason = "a second picture of one emoji"
        if reason is None:
            chosen[art.key] = art
        else:
            dropped.setdefault(reason, []).append(art.file)
    return sorted(chosen.values(), key=lambda art: emojis[art.key].neutrality)


def _write_images(
    source: Source,
    output: Path,
    size: int,
    arts: list[Art],
    emojis: Mapping[str, Emoji],
    dropped: dict[str, list[str]],
) -> list[dict[str, object]]:
    """The rows of the images written, in Unicode's order. Of several emojis with one picture, the first gets it."""
    (output / "images").mkdir(parents=True, exist_ok=True)
    if (output / METADATA).exists():
        os.replace(output / METADATA, output / OLD_METADATA)
    rows: list[tuple[int, dict[str, object]]] = []
    seen: set[bytes] = set()
    for art in tqdm(arts, source.name, disable=None, unit="image"):
        picture = render(art.data, size)
        pixels = hashlib.sha256(picture.tobytes()).digest() if picture else b""
        if picture is None or pixels in seen:
            reason = "the same pixels as another emoji" if picture else "not a picture that can be read"
            dropped.setdefault(reason, []).append(art.file)
            continue
        seen.add(pixels)
        emoji, png = emojis[art.key], _png(picture)
        file_name = f"images/{emoji.hexcode}.png"
        _replace(output / file_name, png)
        rows.append((emoji.order, row(emoji, art, source, file_name, png, size)))
    return [fields for _, fields in sorted(rows, key=lambda pair: pair[0])]


def _finish(output: Path, rows: list[dict[str, object]]) -> None:
    """Remove what only the folder's last dataset had, then write `metadata.jsonl`."""
    names = {fields["file_name"] for fields in rows}
    for fields in _old_rows(output):
        name = f"images/{fields['hexcode']}.png"
        # A list that somebody edited must not name a file elsewhere.
        if fields["file_name"] == name and name not in names and HEXCODE.fullmatch(str(fields["hexcode"])):
            (output / name).unlink(missing_ok=True)
    _replace(output / METADATA, "".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in rows).encode())
    (output / OLD_METADATA).unlink(missing_ok=True)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _check_folder(source: Source, output: Path) -> None:
    """A folder holds one source: two would overwrite each other's pictures, which are named by emoji."""
    if any(fields["source"] != source.name for fields in _old_rows(output)):
        raise ScrapeError(f"{output} already holds another dataset; choose another folder for {source.name}.")


def _old_rows(output: Path) -> list[dict[str, object]]:
    """The rows of the dataset that `output` holds or, where its making was interrupted, held."""
    try:
        files = [output / name for name in (METADATA, OLD_METADATA) if (output / name).exists()]
        rows = [dict(json.loads(line)) for file in files for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise ScrapeError(f"{output} cannot be read ({error}); choose another folder.") from error
    except (ValueError, TypeError) as error:
        raise ScrapeError(f"{output / METADATA} is not a dataset's; choose another folder.") from error
    if not all({"source", "file_name", "hexcode"} <= fields.keys() for fields in rows):
        raise ScrapeError(f"{output} already holds another dataset; choose another folder.")
    return rows


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
