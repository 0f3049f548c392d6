"""Small Stable Diffusion models with random weights, and adapters of them by other hands."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SIDE = 16


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, write_pipeline: Callable[..., Path]) -> Callable[[str], Path]:
    """`base("sd")` or `base("xl")`: the folder of a model, as diffusers writes it."""
    made: dict[str, Path] = {}

    def base(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            if family == "xl":
                # Blocks that attend, and one that does not, as in XL.
                down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
                scheduler = EulerDiscreteScheduler(**NOISE)
                fields = {"down_block_types": down, "up_block_types": up}
                made[family] = write_pipeline(folder, StableDiffusionXLPipeline, scheduler, **fields)
            else:
                made[family] = write_pipeline(
                    folder, StableDiffusionPipeline, DDIMScheduler(**NOISE, clip_sample=False)
                )
        return made[family]

    return base


@pytest.fixture
def theirs(base: Callable[[str], Path]) -> Callable[[str], Any]:
    """`theirs("xl")`: diffusers' pipeline of a model."""

    def theirs(family: str) -> Any:
        kind = StableDiffusionXLPipeline if family == "xl" else StableDiffusionPipeline
        pipeline = kind.from_pretrained(base(family), torch_dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return theirs


@pytest.fixture
def noise() -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).standard_normal((1, SIDE // 2, SIDE // 2, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread(cpu: None) -> Iterator[None]:
    torch.set_num_threads(1)
    yield
