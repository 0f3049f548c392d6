"""A dataset of eight two-coloured pictures and two recipes small enough to train in seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

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
