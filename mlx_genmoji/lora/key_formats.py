"""The keys of adapter files: how each format names the tensors of the layer at one path.

kohya       lora_unet_down_blocks_0_..._to_q.lora_down.weight, .lora_up.weight, .alpha, .dora_scale
diffusers   unet.down_blocks.0...to_q.lora_A.weight, .lora_B.weight, .lora_magnitude_vector
            unet.down_blocks.0...to_q.lora.down.weight, .lora.up.weight
            text_encoder.text_model...q_proj.lora_linear_layer.down.weight, .up.weight
            unet.down_blocks.0...attn1.processor.to_q_lora.down.weight, .up.weight, the oldest; without "unet." in some
PEFT        base_model.model.down_blocks.0...to_q.lora_A.weight, .lora_B.weight, .lora_magnitude_vector; with the
            adapter's name in some: .lora_A.default.weight; after the component's name in some: unet.base_model.model...
OneTrainer  unet.output_blocks.5.1...to_q.lora_down.weight, clip_l.text_model...q_proj.lora_down.weight
LyCORIS     lora_unet_... or lycoris_..., with .hada_w1_a, .lokr_w1, .lora_mid.weight, .diff, .w_norm and others
"""

import re
from typing import NamedTuple

# The name of the adapter, which some versions of PEFT and diffusers leave in keys: ".default", ".default_0", ".1".
_NAME = r"(\.[\w-]+)?"

TENSORS = (
    (
        "down",
        rf"\.lora_down\.weight|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight|\.lora_A{_NAME}\.weight",
    ),
    ("up", rf"\.lora_up\.weight|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight|\.lora_B{_NAME}\.weight"),
    ("up_bias", rf"\.lora_up\.bias|\.lora_B{_NAME}\.bias"),
    ("mid", r"\.lora_mid\.weight"),
    ("alpha", r"\.alpha"),
    ("dora_scale", r"\.dora_scale"),
    ("magnitude", rf"\.lora_magnitude_vector{_NAME}(?<!\.weight)(\.weight)?"),
    *((name, rf"\.{name}{_NAME}") for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
    *((name, rf"\.{name}{_NAME}") for name in ("hada_t1", "hada_t2", "lokr_t1", "lokr_t2")),
    *((name, rf"\.{name}{_NAME}") for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2")),
    *((name, rf"\.{name}{_NAME}") for name in ("lokr_w2_a", "lokr_w2_b")),
    *((name, rf"\.{name}") for name in ("diff", "diff_b", "w_norm", "b_norm")),
)

_COMPONENT = r"unet|text_encoder|text_encoder_2"

# (pattern of a key's beginning, what replaces it). All that match are applied, in this order.
WRAPPERS = (
    (r"(_orig_mod\.|module\.)+", ""),
    (r"base_model\.model\.", ""),
    (rf"({_COMPONENT})\.base_model\.model\.", r"\1."),
    (r"(model\.)?diffusion_model\.", "unet."),
    (r"(text_encoders\.)?clip_l\.(transformer\.)?", "text_encoder."),
    (r"(text_encoders\.)?clip_g\.(transformer\.)?", "text_encoder_2."),
)

# (pattern of a key's beginning, beginning of the full path). The first match counts.
PREFIXES = (
    # Only a model tells which of the underscores are dots, so these keys stay as they are.
    (r"(?=(lora_(unet|te|te1|te2)|lycoris)_)", ""),
    (rf"(?=({_COMPONENT})\.)", ""),
    (r"(?=(down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks|time_embed|label_emb)\.)", "unet."),
    (r"(?=(time_embedding|add_embedding)\.|(conv_in|conv_out|conv_norm_out)$)", "unet."),
    (r"(?=text_model\.)", "text_encoder."),
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

LYCORIS = "lycoris_"
"""The prefix of LyCORIS' own wrapper, for the UNet and for text encoders."""

# Kinds of adapters that are not supported, by a pattern of their keys.
UNSUPPORTED = (
    ("GLoRA", r"\.[ab][12]\.weight$"),
    ("OFT", r"\.(oft_(blocks|diag)|oft_R|boft_[RS])"),
    ("(IA)3", r"\.on_input$|\.ia3_l"),
    ("VeRA", r"\.vera_lambda"),
    ("weights that replace those of the base", r"\.(set_weight|modules_to_save)(\.|$)"),
    ("adapters of embeddings", r"\.lora_embedding_[AB]"),
)


class ParsedKey(NamedTuple):
    path: str
    """The full path of a layer; in kohya's format "lora_unet_...", as it stands."""
    tensor: str
    """A name in TENSORS."""
    adapter: str
    """The adapter's name in the key; "" in most files."""


def read_key(key: str, component: str = "") -> ParsedKey | None:
    """The layer and tensor that a key names; None for an unknown key.

    component: "unet." or the like, for keys that do not say theirs.
    """
    for tensor, pattern in TENSORS:
        suffix = re.search(rf"({pattern})$", key)
        if suffix is None:
            continue
        module = key[: suffix.start()]
        for wrapper, replacement in WRAPPERS:
            module = re.sub(rf"^{wrapper}", replacement, module)
        if component and not re.match(rf"({_COMPONENT})\.|lora_(unet|te|te1|te2)_", module):
            module = component + module
        for beginning, path in PREFIXES:
            if re.match(beginning, module):
                module = re.sub(rf"^{beginning}", path, module)
                for old, new in MODULES:
                    module = re.sub(old, new, module)
                name = next((group for group in suffix.groups()[1:] if group and group != ".weight"), "")
                return ParsedKey(module, tensor, name.removeprefix("."))
    return None


def unsupported(key: str) -> str | None:
    """The kind of adapter that a key belongs to, if it is one that is known and not supported."""
    return next((kind for kind, pattern in UNSUPPORTED if re.search(pattern, key)), None)


def kohya_keys(path: str) -> list[str]:
    """kohya's names for the layer at a full path: for XL, and for models with one text encoder."""
    component, _, module = path.partition(".")
    return [prefix + module.replace(".", "_") for prefix in KOHYA[component]]
