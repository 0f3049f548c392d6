"""The loop over a sampler's steps."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from diffusers import DDIMScheduler, StableDiffusionPipeline

from mlx_genmoji import Genmoji, generation

pytestmark = pytest.mark.usefixtures("cpu")

STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_pipeline: Any) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("model") / "sd", StableDiffusionPipeline, DDIMScheduler())


def waits(genmoji: Genmoji, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[int, bytes]:
    """How often a drawing of `STEPS` steps waits within its loop, and its pixels."""
    counted = []
    with monkeypatch.context() as patch:
        patch.setattr(generation.mx, "eval", lambda *arrays: counted.append(len(arrays)))
        picture = genmoji.generate("a pig", seed=1, steps=STEPS, **options)[0].image
    # What the loop begins with is evaluated once before it.
    return len(counted) - 1, picture.tobytes()


def test_a_gpu_never_waits_for_a_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genmoji = Genmoji.load(folder)
    each_step, pixels = waits(genmoji, monkeypatch)
    assert each_step == STEPS
    monkeypatch.setattr(generation, "on_cpu", lambda: False)
    calls: list[tuple[int, int]] = []
    no_wait, same_pixels = waits(genmoji, monkeypatch, callback=lambda *call: calls.append(call[:2]))
    assert no_wait == 0 and same_pixels == pixels
    assert calls == [(step, STEPS) for step in range(STEPS)]


def test_a_callback_on_a_gpu_hears_the_latents_of_its_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genmoji = Genmoji.load(folder)
    heard: list[list[mx.array]] = [[], []]
    for latents, cpu in zip(heard, (True, False), strict=True):
        monkeypatch.setattr(generation, "on_cpu", lambda cpu=cpu: cpu)
        genmoji.generate("a pig", seed=1, steps=STEPS, callback=lambda *call, latents=latents: latents.append(call[2]))
    assert len(heard[0]) == STEPS
    assert all(mx.array_equal(a, b) for a, b in zip(*heard, strict=True))
