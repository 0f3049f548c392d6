"""Textual inversion: tokens whose embeddings were trained, read from the files that trainers and interfaces write.

    emb_params                         A1111, one text encoder; the token is the file's name
    string_to_param: {"*": ...}        A1111's pickles; the same
    clip_l, clip_g                     kohya and A1111 for XL; the token is the file's name
    text_encoders_0, text_encoders_1   Replicate's trainer (embeddings.pti); a token for each row: <s0>, <s1>, ...
    <cat-toy>                          diffusers, a tensor by the token's name; of learned_embeds_2 for XL's second
    bundle_emb.NAME.clip_l, ...        OneTrainer and A1111, within an adapter's file

Gal et al., 2022, https://arxiv.org/abs/2208.01618. A token with several vectors takes as many positions of a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from .errors import UserError, quoted

if TYPE_CHECKING:
    from .models.clip import CLIPTextModel
    from .tokenizer import CLIPTokenizer

ENCODERS = ("text_encoder", "text_encoder_2")

BUNDLE = "bundle_emb."

# The key of a tensor -> the text encoder that it is for.
ENCODER_OF = {
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    "text_encoders_0": "text_encoder",
    "text_encoders_1": "text_encoder_2",
    "emb_params": "text_encoder",
    "*": "text_encoder",
    "string_to_param.*": "text_encoder",
}

ALIAS = "TOK"
"""What stands for all tokens of Replicate's and diffusers' trainers in prompts."""

_FILE_NAME = re.compile(r"(.*_emb|.*embeddings?|learned_embeds.*)\.(safetensors|pti|pt|bin)", re.IGNORECASE)


class LearnedToken(NamedTuple):
    """A token and its vectors."""

    name: str
    """What stands for it in a prompt: "<s0>"."""
    vectors: Mapping[str, mx.array]
    """(n, width) by the name of the text encoder; n is the same for all."""

    @property
    def length(self) -> int:
        """The positions of a text that it takes."""
        return len(next(iter(self.vectors.values())))


class Learned(NamedTuple):
    """Tokens, and other words that stand for them."""

    tokens: tuple[LearnedToken, ...] = ()
    aliases: Mapping[str, str] = {}
    """{"TOK": "<s0><s1>"}"""


class LearnedEmbedding(nn.Module):
    """A table of token embeddings with more rows: ids from `first` on are rows of `learned`."""

    def __init__(self, base: nn.Module, first: int, learned: mx.array):
        super().__init__()
        self.base = base
        self.learned = learned
        self.first = first
        self.freeze()

    def __call__(self, ids: mx.array) -> mx.array:
        """Integers (B, L) -> (B, L, width)."""
        new = ids >= self.first
        plain = self.base(mx.where(new, 0, ids))
        rows = self.learned[mx.maximum(ids - self.first, 0)]
        return mx.where(new[..., None], rows.astype(plain.dtype), plain)


def is_file_name(name: str) -> bool:
    """Whether a file is one of embeddings by its name."""
    return _FILE_NAME.fullmatch(name) is not None


def bundled(tensors: Mapping[str, mx.array]) -> tuple[dict[str, mx.array], list[LearnedToken]]:
    """The tensors of an adapter's file without its bundled embeddings, and the tokens of those."""
    rest: dict[str, mx.array] = {}
    vectors: dict[str, dict[str, mx.array]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(rf"{re.escape(BUNDLE)}(.+?)\.((?:string_to_param\.)?[^.]+)", key)
        if match is None or match[2] not in ENCODER_OF:
            rest[key] = tensor
        else:
            vectors.setdefault(match[1], {})[ENCODER_OF[match[2]]] = tensor
    return rest, [_token(name, parts) for name, parts in vectors.items()]


def read_tokens(tensors: Mapping[str, mx.array], file: Path, in_rows: bool = False) -> list[LearnedToken] | None:
    """The tokens of a file's tensors, if it holds embeddings and nothing else; None otherwise.

    file: names a token that has no name. in_rows: the rows of clip_l and clip_g are a token each, as diffusers' trainer
    writes them beside an adapter. Raises UserError if the vectors do not fit each other.
    """
    if not tensors or not all(
        tensor.ndim in (1, 2) and tensor.size and mx.issubdtype(tensor.dtype, mx.floating)
        for tensor in tensors.values()
    ):
        return None
    if tensors.keys() <= ENCODER_OF.keys():
        vectors = {ENCODER_OF[key]: _rows(tensor) for key, tensor in tensors.items()}
        if len(vectors) < len(tensors) or len({len(rows) for rows in vectors.values()}) > 1:
            raise UserError(f"{file} is a damaged textual inversion: its text encoders have other numbers of vectors.")
        if in_rows or "text_encoders_0" in tensors:
            count = len(next(iter(vectors.values())))
            return [_token(f"<s{i}>", {name: rows[i] for name, rows in vectors.items()}) for i in range(count)]
        return [_token(file.name.partition(".")[0], vectors)]
    # Keys of other files have dots.
    if len({tensor.shape[-1] for tensor in tensors.values()}) == 1 and not any("." in key for key in tensors):
        encoder = "text_encoder_2" if re.search(r"_2$", file.stem) else "text_encoder"
        return [_token(name, {encoder: tensor}) for name, tensor in tensors.items()]
    return None


def pickled_tensors(content: Mapping[str, object]) -> dict[str, mx.array]:
    """The tensors of a pickle's content: A1111's nested ones by the keys of ENCODER_OF, all others by their own."""
    nested = content.get("string_to_param")
    return {
        str(key): value if isinstance(value, mx.array) else mx.array(value)  # type: ignore[arg-type]
        for key, value in (nested if isinstance(nested, Mapping) else content).items()
        if hasattr(value, "shape")
    }


def joined(tokens: Sequence[LearnedToken]) -> tuple[LearnedToken, ...]:
    """Tokens of the same name as one, with the vectors of all: diffusers writes a file for each text encoder."""
    vectors: dict[str, dict[str, mx.array]] = {}
    for token in tokens:
        vectors.setdefault(token.name, {}).update(token.vectors)
    return tuple(LearnedToken(name, parts) for name, parts in vectors.items())


def check_fit(tokens: Sequence[LearnedToken], widths: Mapping[str, int], file: str) -> None:
    """Raise UserError if a token lacks vectors for a text encoder of a model, or has them in another width."""
    for token in tokens:
        ours = {name: rows.shape[-1] for name, rows in token.vectors.items()}
        lengths = {len(rows) for rows in token.vectors.values()}
        if ours != dict(widths) or len(lengths) > 1:
            theirs, wanted = (" and ".join(map(str, sizes.values())) for sizes in (ours, widths))
            raise UserError(
                f"{file} is a textual inversion for another model: the token {quoted(token.name)} has vectors of"
                f" {theirs} numbers, and the model's text encoders take {wanted}."
            )


def extended(
    tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[CLIPTextModel], learned: Learned
) -> tuple[list[CLIPTokenizer], list[nn.Module]]:
    """The tokenizers and embeddings of a model's text encoders with these tokens, whose vectors fit (`check_fit`)."""
    lengths = {token.name: token.length for token in learned.tokens}
    embeddings: list[nn.Module] = []
    for name, encoder, tokenizer in zip(ENCODERS, encoders, tokenizers, strict=False):
        rows = mx.concatenate([token.vectors[name] for token in learned.tokens])
        base = encoder.text_model.embeddings.token_embedding
        embeddings.append(LearnedEmbedding(base, tokenizer.vocab_size, rows))
    return [tokenizer.with_tokens(lengths, learned.aliases) for tokenizer in tokenizers], embeddings


def _token(name: str, vectors: Mapping[str, mx.array]) -> LearnedToken:
    return LearnedToken(name, {encoder: _rows(tensor) for encoder, tensor in vectors.items()})


def _rows(tensor: mx.array) -> mx.array:
    return tensor.reshape(-1, tensor.shape[-1])
