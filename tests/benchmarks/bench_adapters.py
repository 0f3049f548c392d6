"""Measures adapters on the built-in model: the time to exchange one, and the time to draw with one.

The adapter has rank 16 on every layer of the groups attention, feed-forward and conv. Runs with
and without it alternate, so that other work on the machine slows both equally.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from row import Row

from mlx_genmoji import Genmoji
from mlx_genmoji.lora import LoRAConfig, adapter_of, attach, detach, save_adapter

ROUNDS = 7
CONFIG = LoRAConfig(rank=16, targets=("attention", "feed-forward", "conv"))


def rows() -> Iterator[Row]:
    genmoji = Genmoji.load()
    attach(genmoji.models, CONFIG, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        save_adapter(adapter_of(genmoji.models), path)
        size = path.stat().st_size / 1e6
        detach(genmoji.models)
        loading, exchanging, plain, adapted = [], [], [], []
        for _ in range(ROUNDS):
            loading.append(_seconds(Genmoji.load))
            genmoji.set_adapters([])
            plain.append(_seconds(lambda: genmoji.generate("pig", seed=1)))
            exchanging.append(_seconds(lambda: genmoji.set_adapters([path])))
            adapted.append(_seconds(lambda: genmoji.generate("pig", seed=1)))
    note = f"medians of {ROUNDS}, in turn; rank {CONFIG.rank} on all layers, {size:.1f} MB"
    load, exchange = statistics.median(loading), statistics.median(exchanging)
    yield Row(
        what="an adapter read and put in place of another, beside loading the model",
        goal="",
        measured=f"{exchange / load:.2f} x ({exchange:.3f} s / {load:.3f} s)",
        met=None,
        note=note,
    )
    without, with_it = statistics.median(plain), statistics.median(adapted)
    yield Row(
        what="a sticker drawn with an adapter, against without",
        goal="",
        measured=f"{with_it / without:.2f} x ({with_it:.2f} s / {without:.2f} s)",
        met=None,
        note=note,
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
