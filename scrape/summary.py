"""Summarizes a dataset: counts as text, and every picture on one contact sheet."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mlx_genmoji.files import write_bytes
from mlx_genmoji.prompt.lexicon import SKIN_TONES

from .dataset import encode
from .errors import ScrapeError
from .inputs import pixel_hash, read_dataset, read_image

NOBODY, NO_TONE, TWO_TONES = "no person", "no tone", "two tones"

TONES = (NO_TONE, *SKIN_TONES, TWO_TONES)

# The person types of most datasets, in the order of the table; others follow by name.
PERSON_TYPES = (NOBODY, "man", "woman", "person")

SIDE, GAP, COLUMNS, MARGIN, TITLE = 48, 4, 30, 12, 22


@dataclass(frozen=True)
class Summary:
    """The counts of a dataset.

    people: pictures by person type and skin tone; sources: pictures by source and licence; duplicates: groups of file
    names with the same pixels; unreadable: file names of pictures that cannot be read.
    """

    dataset: Path
    images: int
    people: Mapping[tuple[str, str], int]
    sources: Mapping[tuple[str, str], int]
    duplicates: Sequence[Sequence[str]]
    unreadable: Sequence[str]

    def __str__(self) -> str:
        lines = [f"{self.dataset}: {self.images:,} images", "", *_table(self.people), ""]
        lines += [f"{count:,} of {source}, {license}" for (source, license), count in sorted(self.sources.items())]
        lines += [f"the same pixels: {', '.join(names)}" for names in self.duplicates] or ["no duplicates"]
        lines += [f"cannot be read: {name}" for name in self.unreadable]
        return "\n".join(lines)


def summarize(dataset: Path, sheet: Path | None = None) -> Summary:
    """Count the pictures of `dataset`, and draw them all on the PNG file `sheet`, if one is given.

    Raises UserError where `dataset` is none, or the sheet cannot be written.
    """
    rows = read_dataset(dataset)
    if sheet is not None and not sheet.parent.is_dir():
        raise ScrapeError(f"There is no folder {sheet.parent} to write {sheet.name} to.")
    names_by_pixels: dict[str, list[str]] = {}
    unreadable = []
    sections: dict[tuple[str, str], list[Image.Image]] = {}
    for fields in rows:
        name = fields["file_name"]
        read = read_image(dataset, name)
        if read is None:
            unreadable.append(name)
            continue
        picture = read[1]
        names_by_pixels.setdefault(pixel_hash(picture), []).append(name)
        if sheet is not None:
            sections.setdefault(_kind(fields), []).append(_small(picture))
    if sheet is not None:
        try:
            write_bytes(sheet, encode(contact_sheet(sections)))
        except OSError as error:
            raise ScrapeError(f"{sheet} cannot be written ({error.strerror or error}).") from error
    return Summary(
        dataset,
        len(rows),
        Counter(map(_kind, rows)),
        Counter((fields["source"], fields["license"]) for fields in rows),
        [names for names in names_by_pixels.values() if len(names) > 1],
        unreadable,
    )


def contact_sheet(sections: Mapping[tuple[str, str], Sequence[Image.Image]]) -> Image.Image:
    """Every picture, `SIDE` px square, in rows of `COLUMNS`, under a title for each person type and tone."""
    people = _people(person_type for person_type, _ in sections)
    order = sorted(sections, key=lambda kind: (people.index(kind[0]), _tone(kind[1])))
    step = SIDE + GAP
    heights = [TITLE + -(-len(sections[kind]) // COLUMNS) * step + MARGIN for kind in order]
    sheet = Image.new("RGB", (COLUMNS * step + 2 * MARGIN, sum(heights) + MARGIN), "white")
    pen, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(size=14), MARGIN
    for kind, height in zip(order, heights, strict=True):
        title = ", ".join(name for name in kind if name != NO_TONE)
        pen.text((MARGIN, top), f"{title}: {len(sections[kind]):,}", "black", font)
        for index, picture in enumerate(sections[kind]):
            row, column = divmod(index, COLUMNS)
            sheet.paste(picture, (MARGIN + column * step, top + TITLE + row * step))
        top += height
    return sheet


def _kind(fields: Mapping[str, Any]) -> tuple[str, str]:
    """The person type and the skin tone that a row counts for."""
    tones = fields.get("skin_tone") or []
    tones = tones if isinstance(tones, list) else [tones]
    tone = (NO_TONE, str(tones[0]) if tones else NO_TONE, TWO_TONES)[min(len(tones), 2)]
    return str(fields.get("person_type") or NOBODY), tone


def _people(names: Iterable[str]) -> list[str]:
    """Person types in the order of the table, each once."""
    present = set(names)
    return [name for name in PERSON_TYPES if name in present] + sorted(present - set(PERSON_TYPES))


def _tone(name: str) -> tuple[int, str]:
    return TONES.index(name) if name in TONES else len(TONES), name


def _table(people: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """The lines of a table: counts per person type (rows) and skin tone (columns), with sums."""
    tones = sorted({tone for _, tone in people} | set(TONES), key=_tone)
    types = _people(person_type for person_type, _ in people)
    rows = [(name, [people.get((name, tone), 0) for tone in tones]) for name in types]
    rows.append(("all", [sum(column) for column in zip(*(counts for _, counts in rows), strict=True)]))
    widths = [max(len(tone), 6) for tone in (*tones, "all")]
    first = max(len(name) for name, _ in rows)
    yield " ".join([" " * first, *(f"{tone:>{width}}" for tone, width in zip((*tones, "all"), widths, strict=True))])
    for name, counts in rows:
        cells = (f"{count:>{width},}" for count, width in zip((*counts, sum(counts)), widths, strict=True))
        yield " ".join([f"{name:<{first}}", *cells])


def _small(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture
