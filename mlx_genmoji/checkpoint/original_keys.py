"""Renames the tensors of a component from the original layout to diffusers' and transformers' names.

`unet`, `autoencoder`, `clip` and `open_clip` take the tensors of one component, by their keys without the component's
prefix. They return a config.json made from the tensors' shapes, and the renamed tensors. They raise UserError with the
name of a tensor that is missing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import mlx.core as mx

from ..errors import UserError

Tensors = dict[str, mx.array]
Converted = tuple[dict[str, Any], Tensors]

HEAD_CHANNELS = 64

UNET_MODULES = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
UNET_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

Renames = tuple[tuple[str, str], ...]
"""(pattern, replacement): all are applied, in their order."""

AUTOENCODER_KEYS: Renames = (
    (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
    (r"^decoder\.up\.(\d+)\.", r"decoder.up_blocks.\1."),
    (r"(_blocks\.\d+)\.block\.", r"\1.resnets."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"attentions\.0\.norm\.", "attentions.0.group_norm."),
    (r"attentions\.0\.([qkv])\.", r"attentions.0.to_\1."),
    (r"attentions\.0\.proj_out\.", "attentions.0.to_out.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)

OPEN_CLIP_KEYS: Renames = (
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
)
# In some files: tensors for training, or that other tools left, or that are computed anyway.
UNUSED = re.compile(
    r"^(text_model\.)?(logit_scale|attn_mask)$|position_ids$"  # of a text encoder
    r"|^(loss|model_ema)\."  # of an autoencoder
)


def unet(tensors: Tensors, heads: int | None) -> Converted:
    """UNet2DConditionModel. heads: of every attention; None: channels / 64."""
    down, up = _unet_depths(tensors)
    modules = unet_modules([len(depths) for depths in down])
    renamed = {_unet_key(key, modules): tensor for key, tensor in tensors.items()}
    channels = [_size(renamed, f"down_blocks.{i}.resnets.0.conv1.weight", 0) for i in range(len(down))]
    attention = next((key for key in renamed if key.endswith("attn2.to_k.weight")), "attn2.to_k.weight")
    proj_in = next((key for key in renamed if key.endswith("proj_in.weight")), "proj_in.weight")
    has_middle = any(key.startswith("mid_block.") for key in renamed)
    middle_depth = _depth(tensors, "middle_block.1")
    middle = "UNetMidBlock2DCrossAttn" if middle_depth else "UNetMidBlock2D"
    down_depths, up_depths = _transformer_depths(down, up, middle_depth)
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": _size(renamed, "conv_in.weight", 1),
        "out_channels": _size(renamed, "conv_out.weight", 0),
        "block_out_channels": channels,
        "layers_per_block": _number_or_list([len(depths) for depths in down], if_zero=0),
        "down_block_types": ["CrossAttnDownBlock2D" if any(depths) else "DownBlock2D" for depths in down],
        "up_block_types": ["CrossAttnUpBlock2D" if any(depths) else "UpBlock2D" for depths in up],
        "mid_block_type": middle if has_middle else None,
        "transformer_layers_per_block": down_depths if len(set(map(repr, down_depths))) > 1 else down_depths[0],
        "cross_attention_dim": _size(renamed, attention, 1),
        "attention_head_dim": heads or [max(size // HEAD_CHANNELS, 1) for size in channels],
        "use_linear_projection": renamed[proj_in].ndim == 2 if proj_in in renamed else False,
    }
    if up_depths != down_depths[::-1]:
        config["reverse_transformer_layers_per_block"] = up_depths
    if "add_embedding.linear_1.weight" in renamed:
        config["projection_class_embeddings_input_dim"] = _size(renamed, "add_embedding.linear_1.weight", 1)
    return config, renamed


def autoencoder(tensors: Tensors) -> Converted:
    """AutoencoderKL. Tensors that have diffusers' names already keep them."""
    blocks = _count(lambda i: f"encoder.down.{i}.block.0.conv1.weight" in tensors)
    renamed: Tensors = {}
    for key, tensor in tensors.items():
        if UNUSED.search(key):
            continue
        # The original layout counts the blocks of the decoder from its end.
        key = re.sub(r"^(decoder\.up\.)(\d+)", lambda match: f"{match[1]}{blocks - 1 - int(match[2])}", key)
        renamed[_renamed(key, AUTOENCODER_KEYS)] = tensor
    blocks = _count(lambda i: f"encoder.down_blocks.{i}.resnets.0.conv1.weight" in renamed)
    layers = _count(lambda i: f"encoder.down_blocks.0.resnets.{i}.conv1.weight" in renamed)
    first = [f"encoder.down_blocks.{i}.resnets.0.conv1.weight" for i in range(blocks)]
    config = {
        "_class_name": "AutoencoderKL",
        "in_channels": _size(renamed, "encoder.conv_in.weight", 1),
        "out_channels": _size(renamed, "decoder.conv_out.weight", 0),
        "latent_channels": _size(renamed, "decoder.conv_in.weight", 1),
        "block_out_channels": [_size(renamed, key, 0) for key in first],
        "layers_per_block": layers,
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "use_quant_conv": "quant_conv.weight" in tensors,
        "use_post_quant_conv": "post_quant_conv.weight" in tensors,
    }
    return config, renamed


