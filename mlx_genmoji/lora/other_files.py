"""Names what a file is that was given as an adapter and is none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Kind(NamedTuple):
    pattern: str
    """Of a key that only such files have."""
    description: str
    """With {file} where the command needs its path."""


_CONVERT = "convert it with: genmoji convert {file} -o FOLDER, and draw with --model FOLDER"
_SUPPORTED = "only adapters of Stable Diffusion 1.x, 2.x and XL are supported"
_WRAPPERS = r"(base_model\.model\.|model\.diffusion_model\.|diffusion_model\.)?"

# The first kind counts that any key matches.
KINDS = (
    Kind(r"^control_model\.|controlnet_|^lora_controlnet$|input_hint_block", "is a ControlNet, which is not supported"),
    Kind(r"^(image_proj|ip_adapter)\.", "is an IP-Adapter, which is not supported"),
    Kind(r"motion_modules?\.", "is a motion module of AnimateDiff, which is not supported"),
    Kind(r"^(adapter\.)?body\.\d+\.(in_conv|resnets|block1)", "is a T2I-Adapter, which is not supported"),
    Kind(r"(double|single)_(transformer_)?blocks", f"is for FLUX, another kind of model: {_SUPPORTED}"),
    Kind(r"joint_(transformer_)?blocks", f"is for Stable Diffusion 3, another kind of model: {_SUPPORTED}"),
    Kind(
        rf"^{_WRAPPERS}(transformer|transformer_blocks|context_refiner|noise_refiner)\.|^lora_transformer_",
        f"is for another kind of model, a transformer: {_SUPPORTED}",
    ),
    Kind(r"^model\.diffusion_model\..*\.(weight|bias)$", f"is a whole checkpoint, no adapter; {_CONVERT}"),
    Kind(
        r"^(first_stage_model\.|encoder\.(conv_in|down|mid)|decoder\.(conv_in|up|mid)|post_quant_conv)",
        "is an autoencoder (VAE), no adapter",
    ),
    Kind(
        r"^(down_blocks|up_blocks|input_blocks|output_blocks)\..*(resnets|attentions|in_layers|proj_in).*\.(weight|bias)$",
        "is a UNet alone, no adapter: it needs the folder of a model around it",
    ),
    Kind(r"^(text_model\.|cond_stage_model\.|conditioner\.)", "is a text encoder, no adapter"),
    Kind(r"^(base_model\.model\.)?(model\.)?layers\.\d+\.(self_attn|mlp)\.", "is for a language model"),
    Kind(r"RRDB|\.rdb\d|^(params(_ema)?\.|body\.0\.|model\.0\.weight$)", "is an upscaler, which is not supported"),
)


def what_it_is(keys: Iterable[str], file: Path) -> str:
    """A file that is no adapter, by its keys, as the rest of a sentence: "is a ControlNet, which is not supported"."""
    keys = list(keys)
    for kind in KINDS:
        if any(re.search(kind.pattern, key) for key in keys):
            return kind.description.format(file=file)
    return "holds tensors that no Stable Diffusion adapter has"
