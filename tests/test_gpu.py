"""On a real GPU (Metal, or CUDA): what it draws is what the CPU draws, and an adapter trains.

Skipped where MLX has no GPU. With GENMOJI_TEST_GPU=1 a missing GPU is a failure, so that a job which is there for these
tests cannot pass without having run them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import yaml
from PIL import Image

import train
from mlx_genmoji import Genmoji

REQUIRED = os.environ.get("GENMOJI_TEST_GPU", "") not in ("", "0")
MIN_PSNR = 35.0
"""Decibels between the GPU's picture, in half precision, and the CPU's; Apple asks as much of its packages."""

pytestmark = pytest.mark.skipif(not (REQUIRED or mx.is_available(mx.gpu)), reason="needs a GPU")


@contextmanager
def computing_on(device: mx.DeviceType) -> Iterator[None]:
    before = mx.default_device()
    mx.set_default_device(mx.Device(device))
    try:
        yield
    finally:
        mx.set_default_device(before)


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio in decibels."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    mean_square = float(np.mean(difference**2))
    return math.inf if mean_square == 0 else 10 * math.log10(255**2 / mean_square)


@pytest.mark.parametrize("prompt", ["red apple", "flying pig", "woman astronaut, dark skin tone"])
def test_a_picture_drawn_on_the_gpu_is_the_one_drawn_on_the_cpu(prompt: str) -> None:
    pictures = []
    for device in (mx.DeviceType.gpu, mx.DeviceType.cpu):
        with computing_on(device):
            pictures.append(Genmoji.load().generate(prompt, seed=7)[0].image)
    assert psnr(*pictures) >= MIN_PSNR


def test_the_same_seed_draws_the_same_picture_on_the_gpu() -> None:
    with computing_on(mx.DeviceType.gpu):
        genmoji = Genmoji.load()
        first, *_ = genmoji.generate("octopus", count=2, seed=7)
        again = genmoji.replay(first.recipe)
    assert psnr(first.image, again.image) == math.inf


def test_an_adapter_trains_on_the_gpu_over_a_base_in_4_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = tmp_path / "dataset" / "images"
    pictures.mkdir(parents=True)
    for index, colour in enumerate(("red", "green", "blue", "orange")):
        Image.new("RGB", (128, 128), colour).save(pictures / f"{index}.png")
    rows = [{"file_name": f"images/{index}.png", "text": f"thing {index}"} for index in range(4)]
    (tmp_path / "dataset" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "objective": "lora",
        "output": "runs/gpu",
        "bits": 4,
        "data": {"folders": ["dataset"], "size": 128, "caption": "{text}, 3d"},
        "lora": {"rank": 4, "targets": ["conv"]},
        "validation": {"pictures": 0},
        "loop": {"steps": 12, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 1, "log_every": 4},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with computing_on(mx.DeviceType.gpu):
        path = train.run(Path("recipe.yaml"))
        weights = mx.load(str(path))
        assert isinstance(weights, dict)
        assert all(bool(mx.all(mx.isfinite(weight))) for weight in weights.values())
    entries = [json.loads(line) for line in (tmp_path / "runs" / "gpu" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) >= 3 and all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
