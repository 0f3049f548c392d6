"""How long the page takes for combinations: from the click to four candidates of three parts, and against one picture.

The server runs in a process of its own, as `genmoji app` starts it, and has drawn before. Each figure is the median of
several runs; pictures of one part and of three are drawn in turn, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from bench_app import demo_server, open_page
from row import Row

from mlx_genmoji import Genmoji

THREE_PARTS = "cat wearing a crown and sunglasses"
ONE_PART = "red apple"
RUNS = 7


def rows() -> Iterator[Row]:
    with demo_server() as (url, _), open_page(url) as page:
        page.draw(THREE_PARTS, 1, count=4)
        drawn = [_timed(page.draw, THREE_PARTS, seed, count=4) for seed in range(2, 2 + RUNS)]
    seconds = statistics.median(taken for taken, _ in drawn)
    complete = all(len(shown["tiles"]) == 4 and "token" in shown for _, shown in drawn)
    yield Row(
        what="four candidates of three parts each in the page, warm",
        goal="<= 5 s",
        measured=f"{seconds:.1f} s",
        met=complete and seconds <= 5,
        note=f"median of {RUNS}, with previews",
    )
    genmoji = Genmoji.load()
    genmoji.generate(THREE_PARTS, seed=1)
    pairs = [
        (_timed(genmoji.generate, ONE_PART, seed=seed)[0], _timed(genmoji.generate, THREE_PARTS, seed=seed)[0])
        for seed in range(RUNS)
    ]
    one, three = (statistics.median(times) for times in zip(*pairs, strict=True))
    yield Row(
        what="a picture of three parts against a picture of one",
        goal="<= 1.5 x",
        measured=f"{three / one:.2f} x",
        met=three / one <= 1.5,
        note=f"{1000 * three:.0f} ms and {1000 * one:.0f} ms, medians of {RUNS} in turn",
    )


def _timed(function: Any, *arguments: Any, **options: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - started, result
