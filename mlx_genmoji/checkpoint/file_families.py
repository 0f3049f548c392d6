"""The families of checkpoints in one file: the settings that the shapes of their tensors do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..tokenizer import END_OF_TEXT


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder of a family: the prefix of its tensors, and settings that their shapes do not tell."""

    prefix: str
    open_clip: bool
    """Keys and activation (exact GELU) of OpenCLIP; else those of OpenAI's CLIP in transformers."""
    pad_token: str
    projects: bool = False
    max_layers: int | None = None
    """Layers after these are in the file but not used."""


@dataclass(frozen=True)
class CheckpointFamily:
    """The settings of a family of models that the shapes of its tensors do not tell."""

    name: str
    pipeline: str
    text_encoders: tuple[TextEncoder, ...]
    heads: int | None
    """The number of heads of every attention of the UNet; None: channels / 64."""
    sample_sizes: dict[str, int]
    """What the UNet may predict -> the side of the latents. The first key is the default."""
    scaling_factor: float
    scheduler: str
    index: dict[str, Any]
    unet: dict[str, Any]


_NO_SAFETY_CHECKER = {
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}

# A file is of the first family whose text encoders it has.
FAMILIES = (
    CheckpointFamily(
        name="Stable Diffusion XL",
        pipeline="StableDiffusionXL{}Pipeline",
        text_encoders=(
            TextEncoder("conditioner.embedders.0.transformer.", open_clip=False, pad_token=END_OF_TEXT),
            TextEncoder("conditioner.embedders.1.model.", open_clip=True, pad_token="!", projects=True),
        ),
        heads=None,
        sample_sizes={"epsilon": 128, "v_prediction": 128},
        scaling_factor=0.13025,
        scheduler="EulerDiscreteScheduler",
        index={"force_zeros_for_empty_prompt": True},
        unet={"addition_embed_type": "text_time", "addition_time_embed_dim": 256},
    ),
    CheckpointFamily(
        name="Stable Diffusion 2.x",
        pipeline="StableDiffusion{}Pipeline",
        text_encoders=(TextEncoder("cond_stage_model.model.", open_clip=True, pad_token="!", max_layers=23),),
        heads=None,
        sample_sizes={"v_prediction": 96, "epsilon": 64},
        scaling_factor=0.18215,
        scheduler="DDIMScheduler",
        index=_NO_SAFETY_CHECKER,
        unet={"upcast_attention": True},
    ),
    CheckpointFamily(
        name="Stable Diffusion 1.x",
        pipeline="StableDiffusion{}Pipeline",
        text_encoders=(TextEncoder("cond_stage_model.transformer.", open_clip=False, pad_token=END_OF_TEXT),),
        heads=8,
        sample_sizes={"epsilon": 64, "v_prediction": 64},
        scaling_factor=0.18215,
        scheduler="DDIMScheduler",
        index=_NO_SAFETY_CHECKER,
        unet={},
    ),
)

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
