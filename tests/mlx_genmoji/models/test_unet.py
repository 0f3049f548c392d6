"""UNet2DConditionModel: the prediction of diffusers' module, from the folder that diffusers saved."""

from collections.abc import Callable
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import mlx.core as mx
import numpy as np
import pytest
import torch

from mlx_genmoji.checkpoint.components import load_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.blocks import Attention
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.unet_blocks import BasicTransformerBlock

pytestmark = pytest.mark.usefixtures("cpu")

TOLERANCE = 1e-5
Config = dict[str, Any]

CONFIGS: dict[str, Config] = {
    # Stable Diffusion 1.x in small.
    "stable-diffusion-1": {
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "block_out_channels": [16, 24, 32, 32],
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 20,
        "norm_num_groups": 8,
    },
    # Everything that may differ from block to block does.
    "lists": {
        "in_channels": 9,
        "out_channels": 3,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [12, 24, 36],
        "layers_per_block": [1, 3, 2],
        "transformer_layers_per_block": [2, 1, 3],
        "only_cross_attention": [True, False, True],
        "attention_head_dim": [2, 4, 6],
        "cross_attention_dim": [20, 20, 20],
        "norm_num_groups": 6,
        "norm_eps": 1e-4,
        "use_linear_projection": True,
        "resnet_time_scale_shift": "scale_shift",
        "downsample_padding": 0,
        "center_input_sample": True,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "time_embedding_dim": 40,
        "conv_in_kernel": 1,
        "conv_out_kernel": 5,
    },
    # Attention only where pictures are small, and the text added to the time.
    "text-embedding": {
        "in_channels": 8,
        "out_channels": 8,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [16, 40],
        "layers_per_block": 1,
        "transformer_layers_per_block": 2,
        "only_cross_attention": True,
        "attention_head_dim": 5,
        "cross_attention_dim": 28,
        "norm_num_groups": 4,
        "use_linear_projection": True,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 7,
    },
    "stable-diffusion-2-inpainting": {
        "in_channels": 9,
        "block_out_channels": [16, 24, 32, 32],
        "attention_head_dim": [2, 3, 4, 8],
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "dual_cross_attention": False,
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    "stable-diffusion-xl": {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [16, 24, 32],
        "transformer_layers_per_block": [1, 2, 3],
        "attention_head_dim": [2, 3, 4],
        "cross_attention_dim": 28,
        "norm_num_groups": 8,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 10,
        "projection_class_embeddings_input_dim": 81,
    },
    # An LCM by distillation: its guidance is a condition.
    "latent-consistency": {
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [16, 24],
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 20,
        "norm_num_groups": 8,
        "time_cond_proj_dim": 11,
    },
    # SSD-1B and the like: XL with transformers left out one by one.
    "distilled-xl": {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [16, 24, 32],
        "transformer_layers_per_block": [0, [2, 1], [2, 0]],
        "reverse_transformer_layers_per_block": [[1, 0, 3], [2, 1, 1], 0],
        "attention_head_dim": [2, 3, 4],
        "cross_attention_dim": 12,
        "norm_num_groups": 8,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 5,
        "projection_class_embeddings_input_dim": 43,
        "time_cond_proj_dim": 6,
    },
    # BK-SDM-Tiny and the like: fewer blocks, fewer layers, nothing in the middle.
    "distilled-tiny": {
        "down_block_types": ["CrossAttnDownBlock2D"] * 3,
        "up_block_types": ["CrossAttnUpBlock2D"] * 3,
        "mid_block_type": None,
        "block_out_channels": [16, 24, 32],
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "cross_attention_dim": 20,
        "norm_num_groups": 8,
    },
    "plain-middle": {
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "block_out_channels": [16, 20],
        "layers_per_block": [2, 1],
        "attention_head_dim": [4, 3],
        "cross_attention_dim": 20,
        "norm_num_groups": 4,
        "resnet_time_scale_shift": "scale_shift",
    },
    # Channels that the CPU's thin convolutions leave to MLX.
    "wide": {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [64, 192],
        "layers_per_block": 1,
        "attention_head_dim": 3,
        "cross_attention_dim": 20,
    },
}
# (height, width): even all the way down; skips of odd sizes; odd from the start.
SIZES = [(16, 8), (12, 20), (13, 9)]


class Case:
    """A random oracle, its folder, inputs, and what the oracle makes of them."""

    def __init__(
        self, config: Config, save: Callable[..., Path], size: tuple[int, int] = (12, 20), quiet: bool = False
    ):
        self.oracle = diffusers.UNet2DConditionModel(**config)
        self.folder = save(self.oracle, quiet=quiet)
        texts = config["cross_attention_dim"]
        random = np.random.default_rng(1)
        self.sample = random.normal(size=(4, *size, self.oracle.config.in_channels)).astype(np.float32)
        self.timesteps = np.array([0, 999, 521, 37.5], np.float32)
        self.text = random.normal(size=(4, 7, texts if isinstance(texts, int) else texts[0])).astype(np.float32)
        self.added: dict[str, np.ndarray] = {}
        if config.get("addition_embed_type") == "text_time":
            waves = 6 * config["addition_time_embed_dim"]
            pooled = config["projection_class_embeddings_input_dim"] - waves
            self.added["text_embeds"] = random.normal(size=(4, pooled)).astype(np.float32)
            self.added["time_ids"] = random.integers(0, 1024, (4, 6)).astype(np.float32)
        if "time_cond_proj_dim" in config:
            self.added["timestep_cond"] = random.normal(size=(4, config["time_cond_proj_dim"])).astype(np.float32)
        self.expected = self.theirs(self.oracle)

    def theirs(self, oracle: diffusers.UNet2DConditionModel) -> np.ndarray:
        sample = torch.from_numpy(self.sample).permute(0, 3, 1, 2)
        added = {name: torch.from_numpy(array) for name, array in self.added.items()}
        with torch.no_grad():
            prediction = oracle(
                sample,
                torch.from_numpy(self.timesteps),
                torch.from_numpy(self.text),
                timestep_cond=added.pop("timestep_cond", None),
                added_cond_kwargs=added,
            ).sample
        return prediction.permute(0, 2, 3, 1).numpy()

    def ours(self, model: UNet2DConditionModel, later: int = 0) -> mx.array:
        added = {name: mx.array(array) for name, array in self.added.items()}
        return model(mx.array(self.sample), mx.array(self.timesteps + later), mx.array(self.text), added)


@pytest.fixture(scope="module")
def make_case(save):
    return cache(lambda name, *size, **others: Case(CONFIGS[name], save, *size, **others))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CONFIGS)
