"""How the files of others spell the tensors of an adapter: each a spelling of one path.

kohya       lora_unet_down_blocks_0_..._to_q.lora_down.weight, .lora_up.weight, .alpha, .dora_scale
diffusers   unet.down_blocks.0...to_q.lora_A.weight, .lora_B.weight, .lora_magnitude_vector
            unet.down_blocks.0...to_q.lora.down.weight, .lora.up.weight
            text_encoder.text_model...q_proj.lora_linear_layer.down.weight, .up.weight
            unet.down_blocks.0...attn1.processor.to_q_lora.down.weight, .up.weight, the oldest; "unet." may lack
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

# What begins a key -> what begins a full path. The first that fits counts.
PREFIXES = (
    # Which of kohya's underscores are dots, a model knows only.
    (r"(?=lora_(unet|te|te1|te2)_)", ""),
    (r"(?=(unet|text_encoder|text_encoder_2)\.)", ""),
    (r"(?=(down_blocks|mid_block|up_blocks)\.)", "unet."),
)

# As the oldest files of diffusers name modules.
MODULES = (
    (r"\.processor\.", "."),
    (r"(attn\d\.to_out)$", r"\1.0"),
    (r"(self_attn)\.to_([qkv])$", r"\1.\2_proj"),
    (r"(self_attn)\.to_out$", r"\1.out_proj"),
)

# The last one is written for the one text encoder of a model that is not XL.
KOHYA = {"unet": ("lora_unet_",), "text_encoder": ("lora_te1_", "lora_te_"), "text_encoder_2": ("lora_te2_",)}

# Kinds of adapters that are not low-rank pairs, by what their keys hold.
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


class Spelled(NamedTuple):
    path: str
    """The full path of a layer; of kohya's, "lora_unet_...", as it is."""
    tensor: str
    """One of TENSORS."""


def read_key(key: str) -> Spelled | None:
    """What a key of a file names; None where it is nothing that is known here."""
    for tensor, pattern in TENSORS:
        found = re.search(rf"({pattern})$", key)
        if found is None:
            continue
        module = key[: found.start()]
        for beginning, path in PREFIXES:
            if re.match(beginning, module):
                module = re.sub(rf"^{beginning}", path, module)
                for old, new in MODULES:
                    module = re.sub(old, new, module)
                return Spelled(module, tensor)
    return None


def unsupported(key: str) -> str | None:
    """The kind of adapter that a key is of, where it is one that is not supported."""
    return next((kind for kind, pattern in UNSUPPORTED if re.search(pattern, key)), None)


def kohya_keys(path: str) -> list[str]:
    """The module of a key as sd-scripts spell it, after diffusers' names: of XL, and of the others."""
    component, _, own = path.partition(".")
    return [beginning + own.replace(".", "_") for beginning in KOHYA[component]]
