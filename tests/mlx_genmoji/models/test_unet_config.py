"""The config.json of a UNet: what it asks for and is not supported, or makes no sense, is one sentence."""

from typing import Any

import pytest

from mlx_genmoji.checkpoint.components import create_model
from mlx_genmoji.errors import UserError

STABLE_DIFFUSION_1: dict[str, Any] = {
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [16, 24, 32, 32],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 20,
    "norm_num_groups": 8,
}

BAD = {
    "class_embed_type": ("timestep", "class_embed_type.*timestep"),
    "num_class_embeds": (1000, "num_class_embeds.*1000"),
    "dual_cross_attention": (True, "dual_cross_attention.*True"),
    "addition_embed_type": ("text_image", "addition_embed_type.*text_image"),
    "encoder_hid_dim": (1024, "encoder_hid_dim.*1024"),
    "attention_type": ("gated", "attention_type.*gated"),
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn", "mid_block_type.*UNetMidBlock2DSimpleCrossAttn"),
    "freq_shift": (8, "freq_shift.*8"),
    "down_block_types": (["AttnDownBlock2D"] * 4, "down_block_types.*AttnDownBlock2D"),
    "act_fn": ("gelu", "act_fn.*gelu"),
    "time_cond_proj_dim": ("256", "time_cond_proj_dim.*256"),
    "num_attention_heads": (8, "num_attention_heads.*8"),
    "block_out_channels": ("abc", "block_out_channels.*abc"),
    "norm_num_groups": (None, "norm_num_groups.*None"),
    "cross_attention_dim": ("768", "cross_attention_dim.*768"),
    "layers_per_block": (1.5, "layers_per_block.*1.5"),
    "in_channels": (0, "in_channels.*0"),
    "norm_eps": ("small", "norm_eps.*small"),
    "use_linear_projection": ("yes", "use_linear_projection.*yes"),
    "transformer_layers_per_block": ([1, [1, 1], 1, 1], "need a 'reverse_transformer_layers_per_block'"),
    "reverse_transformer_layers_per_block": ([1, [1, 1], 1, 1], "reverse_transformer_layers_per_block.* not 3 long"),
    "only_cross_attention": ([True, False], "only_cross_attention.*each"),
    "attention_head_dim": (7, "attention_head_dim.*16"),
    "up_block_types": (["UpBlock2D"], "up_block_types.*each"),
    "downsample_padding": (2, "downsample_padding.*2"),
}
BAD_VARIANTS = [(field, *case) for field, case in BAD.items()] + [
    ("norm_num_groups", 5, "norm_num_groups.*16"),
    ("block_out_channels", [16, "24", 32, 32], "block_out_channels.*24"),
    ("block_out_channels", [16, 24, 32], "down_block_types.*each"),
    ("block_out_channels", [], "block_out_channels"),
    ("block_out_channels", [16, -24, 32, 32], "block_out_channels.*-24"),
    ("block_out_channels", [2**21, 24, 32, 32], "block_out_channels.*2097152"),
    ("layers_per_block", True, "layers_per_block.*True"),
    ("layers_per_block", 400, "layers_per_block.*400.*1604 layers"),
    ("transformer_layers_per_block", 1000, "transformer_layers_per_block.*8000 layers"),
    ("transformer_layers_per_block", -1, "transformer_layers_per_block.*-1"),
    ("addition_embed_type", "text_time", "addition_time_embed_dim.*None.*text_time"),
    ("norm_eps", float("nan"), "norm_eps.*nan"),
    ("norm_eps", 10**400, "norm_eps"),
    ("addition_time_embed_dim", 1, "freq_shift.*1 channels"),
    ("attention_head_dim", [8, 8], "attention_head_dim.*each"),
    ("some_new_field", "value", "some_new_field.*value"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_VARIANTS)
def test_a_config_that_cannot_be_built_is_one_sentence(field, value, message):
    with pytest.raises(UserError, match=message) as caught:
        create_model({"_class_name": "UNet2DConditionModel", **STABLE_DIFFUSION_1, field: value})
    assert "\n" not in str(caught.value)


def test_a_config_that_lacks_a_field_is_one_sentence():
    with pytest.raises(UserError, match="cross_attention_dim"):
        create_model({"_class_name": "UNet2DConditionModel"})


def test_heads_matter_only_where_there_is_attention():
    kinds = {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    }
    config = STABLE_DIFFUSION_1 | kinds | {"block_out_channels": [24, 40], "attention_head_dim": 5}
    create_model({"_class_name": "UNet2DConditionModel", **config})
    without = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None}
    create_model({"_class_name": "UNet2DConditionModel", **config, **without, "attention_head_dim": 7})
