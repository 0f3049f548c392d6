"""Measures sticker packs: the time for twelve stickers of a subject, and whether the files keep each messenger's rules.

The checks are those of `tests/mlx_genmoji/packs/known_formats.py`, written from the messengers' documents. All contact
sheets are on one picture, docs/pictures/packs.png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parents[1] / "mlx_genmoji" / "packs"))

from known_formats import CHECKS
from PIL import Image
from row import Row

from mlx_genmoji import Genmoji, make_pack
from mlx_genmoji.packs.moods import DEFAULT_MOODS

SUBJECTS = ("orange cat", "pizza", "woman", "robot", "red apple", "ghost", "penguin", "t-rex")
COUNT = 12
MAX_SECONDS = 20
SHEETS = Path(__file__).parents[2] / "docs" / "pictures" / "packs.png"


def rows() -> Iterator[Row]:
    genmoji = Genmoji.load()
    seconds, cpu_seconds, taken = [], [], dict.fromkeys(CHECKS, 0)
    drawn, sheets = [], []
    with TemporaryDirectory() as name:
        for subject in SUBJECTS:
            folder = Path(name) / subject.replace(" ", "-")
            start, cpu_start = time.perf_counter(), time.process_time()
            pack = make_pack(genmoji, subject, folder, moods=DEFAULT_MOODS[:COUNT], seed=7)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
            drawn.append(len(pack.stickers))
            with Image.open(pack.sheet) as sheet:
                sheets.append(sheet.convert("RGB").reduce(2))
            for messenger, check in CHECKS.items():
                taken[messenger] += is_taken(check, pack.folders[messenger], COUNT)
    save_sheets(sheets)
    yield Row(
        what=f"pack of {COUNT} stickers of one subject, for all five messengers, with contact sheet",
        goal=f"<= {MAX_SECONDS} s",
        measured=f"{median(seconds):.1f} s; slowest {max(seconds):.1f} s",
        met=max(seconds) <= MAX_SECONDS,
        note=f"{len(SUBJECTS)} subjects; model loaded before; CPU time {median(cpu_seconds):.1f} s",
    )
    yield Row(
        what=f"of {COUNT} moods, those that were drawn, of {len(SUBJECTS)} subjects",
        goal=str(COUNT * len(SUBJECTS)),
        measured=str(sum(drawn)),
        met=sum(drawn) == COUNT * len(SUBJECTS),
    )
    for messenger, count in taken.items():
        yield Row(
            what=f"packs that fulfil what {messenger} documents, of {len(SUBJECTS)}",
            goal=str(len(SUBJECTS)),
            measured=str(count),
            met=count == len(SUBJECTS),
        )


def save_sheets(sheets: Sequence[Image.Image]) -> None:
    """Four in a row."""
    width, height = (max(sheet.size[axis] for sheet in sheets) for axis in (0, 1))
    both = Image.new("RGB", (4 * width, -(-len(sheets) // 4) * height), "white")
    for i, sheet in enumerate(sheets):
        both.paste(sheet, (i % 4 * width, i // 4 * height))
    both.save(SHEETS, optimize=True)


def is_taken(check: Callable[[Path], dict[str, str]], folder: Path, count: int) -> bool:
    try:
        return len(check(folder)) == count
    except AssertionError:
        return False
