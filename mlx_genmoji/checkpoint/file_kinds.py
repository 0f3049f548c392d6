"""What a file of weights is, by the names of its tensors: for the sentence that refuses what is no checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class FileKind:
    """A kind of file: a pattern that one of its keys matches, its name, and what it is used for or with."""

    pattern: str
    name: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.advice}"


_ADAPTER = "it is not a model but changes one: use it with a model, as --adapter"
_VAE = "use it with a model, as --vae"
_OTHER_MODEL = "it is another kind of model, which is not supported"
_NO_MODEL = "it is not a model that draws by itself"

KINDS = (
    FileKind(r"lora_(te|unet|down|up|A|B)|[._]lora\.|lora_linear_layer", "an adapter (LoRA)", _ADAPTER),
    FileKind(r"\.(hada_w|lokr_w|oft_)|\.diff(_b)?$|^lycoris_", "an adapter (LyCORIS)", _ADAPTER),
    FileKind(r"^(control_model|controlnet_|control_)|zero_convs\.|controlnet_(down|mid)", "a ControlNet", _NO_MODEL),
    FileKind(r"^(adapter\.body|body\.\d+\.block)", "a T2I-Adapter", _NO_MODEL),
    FileKind(r"^(image_proj|ip_adapter)[._]", "an IP-Adapter", _NO_MODEL),
    FileKind(r"motion_modules\.", "a motion module of AnimateDiff", _NO_MODEL),
    FileKind(
        r"^(emb_params|string_to_param|string_to_token|clip_[lg]|text_encoders_\d|<.*>)(\.|$)",
        "a textual inversion (learned words)",
        "it is not a model but adds words to one: use it with a model, as --adapter",
    ),
    FileKind(
        r"(^|\.)(RRDB_trunk|body\.\d+\.rdb\d|conv_first|model\.1\.sub)\b|^upsampl|relative_position_bias_table",
        "an upscaler",
        "it enlarges pictures and draws none",
    ),
    FileKind(r"(^|\.)(double_blocks|single_transformer_blocks|single_blocks)\.", "a Flux model", _OTHER_MODEL),
    FileKind(r"(^|\.)(joint_blocks\.|context_embedder\.)", "a Stable Diffusion 3 model", _OTHER_MODEL),
    FileKind(r"(^|\.)(double_layers|single_layers)\.\d", "an AuraFlow model", _OTHER_MODEL),
    FileKind(
        r"(^|\.)(clip_txt_mapper|clip_txt_pooled_mapper|down_repeat_mappers)\.", "a Stable Cascade model", _OTHER_MODEL
    ),
    FileKind(r"(^|\.)(adaln_single|caption_projection)\.", "a PixArt or Sana model", _OTHER_MODEL),
    FileKind(r"(^|\.)(cap_embedder|noise_refiner|context_refiner)\.", "a Lumina or Z-Image model", _OTHER_MODEL),
    FileKind(r"(^|\.)(transformer_blocks\.\d+\.(img_mod|txt_mod)|img_in\.)", "a Qwen-Image model", _OTHER_MODEL),
    FileKind(r"(^|\.)blocks\.\d+\.(cross_attn|self_attn)\.", "a video model (Wan)", _OTHER_MODEL),
    FileKind(r"time_stack|temporal_transformer|time_mixer", "a video model", _OTHER_MODEL),
    FileKind(r"(^|\.)pool_t5|mlp_t5\.", "a Hunyuan-DiT model", _OTHER_MODEL),
    FileKind(
        r"^conditioner\.embedders\.0\.model\.",
        "the refiner of Stable Diffusion XL",
        "it refines pictures of another model",
    ),
    FileKind(r"^(encoder\.block|shared\.weight|encoder\.embed_tokens)", "a T5 text encoder", _NO_MODEL),
    FileKind(r"^(vision_model|visual)\.", "a vision model (CLIP)", _NO_MODEL),
)
"""The first that matches counts."""

PARTS = (
    FileKind(r"^((first_stage_model|vae)\.)?(encoder|decoder)\.(?!layers)", "an autoencoder (VAE)", _VAE),
    FileKind(
        r"^(taesd_)?(encoder|decoder)?\.?layers?\.\d|^\d+\.(conv\.\d+\.)?weight$",
        "a tiny autoencoder (TAESD)",
        _VAE,
    ),
    FileKind(
        r"^(model\.diffusion_model\.)?(input_blocks|down_blocks)\.",
        "a UNet alone",
        "a whole checkpoint has text encoders and an autoencoder too",
    ),
    FileKind(r"^(text_model|transformer\.resblocks|cond_stage_model|conditioner)\.", "a text encoder alone", _NO_MODEL),
)
"""Parts of a checkpoint, for a file that has one of them and is none of `KINDS`."""


def kind_of(keys: Iterable[str]) -> FileKind | None:
    """What a file with tensors of these names is, if it is known and no whole checkpoint."""
    keys = list(keys)
    for kind in KINDS:
        if any(re.search(kind.pattern, key) for key in keys):
            return kind
    parts = [kind for kind in PARTS if any(re.match(kind.pattern, key) for key in keys)]
    return parts[0] if len(parts) == 1 else None
