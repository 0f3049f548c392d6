"""Pictures of many sizes against diffusers': models of the real depth of downscaling, small and random, both families.

Both get the same prompt, seed and settings, with diffusers' noise (`noise="torch"`). Tests draw smaller ones.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from row import Row

from mlx_genmoji import Genmoji

SIZES = ((64, 64), (512, 512), (768, 512), (512, 768), (1024, 1024), (1024, 576))
"""Width and height in pixels."""
PROMPT, SEED, STEPS, GUIDANCE = "a flying pig", 5, 2, 5.0
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def rows() -> Iterator[Row]:
    warnings.simplefilter("ignore")
    for family in ("SD", "XL"):
        with tempfile.TemporaryDirectory() as name:
            theirs = pipeline(family, Path(name))
            theirs.save_pretrained(name)
            ours = Genmoji.load(name)
            figures = {size: decibels(ours, theirs, size) for size in SIZES}
        worst = min(figures.values())
        note = ", ".join(f"{width} x {height}: {figure:.0f}" for (width, height), figure in figures.items())
        yield Row(
            f"{family}: pictures of 64 to 1,024 px, oblong too, to diffusers'",
            ">= 60 dB",
            f"{worst:.1f} dB",
            worst >= 60,
            note,
        )


def decibels(ours: Genmoji, theirs: Any, size: tuple[int, int]) -> float:
    """PSNR of our picture to diffusers'."""
    import torch

    width, height = size
    options = {"width": width, "height": height, "noise": "torch", "template": "{prompt}"}
    drawn = ours.generate(PROMPT, seed=SEED, steps=STEPS, guidance=GUIDANCE, **options)[0].image  # type: ignore[arg-type]
    generator = torch.Generator("cpu").manual_seed(SEED)
    options = {"width": width, "height": height, "generator": generator}
    expected = theirs(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, **options).images[0]
    error = np.mean((np.asarray(drawn, float) - np.asarray(expected, float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def pipeline(family: str, folder: Path) -> Any:
    """diffusers' pipeline with random weights, whose autoencoder divides by 8 as the real ones do."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from train.model.vocabulary import train_clip_vocabulary

    torch.manual_seed(0)
    train_clip_vocabulary([PROMPT], 600, folder / "vocabulary", 77)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "vocabulary")

    def encoder(kind: Any, width: int, **more: Any) -> Any:
        ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
        sizes = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        return kind(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=width, **sizes, **ids, **more))

    xl = family == "XL"
    fields: dict[str, Any] = {
        "sample_size": 64,
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 72 if xl else 32,
        "norm_num_groups": 8,
    }
    if xl:
        fields |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24 + 6 * 8,
            "use_linear_projection": True,
            "transformer_layers_per_block": (1, 2),
        }
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
    )
    parts = {"vae": vae, "unet": diffusers.UNet2DConditionModel(**fields), "tokenizer": tokenizer}
    if xl:
        parts |= {"text_encoder": encoder(CLIPTextModel, 32), "tokenizer_2": tokenizer}
        parts["text_encoder_2"] = encoder(CLIPTextModelWithProjection, 40, projection_dim=24)
        made = diffusers.StableDiffusionXLPipeline(scheduler=diffusers.EulerDiscreteScheduler(**NOISE), **parts)
    else:
        parts |= {"text_encoder": encoder(CLIPTextModel, 32, hidden_act="quick_gelu")}
        scheduler = diffusers.DDIMScheduler(**NOISE, clip_sample=False)
        without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        made = diffusers.StableDiffusionPipeline(scheduler=scheduler, **parts, **without)
    made.set_progress_bar_config(disable=True)
    return made