def test_predicts_what_diffusers_predicts(name, size, make_case, error, form):
    case = make_case(name, size)
    assert error(case.ours(load_model(case.folder)), case.expected) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "condition", "message"),
    [
        ("stable-diffusion-xl", "text_embeds", "addition_embed_type.*'text_embeds'"),
        ("stable-diffusion-xl", "time_ids", "addition_embed_type.*'time_ids'"),
        ("latent-consistency", "timestep_cond", "time_cond_proj_dim.*'timestep_cond'"),
    ],
)
def test_a_condition_that_is_missing_or_of_another_size_is_one_sentence(name, condition, message, make_case):
    case = make_case(name)
    model = load_model(case.folder)
    sample, timesteps, text = mx.array(case.sample), mx.array(case.timesteps), mx.array(case.text)
    added = {name: mx.array(array) for name, array in case.added.items()}
    with pytest.raises(UserError, match=message):
        model(sample, timesteps, text, {name: array for name, array in added.items() if name != condition})
    with pytest.raises(UserError, match=r"but .* has the size"):
        model(sample, timesteps, text, added | {condition: added[condition][:, 1:]})


@pytest.mark.parametrize(
    ("name", "condition"),
    [("stable-diffusion-xl", "time_ids"), ("distilled-xl", "text_embeds"), ("latent-consistency", "timestep_cond")],
)
def test_a_condition_in_another_order_is_noticed(name, condition, make_case, error):
    case = copy(make_case(name))
    case.added = case.added | {condition: np.roll(case.added[condition], 1, axis=1)}
    assert error(case.ours(load_model(case.folder)), case.expected) > TOLERANCE


def test_a_condition_that_is_not_asked_for_is_left_alone(make_case):
    case = make_case("stable-diffusion-1")
    model = load_model(case.folder)
    plain = case.ours(model)
    case = copy(case)
    case.added = {"timestep_cond": np.ones((4, 5), np.float32), "time_ids": np.ones((4, 6), np.float32)}
    assert mx.array_equal(case.ours(model), plain)


