"""Makes a dataset of an image set: pictures of emoji, identified by their code points.

`Source` and `Art` describe a set and its pictures; one picture is chosen for each emoji.
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
    """A picture of an image set.

    key: the key (`emojibase.key`) of the emoji it shows; file: its name in the set; data: the bytes of the file; fault:
    the reason for leaving it out, if any.
    """

    key: str
    file: str
    data: bytes
    fault: str | None = None


@dataclass(frozen=True)
class Source:
    """An image set: its npm package, the licence of its art (SPDX), and `read`, which turns files into pictures."""

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
    """Make `output` the dataset of `arts`, one picture without a fault for each of `emojis`.

    Raises ScrapeError, which names the `origin` of the pictures, where none of them can be used.
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
    """One picture without a fault for each emoji, the most neutral first: of equal pictures the first is kept."""
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
