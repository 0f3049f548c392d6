"""The captions of a batch as the UNet's conditions: encoded once, or in each step where the text encoder is trained."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.families.base import DEFAULT_SETTINGS, Conditions, Settings
from mlx_genmoji.families.stable_diffusion import TextTowers, time_ids
from mlx_genmoji.models.clip import CLIPTextModel

from .data.cached import cached

BATCH = 16

Size = tuple[int, int]


class FrozenTexts:
    """The states, and of XL the `text_embeds`, of a fixed list of captions; the text encoders are not needed again."""

    def __init__(self, towers: TextTowers, captions: Sequence[str], cache: Path, key: Any, others: Sequence[str] = ()):
        """key: JSON that no other text encoders have. others: texts that are cached apart, such as sample prompts."""
        # The empty text stands for a dropped caption.
        first = sorted({"", *captions})
        groups = [first, sorted({*others} - {*first})]
        self.places = {text: (group, i) for group, texts in enumerate(groups) for i, text in enumerate(texts)}

        def encode(texts: list[str], pick: int) -> NDArray[Any]:
            parts = []
            for start in range(0, len(texts), BATCH):
                states, pooled = towers.encode(towers.tokenize(texts[start : start + BATCH]))
                part = states if pick == 0 else pooled
                assert part is not None
                parts.append(np.array(part))
            encoded = np.concatenate(parts)
            if towers.zeros_for_empty and len(towers.encoders) == 2 and "" in texts:
                encoded[texts.index("")] = 0
            return encoded

        names = ["states", "pooled"][: len(towers.encoders)]
        self.arrays = [
            [cached(cache, name, [key, texts], partial(encode, texts, pick)) for texts in groups if texts]
            for pick, name in enumerate(names)
        ]

    def rows(self, captions: Sequence[str]) -> list[mx.array]:
        """The arrays of a batch's captions, first axis the batch; "" is a dropped caption."""
        places = [self.places[text] for text in captions]
        return [mx.array(np.stack([groups[group][i] for group, i in places])) for groups in self.arrays]

    def conditions(self, model: Any, size: Size, rows: Sequence[mx.array]) -> Conditions:
        """The UNet's conditions from a batch's arrays."""
        return _conditions(rows[0], rows[1] if len(rows) > 1 else None, size)


class TrainedTexts:
    """The token ids of captions, encoded in each step by the text encoders that are trained."""

    def __init__(self, towers: TextTowers):
        self.towers = towers

    def rows(self, captions: Sequence[str]) -> list[mx.array]:
        """Token ids for each text encoder, and 0 for a caption whose states are zeros."""
        zeros = self.towers.zeros_for_empty and len(self.towers.encoders) == 2
        kept = mx.array([0.0 if zeros and not text else 1.0 for text in captions])
        return [*self.towers.tokenize(captions), kept]

    def conditions(self, model: Mapping[str, CLIPTextModel], size: Size, rows: Sequence[mx.array]) -> Conditions:
        """model: has the text encoders by their names; each thread has its own copy of them."""
        *ids, kept = rows
        encoders = [model[name] for name in ("text_encoder", "text_encoder_2")[: len(ids)]]
        states, pooled = TextTowers(self.towers.tokenizers, encoders).encode(ids)
        states = states * kept[:, None, None].astype(states.dtype)
        return _conditions(states, None if pooled is None else pooled * kept[:, None].astype(pooled.dtype), size)


Texts = FrozenTexts | TrainedTexts


class CachedTexts(TextTowers):
    """In place of text encoders: the states of a fixed list of captions, encoded before."""

    def __init__(self, texts: FrozenTexts):
        super().__init__([], [])
        self.texts = texts

    def __call__(
        self, prompt: str, negative_prompt: str | None, size: Size, settings: Settings = DEFAULT_SETTINGS
    ) -> Conditions:
        captions = [prompt] if negative_prompt is None else [negative_prompt, prompt]
        return self.texts.conditions(None, size, self.texts.rows(captions))


def _conditions(states: mx.array, pooled: mx.array | None, size: Size) -> Conditions:
    if pooled is None:
        return Conditions(states, {})
    return Conditions(states, {"text_embeds": pooled, "time_ids": time_ids(size, len(states))})
