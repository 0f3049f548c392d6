"""Writes models with random weights: UNets of the published sizes, in half precision and several files as on hubs; and
small models of each family.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from safetensors.numpy import save_file

from mlx_genmoji.checkpoint.components import create_model, save_model
from mlx_genmoji.files import write_json
from mlx_genmoji.models.blocks import PointwiseConv
from mlx_genmoji.pipeline import BUILTIN

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
    """Write the tensors gathered so far to another file, and record the file's name for each."""
    name = f"diffusion_pytorch_model-{len(list(folder.glob('*.safetensors'))):02d}.safetensors"
    save_file(shard, folder / name)
    places = dict.fromkeys(shard, name)
    shard.clear()
    return places


def _tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Random values in the file's dtype. They repeat a million numbers, which suffices to measure speed and memory."""
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


NOISE = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

SMALL_UNET = {
    "sample_size": 16,
    "block_out_channels": [32, 64, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
    "cross_attention_dim": 64,
    "norm_num_groups": 8,
}

# What is particular to a family, in models small enough for tests: the UNet's fields, the scheduler's, the encoders'.
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "SD 1.5": ({}, {}, {"hidden_act": "quick_gelu"}),
    "SD 2.1": (
        {"attention_head_dim": [2, 4, 4], "use_linear_projection": True, "upcast_attention": True},
        {"prediction_type": "v_prediction"},
        {"hidden_act": "gelu"},
    ),
    "SDXL": (
        {
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 1, 2],
            "use_linear_projection": True,
            "cross_attention_dim": 128,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        },
        {"_class_name": "EulerDiscreteScheduler"},
        {"hidden_act": "quick_gelu"},
    ),
}


def write_small_pipeline(family: str, folder: Path, **unet: Any) -> Path:
    """A whole model of 32 pixels with random weights in half precision, norms and biases too.

    The tokenizer is the built-in model's. `unet`: more fields of the UNet's config.
    """
    own, scheduler, text = SMALL[family]
    shutil.copytree(BUILTIN / "tokenizer", folder / "tokenizer")
    encoder = {
        "architectures": ["CLIPTextModel"],
        "vocab_size": 2048,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
        "eos_token_id": 2047,
        **text,
    }
    parts: dict[str, dict[str, Any]] = {
        "text_encoder": encoder,
        "unet": {"_class_name": "UNet2DConditionModel", **SMALL_UNET, **own, **unet},
        "vae": {
            "_class_name": "AutoencoderKL",
            "block_out_channels": [16, 32],
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "up_block_types": ["UpDecoderBlock2D"] * 2,
            "norm_num_groups": 8,
        },
    }
    if family == "SDXL":
        projecting = {"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 32, "hidden_act": "gelu"}
        parts["text_encoder_2"] = encoder | projecting
        shutil.copytree(BUILTIN / "tokenizer", folder / "tokenizer_2")
    random = np.random.default_rng(0)
    for name, config in parts.items():
        model = create_model(config)
        model.update(tree_unflatten([(key, _drawn(key, value.shape, random)) for key, value in _flat(model)]))
        save_model(model, folder / name, mx.float16)
    write_json(folder / "scheduler" / "scheduler_config.json", NOISE | scheduler)
    pipeline = "StableDiffusionXLPipeline" if family == "SDXL" else "StableDiffusionPipeline"
    write_json(folder / "model_index.json", {"_class_name": pipeline})
    return folder


def _flat(model: Any) -> list[tuple[str, mx.array]]:
    return cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))


def _drawn(name: str, shape: tuple[int, ...], random: np.random.Generator) -> mx.array:
    noise = random.standard_normal(shape, np.float32)
    if len(shape) > 1:
        return mx.array(noise / math.sqrt(math.prod(shape[1:])))
    return mx.array(1 + 0.3 * noise if name.endswith("weight") else 0.2 * noise)
