"""The image sets that a dataset can be made of, by name."""

from pathlib import Path

from . import dataset
from .dataset import Report, Source
from .errors import ScrapeError
from .fluent import FLUENT
from .noto import NOTO

SOURCES: dict[str, Source] = {source.name: source for source in (FLUENT, NOTO)}


def collect(
    source: str, output: Path, *, size: int = 256, package: Path | None = None, emojibase: Path | None = None
) -> Report:
    """Make the dataset of one of `SOURCES`: `output/images/*.png`, `size` px square, beside `output/metadata.jsonl`.

    `package` and `emojibase` are tarballs or unpacked folders of the source's package and of emojibase-data; without
    them `npm pack` fetches what the user's cache does not hold. Raises ScrapeError for whatever its user can put right.
    """
    if source not in SOURCES:
        raise ScrapeError(f"There is no source {source}; there are {', '.join(SOURCES)}.")
    return dataset.write(SOURCES[source], output, size, package, emojibase)