def test_attention_in_float32_does_not_overflow_half_precision():
    x = mx.full((1, 5, 8), 100.0, mx.float16)
    ones = mx.full((8, 8), 8.0, mx.float16)
    for upcast in (False, True):
        attention = Attention(8, None, 2, 4, bias=False, upcast=upcast)
        attention.set_dtype(mx.float16)
        attention.to_q.weight = attention.to_k.weight = ones
        attention.to_v.weight = attention.to_out[0].weight = mx.eye(8, dtype=mx.float16)
        attention.to_out[0].bias = mx.zeros(8, mx.float16)
        result = attention(x)
        assert result.dtype == mx.float16
        assert mx.isfinite(result).all().item() == upcast


def test_float16_weights_give_what_diffusers_makes_of_them(make_case, error, tmp_path):
    case = make_case("stable-diffusion-1")
    diffusers.UNet2DConditionModel.from_pretrained(case.folder).half().save_pretrained(tmp_path / "half")
    expected = case.theirs(diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "half"))
    assert error(case.ours(load_model(tmp_path / "half")), expected) <= TOLERANCE


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_diffusers_reads_what_we_save(name, dtype, make_case, error, tmp_path):
    case = make_case(name)
    model = load_model(case.folder)
    save_model(model, tmp_path / "ours", dtype)
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "ours")
    again = load_model(tmp_path / "ours")
    assert error(case.ours(again), case.theirs(theirs)) <= TOLERANCE
    if dtype == mx.float32:
        assert np.array_equal(case.theirs(theirs), case.expected)
        assert again.raw_config == model.raw_config


def test_each_block_can_be_differentiated_alone(make_case):
    """Blocks are pure: that is what checkpoints their gradients."""
    case = make_case("stable-diffusion-1")
    model = load_model(case.folder)
    block = model.down_blocks[0]
    x, time, text = mx.random.normal((2, 12, 20, 16)), mx.random.normal((2, 64)), mx.array(case.text[:2])

    def loss(x: mx.array) -> mx.array:
        h, skips = block(x, time, text)
        return h.square().sum() + sum(skip.sum() for skip in skips)

    gradient = mx.grad(loss)(x)
    assert mx.allclose(mx.grad(mx.checkpoint(loss))(x), gradient, rtol=1e-4, atol=1e-4)


NORMS = {
    "first in a resnet": ("ResnetBlock2D", "norm1", 1e-6),
    "second in a resnet": ("ResnetBlock2D", "norm2", 1e-6),
    "in a transformer": ("Transformer2DModel", "norm", 1e-5),
    "last": ("UNet2DConditionModel", "conv_norm_out", 1e-6),
    "before self-attention": ("BasicTransformerBlock", "norm1", 1e-6),
    "before cross-attention": ("BasicTransformerBlock", "norm2", 1e-6),
    "before the feed-forward": ("BasicTransformerBlock", "norm3", 1e-6),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_quiet_activations_are_predicted_as_well(name, make_case, error, form):
    case = make_case(name, quiet=True)
    assert error(case.ours(load_model(case.folder)), case.expected) <= TOLERANCE


@pytest.mark.parametrize("norm", NORMS)
def test_a_wrong_eps_in_one_norm_is_noticed(norm, make_case, error, form):
    owner, name, eps = NORMS[norm]
    case = make_case("stable-diffusion-1", quiet=True)
    model = load_model(case.folder)
    module = next(module for _, module in model.named_modules() if type(module).__name__ == owner)
    assert module[name].eps != eps
    module[name].eps = eps
    assert error(case.ours(model), case.expected) > TOLERANCE


@pytest.mark.parametrize("later", [-1, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_timestep_off_by_one_is_noticed(name, later, make_case, error):
    case = make_case(name)
    assert error(case.ours(load_model(case.folder), later), case.expected) > TOLERANCE


@pytest.mark.parametrize("attention", ["attn1", "attn2"])
@pytest.mark.parametrize("name", CONFIGS)
def test_keys_and_values_swapped_in_one_attention_are_noticed(name, attention, make_case, error):
    case = make_case(name)
    model = load_model(case.folder)
    blocks = [module for _, module in model.named_modules() if isinstance(module, BasicTransformerBlock)]
    swapped = blocks[0][attention]
    swapped.to_k, swapped.to_v = swapped.to_v, swapped.to_k
    assert error(case.ours(model), case.expected) > TOLERANCE
