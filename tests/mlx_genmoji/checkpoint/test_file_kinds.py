"""Files that are no checkpoint are named for what they are, wherever a model is expected."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlx_genmoji.checkpoint.file_kinds import kind_of
from mlx_genmoji.checkpoint.single_file import convert_single_file
from mlx_genmoji.errors import UserError
from mlx_genmoji.hub import locate

# Keys as the files that people share have them.
KEYS = {
    "LoRA": [
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha",
    ],
    "LyCORIS": ["lycoris_unet_mid_block.hada_w1_a", "oft_unet_mid_block.oft_blocks", "unet_mid_block.lokr_w1"],
    "ControlNet": [
        "control_model.input_blocks.0.0.weight",
        "controlnet_cond_embedding.conv_in.weight",
        "zero_convs.0.0.weight",
    ],
    "T2I-Adapter": ["adapter.body.0.resnets.0.block1.weight"],
    "IP-Adapter": ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
    "AnimateDiff": ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"],
    "textual inversion": ["emb_params", "string_to_param.*", "clip_l", "text_encoders_0", "<s0>"],
    "upscaler": ["body.0.rdb1.conv1.weight", "RRDB_trunk.0.RDB1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight"],
    "Flux": ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "single_transformer_blocks.0.norm.weight"],
    "Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
    "AuraFlow": ["double_layers.0.attn.w1k.weight"],
    "Stable Cascade": ["clip_txt_mapper.weight"],
    "PixArt": ["adaln_single.linear.weight"],
    "Z-Image": ["cap_embedder.0.weight"],
    "Qwen": ["transformer_blocks.0.img_mod.1.weight"],
    "Wan": ["model.diffusion_model.blocks.0.cross_attn.k.weight"],
    "video": ["model.diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_k.weight"],
    "refiner": ["conditioner.embedders.0.model.positional_embedding"],
    "T5": ["encoder.block.0.layer.0.SelfAttention.k.weight"],
    "autoencoder": ["decoder.conv_in.weight", "first_stage_model.decoder.conv_in.weight", "encoder.down.0.block.0.x"],
    "TAESD": ["1.weight", "3.conv.0.weight", "encoder.layers.0.weight"],
    "UNet alone": [
        "input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
        "down_blocks.0.resnets.0",
    ],
    "text encoder alone": ["text_model.embeddings.position_embedding.weight", "cond_stage_model.model.ln_final.bias"],
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in KEYS.items() for key in keys])
def test_a_file_of_another_kind_is_named(name: str, key: str, tmp_path: Path) -> None:
    kind = kind_of([key])
    assert kind is not None and name in kind.name
    file = tmp_path / "file.safetensors"
    save_file({key: np.ones(1, np.float32)}, file)
    for use in (lambda: convert_single_file(file, tmp_path / "out"), lambda: locate(str(file))):
        with pytest.raises(UserError, match=kind.name.replace("(", r"\(").replace(")", r"\)")) as raised:
            use()
        assert len(str(raised.value).splitlines()) == 1
        assert "genmoji convert" not in str(raised.value)


def test_a_whole_checkpoint_and_unknown_tensors_have_no_kind() -> None:
    assert kind_of(["something"]) is None
    whole = ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.weight"]
    assert kind_of([*whole, "cond_stage_model.transformer.text_model.final_layer_norm.bias"]) is None
    assert kind_of([*whole, "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias"]) is None
