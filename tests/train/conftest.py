"""A dataset of eight two-coloured pictures, models and recipes small enough to train in seconds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import yaml
from PIL import Image

from mlx_genmoji.checkpoint.components import create_model, save_model
from mlx_genmoji.files import write_json
from train.model.vocabulary import train_clip_vocabulary

VAE = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [4, 8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 16,
    "scaling_factor": 1.0,
    "mid_block_add_attention": False,
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(8):
        colour = np.random.default_rng(index).integers(0, 256, (2, 1, 3), np.uint8)
        Image.fromarray(colour).resize((20, 20), Image.Resampling.NEAREST).save(folder / "images" / f"{index}.png")
        rows.append(
            {
                "file_name": f"images/{index}.png",
                "text": f"thing {index}",
                "source": "fluent" if index % 2 else "noto",
                "skin_tone": ["dark"] if index == 7 else [],
            }
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def vae_recipe(tmp_path: Path, dataset: Path) -> Path:
    return write_recipe(
        tmp_path / "vae.yaml",
        {
            "objective": "autoencoder",
            "output": str(tmp_path / "runs" / "vae"),
            "data": {"folders": [str(dataset)], "size": 16},
            "config": VAE,
            "loop": {
                "steps": 6,
                "batch_size": 4,
                "learning_rate": 0.01,
                "warmup_steps": 1,
                "ema_decay": 0.9,
                "checkpoint_every": 2,
                "threads": 2,
                "compiled": False,
            },
        },
    )


@pytest.fixture
def diffusion_recipe(tmp_path: Path, dataset: Path) -> Path:
    return write_recipe(
        tmp_path / "diffusion.yaml",
        {
            "objective": "diffusion",
            "output": str(tmp_path / "runs" / "model"),
            "data": {
                "folders": [str(dataset)],
                "size": 16,
                "caption": "{text}, {style}",
                "styles": {"fluent": "3d", "noto": "flat"},
                "tone_weight": 0.5,
            },
            "vae": str(tmp_path / "runs" / "vae" / "vae"),
            "vocabulary": 530,
            "text_encoder": {
                "architectures": ["CLIPTextModel"],
                "model_type": "clip_text_model",
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "max_position_embeddings": 16,
                "hidden_act": "quick_gelu",
            },
            "unet": {
                "_class_name": "UNet2DConditionModel",
                "sample_size": 4,
                "block_out_channels": [8, 16],
                "layers_per_block": 1,
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
                "attention_head_dim": 2,
                "cross_attention_dim": 16,
                "norm_num_groups": 4,
                "resnet_time_scale_shift": "scale_shift",
                "addition_embed_type": "text",
                "addition_embed_type_num_heads": 2,
            },
            "scheduler": {
                "_class_name": "DPMSolverMultistepScheduler",
                "num_train_timesteps": 1000,
                "beta_schedule": "squaredcos_cap_v2",
                "prediction_type": "v_prediction",
                "timestep_spacing": "trailing",
            },
            "defaults": {"template": "{prompt}, 3d", "steps": 3, "guidance": 2.0},
            "sample_prompts": ["thing 1, 3d", "thing 2, flat"],
            "loop": {
                "steps": 6,
                "batch_size": 4,
                "learning_rate": 0.01,
                "warmup_steps": 1,
                "ema_decay": 0.9,
                "checkpoint_every": 2,
                "sample_every": 3,
                "threads": 2,
                "compiled": False,
            },
        },
    )


def write_recipe(path: Path, recipe: dict) -> Path:
    path.write_text(yaml.safe_dump(recipe))
    return path


UNET = {
    "_class_name": "UNet2DConditionModel",
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "mid_block_type": None,
    "attention_head_dim": 2,
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "hidden_act": "quick_gelu",
    "projection_dim": 32,
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}


def write_base_folder(
    folder: Path, xl: bool = False, unet: Mapping[str, Any] = {}, scheduler: Mapping[str, Any] = {}
) -> Path:
    """A diffusers folder of a model that draws 16 x 16 pixels, with random weights."""
    mx.random.seed(0)
    kinds = {"scheduler": "DDIMScheduler", "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    index = {part: ["diffusers", kind] for part, kind in kinds.items()}
    towers = ["", "_2"] if xl else [""]
    for suffix in towers:
        train_clip_vocabulary(["thing of 3d and flat"], 530, folder / f"tokenizer{suffix}", 16)
        vocabulary = json.loads((folder / f"tokenizer{suffix}" / "vocab.json").read_text(encoding="utf-8"))
        end = len(vocabulary) - 1
        kind = "CLIPTextModelWithProjection" if suffix else "CLIPTextModel"
        ids = {"vocab_size": len(vocabulary), "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
        save_model(create_model(TEXT | ids | {"architectures": [kind]}), folder / f"text_encoder{suffix}")
        index |= {
            f"text_encoder{suffix}": ["transformers", kind],
            f"tokenizer{suffix}": ["transformers", "CLIPTokenizer"],
        }
    config = UNET | dict(unet)
    if xl:
        config |= {
            "cross_attention_dim": 64,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        }
    save_model(create_model(config), folder / "unet")
    save_model(create_model(VAE | {"scaling_factor": 0.5}), folder / "vae")
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER | dict(scheduler))
    write_json(folder / "genmoji.json", {"steps": 2, "guidance": 2.0})
    name = "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline"
    write_json(folder / "model_index.json", {"_class_name": name} | index)
    return folder


@pytest.fixture
def write_base() -> Callable[..., Path]:
    return write_base_folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base_folder(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def lora_recipe(tmp_path: Path, dataset: Path, base: Path) -> Path:
    return write_recipe(
        tmp_path / "lora.yaml",
        {
            "objective": "lora",
            "output": str(tmp_path / "runs" / "lora"),
            "base": str(base),
            "data": {"folders": [str(dataset)], "size": 16, "caption": "{text}, flat"},
            "lora": {"rank": 4, "targets": ["attention", "conv"]},
            "validation": {"pictures": 1, "every": 3, "bands": 2},
            "sample_prompts": ["thing 1, flat", "thing 2, flat"],
            "loop": {
                "steps": 6,
                "batch_size": 4,
                "learning_rate": 0.01,
                "warmup_steps": 1,
                "checkpoint_every": 2,
                "keep": 2,
                "log_every": 1,
                "compiled": False,
            },
        },
    )