def clip(tensors: Tensors) -> Converted:
    """CLIPTextModel: OpenAI's CLIP with transformers' names, which lack the prefix "text_model." in some files."""
    renamed = {
        key if key.startswith("text_model.") else f"text_model.{key}": tensor
        for key, tensor in tensors.items()
        if not UNUSED.search(key) and key != "text_projection.weight"
    }
    return _clip_config(renamed, "quick_gelu"), renamed


def open_clip(tensors: Tensors, max_layers: int | None, projects: bool) -> Converted:
    """CLIPTextModel from OpenCLIP; CLIPTextModelWithProjection if it `projects`. Drops layers after max_layers."""
    renamed: Tensors = {}
    for key, tensor in tensors.items():
        layer = re.match(r"transformer\.resblocks\.(\d+)\.", key)
        if UNUSED.search(key) or (layer and max_layers is not None and int(layer[1]) >= max_layers):
            continue
        if key == "text_projection":
            if projects:
                renamed["text_projection.weight"] = tensor.T
            continue
        name = _renamed(key, OPEN_CLIP_KEYS)
        joined = re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", name)
        if joined is None:
            renamed[name] = tensor
        elif tensor.ndim == 0 or tensor.shape[0] % 3:
            raise UserError(f"The checkpoint's {key} has the shape {tensor.shape}, which cannot be split into three.")
        else:
            for which, part in zip("qkv", mx.split(tensor, 3), strict=True):
                renamed[f"{joined[1]}.self_attn.{which}_proj.{joined[2]}"] = part
    config = _clip_config(renamed, "gelu")
    if projects:
        config["architectures"] = ["CLIPTextModelWithProjection"]
        config["projection_dim"] = _size(renamed, "text_projection.weight", 0)
    return config, renamed


