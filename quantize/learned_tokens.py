"""Writes the tokens that adapters bring (textual inversion) into a model's folder, as transformers keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.families.stable_diffusion import TextTowers
from mlx_genmoji.files import read_json, write_json
from mlx_genmoji.lora.layers import dense_weight
from mlx_genmoji.textual_inversion import ENCODERS, Learned
from mlx_genmoji.tokenizer import CLIPTokenizer

from .model_folder import TOKEN_TABLE


def token_tables(text: TextTowers, learned: Learned) -> dict[str, mx.array]:
    """The embeddings of all tokens, the learned ones last, by full path. text: without the learned tokens."""
    tables = {}
    for name, encoder, tokenizer in zip(ENCODERS, text.encoders, text.tokenizers, strict=False):
        table = dense_weight(encoder.text_model.embeddings.token_embedding).astype(mx.float32)
        rows = [token.vectors[name].astype(mx.float32) for token in learned.tokens]
        # Some tables have more rows than the vocabulary has tokens.
        joined = mx.concatenate([table[: tokenizer.vocab_size], *rows])
        tables[f"{name}.{TOKEN_TABLE}"] = mx.concatenate([joined, table[len(joined) :]])
    return tables


def write_tokens(folder: Path, learned: Learned) -> None:
    """Add the tokens to the tokenizers of a model's folder. Raises UserError for a name that is in a vocabulary."""
    for suffix in ("", "_2"):
        path = folder / f"tokenizer{suffix}"
        if not path.is_dir():
            continue
        first = CLIPTokenizer.load(path).vocab_size
        contents = [f"{token.name}_{i}" if i else token.name for token in learned.tokens for i in range(token.length)]
        _add(path, {content: first + i for i, content in enumerate(contents)})
        tokenizer = CLIPTokenizer.load(path)
        for token in learned.tokens:
            start = first + contents.index(token.name)
            ids = tokenizer([token.name])[0, 1 : 1 + token.length].tolist()
            if ids != list(range(start, start + token.length)):
                raise UserError(f"{quoted(token.name)} is in the model's vocabulary: give its file another name.")


def _add(folder: Path, ids: Mapping[str, int]) -> None:
    """Add tokens to that one of a tokenizer's files which lists them."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False, "special": False}
    config = read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in config:
        entries: dict[str, Any] = {str(i): {"content": content} | flags for content, i in ids.items()}
        config["added_tokens_decoder"] |= entries
        write_json(folder / "tokenizer_config.json", config)
    elif (file := folder / "tokenizer.json").is_file():
        tokenizer = read_json(file)
        added = [{"id": i, "content": content} | flags for content, i in ids.items()]
        write_json(file, tokenizer | {"added_tokens": [*(tokenizer.get("added_tokens") or []), *added]})
    else:
        file = folder / "added_tokens.json"
        write_json(file, (read_json(file) if file.is_file() else {}) | dict(ids))
