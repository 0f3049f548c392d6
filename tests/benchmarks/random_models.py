"""UNets of the published sizes with random weights, written as users have them: half precision, in several files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mlx.utils import tree_flatten
from safetensors.numpy import save_file

from mlx_genmoji.checkpoint import create_model
from mlx_genmoji.models.blocks import PointwiseConv

# What differs from the defaults of UNet2DConditionModel.
CONFIGS: dict[str, dict[str, Any]] = {
    "SD 1.5": {"cross_attention_dim": 768},
    "SDXL": {
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}

BYTES_IN_A_FILE = 500_000_000


def write_unet(size: str, folder: Path) -> None:
    """A UNet's folder: `config.json`, weights of the variance 1 / fan-in in fp16, and the index of their files."""
    folder.mkdir(parents=True)
    config = {"_class_name": "UNet2DConditionModel", **CONFIGS[size]}
    (folder / "config.json").write_text(json.dumps(config))
    places: dict[str, str] = {}
    shard: dict[str, np.ndarray] = {}
    for name, tensor in _tensors(config):
        shard[name] = tensor
        if sum(tensor.nbytes for tensor in shard.values()) > BYTES_IN_A_FILE:
            places |= _write(shard, folder)
    places |= _write(shard, folder)
    index = {"metadata": {}, "weight_map": places}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def _write(shard: dict[str, np.ndarray], folder: Path) -> dict[str, str]:
    """Write the tensors gathered so far into a file more, and tell which it is for each."""
    name = f"diffusion_pytorch_model-{len(list(folder.glob('*.safetensors'))):02d}.safetensors"
    save_file(shard, folder / name)
    places = dict.fromkeys(shard, name)
    shard.clear()
    return places


def _tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """As files have them. The same million numbers over and over, which is quick and does for speed and memory."""
    model = create_model(config)
    pointwise = {f"{path}.weight" for path, layer in model.named_modules() if isinstance(layer, PointwiseConv)}
    numbers = np.random.default_rng(0).standard_normal(2**20 + 1, np.float32)
    for name, parameter in tree_flatten(model.parameters()):
        shape = parameter.shape
        if len(shape) == 1:
            yield name, np.full(shape, name.endswith("weight"), np.float16)
            continue
        own = (numbers / math.sqrt(math.prod(shape[1:]))).astype(np.float16)
        if len(shape) == 4:
            shape = (shape[0], shape[3], *shape[1:3])
        elif name in pointwise:
            shape = (*shape, 1, 1)
        yield name, np.resize(own, shape)
