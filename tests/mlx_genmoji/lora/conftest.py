"""Small Stable Diffusion models with random weights, and adapters of them by other hands."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from train.vocabulary import train_clip_vocabulary

CAPTIONS = ["a flying pig", "a red apple on a plate", "an astronaut, waving, at night", "a happy octopus", "two cats"]
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SIDE = 16


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_clip_vocabulary(CAPTIONS, 600, folder, 77)
    return CLIPTokenizer.from_pretrained(folder)


def _encoder(kind: type, tokenizer: CLIPTokenizer, width: int, **more: Any) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **more,
    )
    return kind(config)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, vocabulary: CLIPTokenizer) -> Callable[[str], Path]:
    """`base("sd")` or `base("xl")`: the folder of a model, as diffusers writes it."""
    made: dict[str, Path] = {}

    def base(family: str) -> Path:
        if family not in made:
            made[family] = _write(tmp_path_factory.mktemp(family), vocabulary, xl=family == "xl")
        return made[family]

    return base


def _write(folder: Path, vocabulary: CLIPTokenizer, xl: bool) -> Path:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": SIDE // 2,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 72 if xl else 32,
        "norm_num_groups": 8,
    }
    if xl:
        settings |= {
            # Blocks that attend, and one that does not, as in XL.
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24 + 6 * 8,
            "use_linear_projection": True,
            "transformer_layers_per_block": (1, 2),
        }
    parts = {
        "vae": AutoencoderKL(
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
            sample_size=SIDE,
        ),
        "text_encoder": _encoder(CLIPTextModel, vocabulary, 32, hidden_act="quick_gelu"),
        "unet": UNet2DConditionModel(**settings),
    }
    if xl:
        second = _encoder(CLIPTextModelWithProjection, vocabulary, 40, hidden_act="gelu", projection_dim=24)
        parts["text_encoder_2"] = second
    with torch.no_grad():
        for model in parts.values():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        for name, parameter in parts["unet"].named_parameters():
            if "attn2" in name:
                parameter.mul_(4)
    parts["tokenizer"] = vocabulary
    if xl:
        parts |= {"tokenizer_2": vocabulary, "scheduler": EulerDiscreteScheduler(**NOISE)}
        StableDiffusionXLPipeline(**parts).save_pretrained(folder)
    else:
        parts |= {"scheduler": DDIMScheduler(**NOISE, clip_sample=False), "safety_checker": None}
        parts |= {"feature_extractor": None, "requires_safety_checker": False}
        StableDiffusionPipeline(**parts).save_pretrained(folder)
    return folder


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
