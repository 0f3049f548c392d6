"""The text side of Stable Diffusion: one or two CLIP text encoders."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..models.clip import CLIPTextModel
from ..textual_inversion import ENCODERS, Learned, LearnedEmbedding
from ..tokenizer import CLIPTokenizer
from .base import Conditions


class TextTowers:
    """The text encoders of a model, each with its tokenizer: one, or the two of XL."""

    def __init__(
        self, tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[CLIPTextModel], zeros_for_empty: bool = False
    ):
        """zeros_for_empty: XL's `force_zeros_for_empty_prompt`: an empty negative prompt is encoded as zeros."""
        self.tokenizers = tokenizers
        self.encoders = encoders
        self.zeros_for_empty = zeros_for_empty
        self._plain: list[tuple[CLIPTokenizer, nn.Module]] | None = None
        """The tokenizers and embeddings without learned tokens, while there are any."""

    @property
    def width(self) -> int:
        """Channels of the states."""
        return sum(encoder.config.hidden_size for encoder in self.encoders)

    def learn(self, learned: Learned) -> None:
        """Read texts with these learned tokens, in place of those before. Their vectors fit the text encoders."""
        if self._plain is not None:
            for encoder, (_, embedding) in zip(self.encoders, self._plain, strict=True):
                _set_embedding(encoder, embedding)
            self.tokenizers = [tokenizer for tokenizer, _ in self._plain]
            self._plain = None
        if not learned.tokens:
            return
        embeddings = [encoder.text_model.embeddings.token_embedding for encoder in self.encoders]
        self._plain = list(zip(self.tokenizers, embeddings, strict=True))
        lengths = {token.name: token.length for token in learned.tokens}
        for name, encoder, (tokenizer, embedding) in zip(ENCODERS, self.encoders, self._plain, strict=False):
            rows = mx.concatenate([token.vectors[name] for token in learned.tokens])
            _set_embedding(encoder, LearnedEmbedding(embedding, tokenizer.vocab_size, rows))
        self.tokenizers = [tokenizer.with_tokens(lengths, learned.aliases) for tokenizer, _ in self._plain]

    def __call__(self, prompt: str, negative_prompt: str | None, size: tuple[int, int]) -> Conditions:
        """Conditions for a prompt: two rows, the negative prompt's first; one row if that is None.

        size: height and width of the picture in pixels, a condition of XL.
        """
        texts = [prompt] if negative_prompt is None else [negative_prompt, prompt]
        states, pooled = self.encode(self.tokenize(texts))
        if pooled is None:
            return Conditions(states, {})
        if negative_prompt == "" and self.zeros_for_empty:
            kept = mx.array([0.0, 1.0])
            states, pooled = states * kept[:, None, None], pooled * kept[:, None]
        return Conditions(states, {"text_embeds": pooled, "time_ids": time_ids(size, len(texts))})

    def tokenize(self, texts: Sequence[str]) -> list[mx.array]:
        """Token ids, (B, L) for each tower."""
        return [mx.array(tokenizer(texts)) for tokenizer in self.tokenizers]

    def encode(self, ids: Sequence[mx.array]) -> tuple[mx.array, mx.array | None]:
        """Token ids, (B, L) for each tower -> states (B, L, D) and, for XL, `text_embeds` (B, P), else None."""
        outputs = []
        for tower_ids, encoder in zip(ids, self.encoders, strict=True):
            outputs.append(encoder(tower_ids))
        if len(outputs) == 1:
            return outputs[0].last_hidden_state, None
        # Podell et al. 2023, https://arxiv.org/abs/2307.01952: the last layer but one of both, the second's pooled.
        return mx.concatenate([output.hidden_states[-2] for output in outputs], axis=-1), outputs[-1].pooled


def _set_embedding(encoder: CLIPTextModel, embedding: nn.Module) -> None:
    tables: Any = encoder.text_model.embeddings
    tables.token_embedding = embedding


def time_ids(size: tuple[int, int], count: int) -> mx.array:
    """The size conditions of XL for `count` pictures, (count, 6): original size, crop offset (0, 0), target size."""
    return mx.array([[*size, 0, 0, *size]] * count, mx.float32)
