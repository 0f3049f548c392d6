"""Prompts with weights, and prompts that are longer than a text encoder reads at once.

A prompt is cut into chunks of 75 tokens between a start and an end token. Each chunk is encoded by itself, and the
states follow each other. The rules are those of A1111's web UI (`modules/sd_hijack_clip.py`): where a chunk is full and
a comma is among its last 20 tokens, what follows the comma moves to the next chunk. A chunk's states are multiplied by
the tokens' weights and then scaled so that their mean is what it was ("Original" emphasis).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mlx.core as mx

from ..errors import UserError
from ..prompt.weights import Piece, parse_weights, without_adapter_tags
from ..tokenizer import CLIPTokenizer
from .base import Settings

if TYPE_CHECKING:
    from ..models.clip import CLIPTextModel, TextOutput

COMMA_BACKTRACK = 20


@dataclass
class Chunk:
    """The tokens of one call of a text encoder and their weights, without start, end and padding."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def split(self, position: int) -> Chunk:
        """Take off and return what follows `position`."""
        rest = Chunk(self.ids[position:], self.weights[position:])
        del self.ids[position:], self.weights[position:]
        return rest


def pieces_of(prompt: str, settings: Settings) -> list[Piece]:
    """The pieces of a prompt, all of weight 1 unless the settings read weights."""
    if not settings.prompt_weights:
        return [Piece(prompt, 1.0)]
    return parse_weights(without_adapter_tags(prompt))


def plain_text(prompt: str, settings: Settings) -> str:
    """The text that is encoded, without the marks of weights."""
    return "".join(" " if piece.text is None else piece.text for piece in pieces_of(prompt, settings))


def chunks_of(tokenizer: CLIPTokenizer, prompt: str, settings: Settings) -> list[Chunk]:
    """The chunks of a prompt, at least one. Without `long_prompts` the first alone, and BREAK has no meaning."""
    length = tokenizer.max_length - 2
    comma = tokenizer.words(",")
    chunks, last_comma = [Chunk()], -1
    for text, weight in pieces_of(prompt, settings):
        if text is None:
            if settings.long_prompts:
                chunks.append(Chunk())
                last_comma = -1
            continue
        for token in tokenizer.words(text):
            chunk = chunks[-1]
            near = last_comma != -1 and len(chunk.ids) - last_comma <= COMMA_BACKTRACK
            if [token] == comma:
                last_comma = len(chunk.ids)
            elif len(chunk.ids) == length and near and settings.long_prompts:
                chunks.append(chunk.split(last_comma + 1))
                last_comma = -1
            if len(chunks[-1].ids) == length:
                if not settings.long_prompts:
                    return chunks
                chunks.append(Chunk())
                last_comma = -1
            chunks[-1].ids.append(token)
            chunks[-1].weights.append(weight)
    return chunks if chunks[-1].ids or len(chunks) == 1 else chunks[:-1]


def ids_and_weights(
    tokenizer: CLIPTokenizer, texts: Sequence[str], settings: Settings, count: int
) -> tuple[list[mx.array], mx.array]:
    """For each of `count` chunks the ids (B, L) of all texts, and the weights (count, B, L).

    A text with fewer chunks is completed by empty ones.
    """
    length = tokenizer.max_length
    ids, weights = [], []
    rows = [chunks_of(tokenizer, text, settings) for text in texts]
    for i in range(count):
        chunks = [row[i] if i < len(row) else Chunk() for row in rows]
        ids.append(mx.array([_padded(tokenizer, chunk.ids) for chunk in chunks]))
        weights.append([[1.0, *chunk.weights, *[1.0] * (length - 1 - len(chunk.ids))] for chunk in chunks])
    return ids, mx.array(weights)


def weighted(states: mx.array, weights: mx.array) -> mx.array:
    """States (B, L, D) multiplied by weights (B, L), each row with the mean that it had."""
    products = states * weights[..., None]
    axes = (1, 2)
    return products * (states.mean(axes, keepdims=True) / products.mean(axes, keepdims=True))


def _padded(tokenizer: CLIPTokenizer, ids: list[int]) -> list[int]:
    framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (tokenizer.max_length - len(framed))


def encode_texts(
    tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[CLIPTextModel], texts: Sequence[str], settings: Settings
) -> tuple[mx.array, mx.array | None]:
    """As `TextTowers.encode` of texts, the prompt last, with `clip_skip`, weights and more than one chunk.

    `clip_skip` changes the prompt's row alone, as in diffusers. The pooled states are the first chunk's.
    """
    skips = (*[0] * (len(texts) - 1), settings.clip_skip or 0)
    in_chunks = settings.prompt_weights or settings.long_prompts
    count = 1
    if in_chunks:
        count = max(len(chunks_of(tokenizer, text, settings)) for tokenizer in tokenizers for text in texts)
    outputs, pooled = [], None
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        states = []
        ids, weights = [mx.array(tokenizer(texts, warn=False))], None
        if in_chunks:
            ids, weights = ids_and_weights(tokenizer, texts, settings, count)
        for i in range(count):
            output = encoder(ids[i])
            rows = _states(encoder, output, skips, len(encoders) == 1)
            states.append(rows if weights is None else weighted(rows, weights[i]))
            if i == 0 and len(encoders) > 1:
                pooled = output.pooled
        outputs.append(mx.concatenate(states, axis=1))
    return mx.concatenate(outputs, axis=-1), pooled


def _states(encoder: CLIPTextModel, output: TextOutput, skips: Sequence[int], only_one: bool) -> mx.array:
    """The states of each row, with as many of the last layers left out as `skips` says."""
    return mx.concatenate([_layer(encoder, output, skip, only_one)[i : i + 1] for i, skip in enumerate(skips)])


def _layer(encoder: CLIPTextModel, output: TextOutput, skip: int, only_one: bool) -> mx.array:
    """The states that the denoiser gets: the last layer's after the norm; of XL (Podell et al. 2023,
    https://arxiv.org/abs/2307.01952) those of the last layer but one, without it. `skip` layers before that.

    only_one: whether the model has one text encoder, and so is not XL.
    """
    if only_one and not skip:
        return output.last_hidden_state
    layers, last = len(output.hidden_states), skip + (1 if only_one else 2)
    if last > layers:
        most = layers - 1 if only_one else layers - 2
        raise UserError(f"clip_skip {skip} leaves no layer of the text encoder: give at most {most}.")
    states = output.hidden_states[-last]
    return encoder.text_model.final_layer_norm(states) if only_one else states
