"""The keys of adapter files: how each format names the tensors of the layer at one path.

kohya       lora_unet_down_blocks_0_..._to_q.lora_down.weight, .lora_up.weight, .alpha, .dora_scale
diffusers   unet.down_blocks.0...to_q.lora_A.weight, .lora_B.weight, .lora_magnitude_vector
            unet.down_blocks.0...to_q.lora.down.weight, .lora.up.weight
            text_encoder.text_model...q_proj.lora_linear_layer.down.weight, .up.weight
            unet.down_blocks.0...attn1.processor.to_q_lora.down.weight, .up.weight, the oldest; without "unet." in some
PEFT        base_model.model.down_blocks.0...to_q.lora_A.weight, .lora_B.weight, .lora_magnitude_vector
"""

import re
from typing import NamedTuple

TENSORS = (
    (
        "down",
        r"\.lora_down\.weight|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight|\.lora_A(\.default)?\.weight",
    ),
    ("up", r"\.lora_up\.weight|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight|\.lora_B(\.default)?\.weight"),
    ("alpha", r"\.alpha"),
    ("dora_scale", r"\.dora_scale|\.lora_magnitude_vector(\.default)?(\.weight)?"),
)

# (pattern of a key's beginning, beginning of the full path). The first match counts.
PREFIXES = (
    # Only a model tells which of kohya's underscores are dots, so these keys stay as they are.
    (r"(?=lora_(unet|te|te1|te2)_)", ""),
    (r"(?=(unet|text_encoder|text_encoder_2)\.)", ""),
    (r"(?=(down_blocks|mid_block|up_blocks)\.)", "unet."),
)

# Module names in diffusers' oldest files -> today's.
MODULES = (
    (r"\.processor\.", "."),
    (r"(attn\d\.to_out)$", r"\1.0"),
    (r"(self_attn)\.to_([qkv])$", r"\1.\2_proj"),
    (r"(self_attn)\.to_out$", r"\1.out_proj"),
)

# Prefixes by component, as sd-scripts write them: the first for XL, the last for models with one text encoder.
KOHYA = {"unet": ("lora_unet_",), "text_encoder": ("lora_te1_", "lora_te_"), "text_encoder_2": ("lora_te2_",)}

# Kinds of adapters that are not supported, by a pattern of their keys.
UNSUPPORTED = (
    ("LoHa", r"\.hada_w"),
    ("LoKr", r"\.lokr_w"),
    ("GLoRA", r"\.[ab][12]\.weight$"),
    ("OFT", r"\.oft_(blocks|diag)|\.oft_R\."),
    ("LoRA in Tucker's form", r"\.lora_mid\."),
    ("(IA)3", r"\.on_input$|\.ia3_l"),
    ("differences of whole weights", r"\.diff(_b)?$"),
    ("biases", r"\.(lora_[AB]|lora_up|lora_down|lora\.up)(\.default)?\.bias$"),
    ("textual inversion", r"^(bundle_)?emb(\.|_params)"),
    ("adapters of embeddings", r"\.lora_embedding_[AB]"),
)


class ParsedKey(NamedTuple):
    path: str
    """The full path of a layer; in kohya's format "lora_unet_...", as it stands."""
    tensor: str
    """A name in TENSORS."""


def read_key(key: str) -> ParsedKey | None:
    """The layer and tensor that a key names; None for an unknown key."""
    for tensor, pattern in TENSORS:
        suffix = re.search(rf"({pattern})$", key)
        if suffix is None:
            continue
        module = key[: suffix.start()]
        for beginning, path in PREFIXES:
            if re.match(beginning, module):
                module = re.sub(rf"^{beginning}", path, module)
                for old, new in MODULES:
                    module = re.sub(old, new, module)
                return ParsedKey(module, tensor)
    return None


def unsupported(key: str) -> str | None:
    """The kind of adapter that a key belongs to, if it is one that is known and not supported."""
    return next((kind for kind, pattern in UNSUPPORTED if re.search(pattern, key)), None)


def kohya_keys(path: str) -> list[str]:
    """kohya's names for the layer at a full path: for XL, and for models with one text encoder."""
    component, _, module = path.partition(".")
    return [prefix + module.replace(".", "_") for prefix in KOHYA[component]]
