"""The image sets, by name, and `collect`, which makes a dataset of one."""

from pathlib import Path

from .dataset import Form, Report
from .errors import ScrapeError
from .fluent import FLUENT
from .noto import NOTO
from .sets import Source, write_set
from .svg_sets import OPENMOJI, TWEMOJI

SOURCES: dict[str, Source] = {source.name: source for source in (FLUENT, NOTO, TWEMOJI, OPENMOJI)}


def collect(
    source: str,
    output: Path,
    *,
    size: int = 256,
    margin: float = 0.0,
    keep_originals: bool = False,
    package: Path | None = None,
    emojibase: Path | None = None,
) -> Report:
    """Make the dataset of one of `SOURCES`: `output/images/*.png`, `size` px square, beside `output/metadata.jsonl`.

    margin: the white at each side, a fraction of the size; keep_originals: keep the files as fetched in
    `output/originals`; package, emojibase: tarballs or unpacked folders of the source's package and of emojibase-data,
    by default from the user's cache or npm. Raises ScrapeError where the dataset cannot be made.
    """
    if source not in SOURCES:
        raise ScrapeError(f"There is no source {source}; there are {', '.join(SOURCES)}.")
    form = Form(size, margin, keep_originals)
    return write_set(SOURCES[source], output, form, package, emojibase)
