"""An image set: pictures of emojis, known by their code points, and how they become a dataset.

What a source must say of itself (`Source`, `Art`), and which of its pictures are taken.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .dataset import Dropped, Form, Picture, Report, check_source, write
from .emojibase import Emoji, read_emojis
from .errors import ScrapeError
from .packages import Package


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


def write_set(source: Source, output: Path, form: Form, package: Path | None, emojibase: Path | None) -> Report:
    """Make the dataset of `source` in `output`; see `scrape.collect`."""
    check_source(output, source.name)
    emojis = read_emojis(emojibase)
    arts = source.read(source.package.read(package))
    return write_emojis(output, source.name, source.license, arts, emojis, form, source.package.spec)


def write_emojis(
    output: Path,
    source: str,
    license: str,
    arts: Iterable[Art],
    emojis: Mapping[str, Emoji],
    form: Form,
    origin: str,
) -> Report:
    """Make `output` the dataset of `arts`, one faultless picture for each of `emojis`.

    Raises ScrapeError, which names the `origin` of the pictures, where not one of them can be taken.
    """
    dropped = Dropped()
    chosen = _choose(arts, emojis, dropped)
    if not chosen:
        raise ScrapeError(f"{origin} has no picture of an emoji that emojibase names.")
    pictures = [
        Picture(emojis[art.key].hexcode, art.file, art.data, emojis[art.key].order, emojis[art.key].fields())
        for art in chosen
    ]
    return write(output, source, license, pictures, form, dropped)


def _choose(arts: Iterable[Art], emojis: Mapping[str, Emoji], dropped: Dropped) -> list[Art]:
    """One faultless picture for each known emoji, the most neutral emojis first: of one picture, they get it."""
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
            dropped.add(reason, art.file)
    return sorted(chosen.values(), key=lambda art: emojis[art.key].neutrality)
