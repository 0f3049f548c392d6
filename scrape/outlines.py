"""Makes `outlines.tsv`: the outlines of a set's pictures that cannot be cut out of white by their pixels alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlx_genmoji.files import write_text
from mlx_genmoji.sticker import SIDE, packed
from mlx_genmoji.sticker.cutout import cut_out

from .dataset import cannot_write
from .errors import ScrapeError
from .inputs import read_dataset
from .pictures import render_cutout
from .sources import SOURCES

# Where a cutout loses more than this share of a figure, or keeps more than this share as holes, its outline is kept.
MAX_LOST, MAX_KEPT = 0.005, 0.02
# So is that of a figure of whose edge more than this share is within so many levels of white.
MAX_PALE, PALE = 0.2, 40


def outlines(datasets: Sequence[Path], output: Path) -> str:
    """Write the file `output`, and return a line that counts its outlines.

    datasets: collected sets of emoji, whose packages have the pictures with their transparency. Raises ScrapeError for
    another dataset, and for a file that cannot be written.
    """
    lines = sorted("\t".join(line) for folder in datasets for line in _outlines(folder))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise cannot_write(output, error) from error
    return f"outlines: {len(lines):,} in {output}"


def _outlines(folder: Path) -> Iterator[tuple[str, str, str]]:
    rows = [row for row in read_dataset(folder) if not row.get("skin_tone")]
    names = {row["source"] for row in rows}
    if not names <= SOURCES.keys() or len(names) > 1:
        raise ScrapeError(f"{folder} is no collected set of emoji; there are {', '.join(SOURCES)}.")
    for name in names:
        labels = {row["source_file"]: row["label"] for row in rows}
        for art in SOURCES[name].read(SOURCES[name].package.read()):
            if art.file not in labels:
                continue
            picture = render_cutout(art.data, SIDE)
            if picture is not None and needs_outline(picture):
                yield labels[art.file], name, packed(_figure(picture))


def needs_outline(picture: Image.Image) -> bool:
    """Whether the figure of an RGBA picture has a pale edge, or is not what a cutout of it on white finds."""
    on_white = Image.new("RGBA", picture.size, "white")
    on_white.alpha_composite(picture)
    rgb = np.asarray(on_white.convert("RGB"))
    cut = cut_out(rgb)[..., 3] >= 128
    figure = _figure(picture)
    clear = np.asarray(picture.getchannel("A")) < 25
    size = max(int(figure.sum()), 1)
    edge = figure & ~_shrunk(figure)
    pale = edge & (rgb.min(-1) >= 255 - PALE)
    return bool(
        (figure & ~cut).sum() > MAX_LOST * size
        or (clear & cut).sum() > MAX_KEPT * size
        or pale.sum() > MAX_PALE * edge.sum()
    )


def _figure(picture: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(picture.getchannel("A")) >= 128


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask whose four neighbours are in it."""
    framed = np.pad(mask, 1)
    inner: NDArray[np.bool_] = mask & framed[2:, 1:-1] & framed[:-2, 1:-1] & framed[1:-1, 2:] & framed[1:-1, :-2]
    return inner
