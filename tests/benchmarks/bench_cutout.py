"""Compares the transparency that `Sticker.cutout` finds with the one that pictures were drawn with; times it.

Pictures without defects of the Fluent 3D and Noto packages, 256 px square, are flattened on white and cut out again.
For comparison, plain flood fill does the same: white (244 or more) that is connected with the border becomes
transparent, all else opaque. Pictures whose file name has an even `zlib.crc32` were used to choose the cutout's
constants for edges; only those with an odd one are judged. The rule for gaps was found on 400 pictures of each set,
some of them odd.

| measure | of one picture |
|---|---|
| IoU | of the pixels with alpha over 0.5, the true ones and the found ones |
| alpha error | mean absolute difference of alpha, in [0, 1], over all pixels |
| fringe | mean absolute difference to the original laid on black, in levels, where true alpha is from 0.02 to 0.98 |

An enclosed white area is a 4-connected part of at least 1/2000 of the picture, solid (true alpha at least 0.95) and
white (flattened, every channel at least 244), that the flood fill does not reach. It is kept where at least 90 % of
its alpha is left, and a picture has kept its enclosed whites if it has kept each of them. A gap is such a part that
is clear (true alpha at most 0.05); it is opened where at most 10 % of it is left.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from row import Row
from tqdm import tqdm

from mlx_genmoji.sticker import Sticker
from mlx_genmoji.sticker.cutout import components
from scrape.fluent import FLUENT
from scrape.noto import NOTO
from scrape.pictures import render_cutout
from scrape.sets import Source

SIDE = 256
WHITE = 244
LEAST_PART = SIDE * SIDE // 2000
SHEET = Path(__file__).parents[2] / "docs" / "pictures" / "cutout-failures.png"
BACKDROP = (60, 90, 200)
SIDES_TIMED = (128, 512, 1024)

Alpha = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Verdict(NamedTuple):
    """The measures of one cutout of one picture; `whites` and `gaps` are (number kept or opened, total)."""

    iou: float
    error: float
    fringe: float
    whites: tuple[int, int]
    gaps: tuple[int, int]


class Judged(NamedTuple):
    name: str
    original: Image.Image
    cutout: Image.Image
    ours: Verdict
    flood: Verdict


def rows() -> Iterator[Row]:
    worst: list[Judged] = []
    for source in (FLUENT, NOTO):
        judged = [judge(*picture) for picture in tqdm(list(pictures(source)), source.name, disable=None)]
        yield from set_rows(source.name, judged)
        worst += failures(judged)
    sheet(worst).save(SHEET, optimize=True)
    yield from times(worst[0].original)


def pictures(source: Source) -> Iterator[tuple[str, Image.Image]]:
    """Names and RGBA originals of the pictures that were not used to choose constants."""
    for art in source.read(source.package.read()):
        name = PurePosixPath(art.file).stem
        if art.fault is None and zlib.crc32(name.encode()) % 2 == 1:
            original = render_cutout(art.data, SIDE)
            if original is not None:
                yield name, original


def judge(name: str, original: Image.Image) -> Judged:
    picture = flattened(original, "white")
    cutout = Sticker(picture).cutout()
    filled = picture.convert("RGBA")
    reached = flood_fill(picture)
    filled.putalpha(Image.fromarray(np.where(reached, 0, 255).astype(np.uint8)))
    ours, flood = (verdict(original, picture, cut, reached) for cut in (cutout, filled))
    return Judged(name, original, cutout, ours, flood)


def verdict(original: Image.Image, picture: Image.Image, cut: Image.Image, reached: Mask) -> Verdict:
    true, found = alpha_of(original), alpha_of(cut)
    both, either = (true > 0.5) & (found > 0.5), (true > 0.5) | (found > 0.5)
    edge = (true > 0.02) & (true < 0.98)
    on_black = [np.asarray(flattened(image, "black")).astype(np.float32) for image in (original, cut)]
    white = (np.asarray(picture).min(-1) >= WHITE) & ~reached
    whites = [bool(found[part].sum() >= 0.9 * true[part].sum()) for part in parts(white & (true >= 0.95))]
    gaps = [bool(found[part].mean() <= 0.1) for part in parts(white & (true <= 0.05))]
    return Verdict(
        float(both.sum() / max(either.sum(), 1)),
        float(np.abs(true - found).mean()),
        float(np.abs(on_black[0] - on_black[1])[edge].mean()) if edge.any() else 0.0,
        (sum(whites), len(whites)),
        (sum(gaps), len(gaps)),
    )


def flattened(image: Image.Image, colour: str) -> Image.Image:
    flat = Image.new("RGBA", image.size, colour)
    flat.alpha_composite(image)
    return flat.convert("RGB")


def alpha_of(image: Image.Image) -> Alpha:
    return np.asarray(image.getchannel("A")).astype(np.float32) / 255


def flood_fill(picture: Image.Image) -> Mask:
    """The white pixels that are connected with the border."""
    labels, at_border = components(np.asarray(picture).min(-1) >= WHITE)
    return at_border[labels]


def parts(mask: Mask) -> list[Mask]:
    """The 4-connected parts of `mask` that are large enough to count."""
    labels, _ = components(mask)
    sizes = np.bincount(labels.ravel())
    return [labels == label for label in range(1, len(sizes)) if sizes[label] >= LEAST_PART]


def set_rows(name: str, judged: list[Judged]) -> Iterator[Row]:
    ours, flood = [one.ours for one in judged], [one.flood for one in judged]
    ious, errors = (np.sort([getattr(one, what) for one in ours]) for what in ("iou", "error"))
    tenth = len(judged) // 10
    yield Row(
        what=f"cutout of {name}: mean IoU of alpha over 0.5",
        goal=">= 0.98",
        measured=f"{ious.mean():.4f}; worst decile {ious[:tenth].mean():.3f}",
        met=bool(ious.mean() >= 0.98),
        note=f"{len(judged):,} pictures; flood fill {mean(flood, 'iou'):.4f}",
    )
    yield Row(
        what=f"cutout of {name}: mean absolute error of alpha",
        goal="<= 0.01",
        measured=f"{errors.mean():.4f}; worst decile {errors[-tenth:].mean():.3f}",
        met=bool(errors.mean() <= 0.01),
        note=f"{len(judged):,} pictures; flood fill {mean(flood, 'error'):.4f}",
    )
    yield Row(
        what=f"cutout of {name}: pictures that keep all their enclosed whites",
        goal=">= 95 %",
        measured=shown(share(ours, "whites")),
        met=share(ours, "whites")[0] >= 0.95 * share(ours, "whites")[1],
        note=f"flood fill {shown(share(flood, 'whites'))}",
    )
    yield Row(
        what=f"cutout of {name}: pictures that have all their gaps opened",
        goal="reported",
        measured=shown(share(ours, "gaps")),
        met=None,
        note=f"flood fill {shown(share(flood, 'gaps'))}",
    )
    yield Row(
        what=f"cutout of {name}: error of the edge laid on black, levels",
        goal="reported",
        measured=f"{mean(ours, 'fringe'):.1f}",
        met=None,
        note=f"flood fill {mean(flood, 'fringe'):.1f}",
    )


def mean(verdicts: list[Verdict], what: str) -> float:
    return float(np.mean([getattr(one, what) for one in verdicts]))


def share(verdicts: list[Verdict], what: str) -> tuple[int, int]:
    """The number of pictures with all areas right, and the number with any; what: `whites` or `gaps`."""
    counts = [getattr(one, what) for one in verdicts]
    return sum(right == total for right, total in counts if total), sum(total > 0 for _, total in counts)


def shown(counts: tuple[int, int]) -> str:
    right, total = counts
    return f"{right:,} of {total:,} = {right / max(total, 1):.1%}"


def failures(judged: list[Judged], most: int = 30) -> list[Judged]:
    """The `most` pictures with the largest alpha errors."""
    return sorted(judged, key=lambda one: -one.ours.error)[:most]


def sheet(worst: list[Judged], columns: int = 5) -> Image.Image:
    """A contact sheet: for each picture the original and the cutout on blue, above its name and its error."""
    side, width, height = 96, 2 * 96 + 8, 96 + 18
    font = ImageFont.load_default(size=10)
    canvas = Image.new("RGB", (columns * width, -(-len(worst) // columns) * height), "white")
    pen = ImageDraw.Draw(canvas)
    for index, one in enumerate(worst):
        left, top = index % columns * width, index // columns * height
        for place, image in enumerate((one.original, one.cutout)):
            laid = Image.new("RGBA", image.size, BACKDROP)
            laid.alpha_composite(image)
            canvas.paste(laid.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (left + place * side, top))
        pen.text((left + 2, top + side), f"{one.name[:24]} {one.ours.error:.3f}", "black", font)
    return canvas


def times(original: Image.Image) -> Iterator[Row]:
    for side in SIDES_TIMED:
        sticker = Sticker(flattened(original.resize((side, side), Image.Resampling.LANCZOS), "white"))
        yield Row(
            what=f"cutout of {side} x {side} pixels",
            goal="reported",
            measured=f"{1000 * quickest(sticker.cutout):.0f} ms",
            met=None,
            note="quickest of 9",
        )


def quickest(work: Callable[[], object], rounds: int = 9) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