def _clip_config(tensors: Tensors, activation: str) -> dict[str, Any]:
    embeddings = "text_model.embeddings"
    hidden_size = _size(tensors, f"{embeddings}.token_embedding.weight", 1)
    first = "text_model.encoder.layers.0"
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": _size(tensors, f"{embeddings}.token_embedding.weight", 0),
        "hidden_size": hidden_size,
        "intermediate_size": _size(tensors, f"{first}.mlp.fc1.weight", 0),
        "num_hidden_layers": _count(lambda i: f"text_model.encoder.layers.{i}.mlp.fc1.weight" in tensors),
        "num_attention_heads": max(hidden_size // HEAD_CHANNELS, 1),
        "max_position_embeddings": _size(tensors, f"{embeddings}.position_embedding.weight", 0),
        "hidden_act": activation,
        # As published with these models, whose end of a text is the largest id in it.
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def unet_modules(layers: Sequence[int]) -> dict[str, str]:
    """Original module name -> diffusers' module name, for a whole UNet.

    layers: the number of resnets of each down block. A block ends where the feature map is halved or doubled.
    """
    modules = dict(UNET_MODULES)
    numbers = count(1)
    for block, resnets in enumerate(layers):
        for layer, i in zip(range(resnets), numbers, strict=False):
            modules[f"input_blocks.{i}.0"] = f"down_blocks.{block}.resnets.{layer}"
            modules[f"input_blocks.{i}.1"] = f"down_blocks.{block}.attentions.{layer}"
        modules[f"input_blocks.{next(numbers)}.0.op"] = f"down_blocks.{block}.downsamplers.0.conv"
    numbers = count()
    for block, resnets in enumerate(reversed(layers)):
        for layer, i in zip(range(resnets + 1), numbers, strict=False):
            modules[f"output_blocks.{i}.0"] = f"up_blocks.{block}.resnets.{layer}"
            modules[f"output_blocks.{i}.1"] = f"up_blocks.{block}.attentions.{layer}"
            for position in (1, 2):
                modules[f"output_blocks.{i}.{position}.conv"] = f"up_blocks.{block}.upsamplers.0.conv"
    return modules


def _unet_depths(tensors: Tensors) -> tuple[list[list[int]], list[list[int]]]:
    """How many transformer blocks follow each resnet, for each down block and each up block."""
    down: list[list[int]] = [[]]
    for i in count(1):
        if f"input_blocks.{i}.0.op.weight" in tensors:
            down.append([])
        elif f"input_blocks.{i}.0.in_layers.0.weight" in tensors:
            down[-1].append(_depth(tensors, f"input_blocks.{i}.1"))
        else:
            break
    numbers = count()
    up = [[_depth(tensors, f"output_blocks.{next(numbers)}.1") for _ in (*block, None)] for block in reversed(down)]
    return down, up


def _transformer_depths(
    down: list[list[int]], up: list[list[int]], middle: int
) -> tuple[list[int | list[int]], list[int | list[int]]]:
    """`_unet_depths` as config.json has them: a number or a list for each down block, and for each up block.

    middle: the depth of the middle block. A config gives it that of the last down block, even if that has none.
    """
    if_zero = [*(1 for _ in down[1:]), max(middle, 1)]
    return list(map(_number_or_list, down, if_zero)), list(map(_number_or_list, up, if_zero[::-1]))


def _unet_key(key: str, modules: Mapping[str, str]) -> str:
    """The name of a tensor in diffusers; an unknown key as it is. modules: see `unet_modules`."""
    parts = key.split(".")
    for length in (4, 3, 2):
        module = ".".join(parts[:length])
        if module in modules:
            rest = ".".join(parts[length:])
            for original, name in UNET_RESNET.items():
                rest = re.sub(rf"^{re.escape(original)}\.", f"{name}.", rest)
            return f"{modules[module]}.{rest}"
    return key


def _depth(tensors: Tensors, module: str) -> int:
    """The number of transformer blocks in a module."""
    return _count(lambda i: f"{module}.transformer_blocks.{i}.norm1.weight" in tensors)


def _number_or_list(numbers: list[int], if_zero: int) -> int | list[int]:
    """The numbers of a block's layers as a config has them: one number if they are equal; `if_zero` if all are 0."""
    if not any(numbers):
        return if_zero
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _renamed(key: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def _count(holds: Callable[[int], bool]) -> int:
    """The number of integers from 0 on that the condition holds for, before the first that it does not."""
    return next(i for i in count() if not holds(i))


def _size(tensors: Tensors, key: str, axis: int) -> int:
    if key not in tensors or tensors[key].ndim <= axis:
        raise UserError(f"The checkpoint lacks {key}, or its shape is not that of a Stable Diffusion model.")
    return tensors[key].shape[axis]
