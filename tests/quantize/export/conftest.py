"""Small models of each family, and adapters of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from random_models import write_small_pipeline

from mlx_genmoji.checkpoint.components import open_model
from mlx_genmoji.lora import Adapter, Layer, adaptable, save_adapter
from mlx_genmoji.lora.layers import weight_shape


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`small("SD 1.5")`: the folder of a small model of that family with random weights."""
    made: dict[str, Path] = {}

    def small(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp("models") / family.replace(" ", "-")
            made[family] = write_small_pipeline(family, folder)
        return made[family]

    return small


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a smaller SD 1.5 still: building and checking a package takes as long as it has ops."""
    return write_small_pipeline(
        "SD 1.5",
        tmp_path_factory.mktemp("models") / "tiny",
        block_out_channels=[32, 64],
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        attention_head_dim=2,
    )


@pytest.fixture(scope="session")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`adapter("tone-dark", ("to_q", "conv1"))`: an adapter of the tiny model, of the layers with these ends."""

    def adapter(name: str, ends: tuple[str, ...], components: tuple[str, ...] = ("unet",), seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        models = {component: open_model(tiny / component) for component in {"unet", *components}}
        layers = {}
        for path, layer in adaptable(models).items():
            if path.partition(".")[0] in components and path.endswith(ends):
                out, *inner = weight_shape(layer)
                down = random.standard_normal((4, *inner), np.float32) / np.prod(inner) ** 0.5
                up = 0.3 * random.standard_normal((out, 4), np.float32)
                layers[path] = Layer(mx.array(down), mx.array(up), 4.0)
        file = tmp_path_factory.mktemp("adapters") / f"{name}.safetensors"
        save_adapter(Adapter(layers).resolve(models), file)
        return file

    return adapter
