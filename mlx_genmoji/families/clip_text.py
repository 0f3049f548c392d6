"""The text side of Stable Diffusion: one or two CLIP text encoders."""

from collections.abc import Sequence

import mlx.core as mx

from ..errors import UserError
from ..models.clip import CLIPTextModel, TextOutput
from ..tokenizer import CLIPTokenizer
from .base import Conditions
from .settings import DEFAULT_SETTINGS, Settings


class TextTowers:
    """The text encoders of a model, each with its tokenizer: one, or the two of XL."""

    def __init__(
        self, tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[CLIPTextModel], zeros_for_empty: bool = False
    ):
        """zeros_for_empty: XL's `force_zeros_for_empty_prompt`: an empty negative prompt is encoded as zeros."""
        self.tokenizers = tokenizers
        self.encoders = encoders
        self.zeros_for_empty = zeros_for_empty

    @property
    def width(self) -> int:
        """Channels of the states."""
        return sum(encoder.config.hidden_size for encoder in self.encoders)

    def __call__(
        self,
        prompt: str,
        negative_prompt: str | None,
        size: tuple[int, int],
        settings: Settings = DEFAULT_SETTINGS,
    ) -> Conditions:
        """Conditions for a prompt: two rows, the negative prompt's first; one row if that is None.

        size: height and width of the picture in pixels, a condition of XL. settings: `clip_skip`, which as in
        diffusers changes the prompt's row alone, `prompt_weights` and `long_prompts`.
        """
        texts = [prompt] if negative_prompt is None else [negative_prompt, prompt]
        skips = (*[0] * (len(texts) - 1), settings.clip_skip or 0)
        if settings.prompt_weights or settings.long_prompts:
            states, pooled = self._encode_chunks(texts, skips, settings)
        else:
            states, pooled = self.encode(self.tokenize(texts), skips)
        if pooled is None:
            return Conditions(states, {})
        if negative_prompt == "" and self.zeros_for_empty:
            kept = mx.array([0.0, 1.0])
            states, pooled = states * kept[:, None, None], pooled * kept[:, None]
        return Conditions(states, {"text_embeds": pooled, "time_ids": time_ids(size, len(texts))})

    def tokenize(self, texts: Sequence[str]) -> list[mx.array]:
        """Token ids, (B, L) for each tower."""
        return [mx.array(tokenizer(texts)) for tokenizer in self.tokenizers]

    def encode(self, ids: Sequence[mx.array], skips: Sequence[int] = ()) -> tuple[mx.array, mx.array | None]:
        """Token ids, (B, L) for each tower -> states (B, L, D) and, for XL, `text_embeds` (B, P), else None.

        skips: for each row, how many of the last layers are left out; none by default.
        """
        states = []
        for tower_ids, encoder in zip(ids, self.encoders, strict=True):
            output = encoder(tower_ids)
            states.append(self._states(encoder, output, skips))
        if len(states) == 1:
            return states[0], None
        return mx.concatenate(states, axis=-1), output.pooled

    def _states(self, encoder: CLIPTextModel, output: TextOutput, skips: Sequence[int]) -> mx.array:
        if not any(skips):
            return self._layer(encoder, output, 0)
        return mx.concatenate([self._layer(encoder, output, skip)[i : i + 1] for i, skip in enumerate(skips)])

    def _layer(self, encoder: CLIPTextModel, output: TextOutput, skip: int) -> mx.array:
        """The states that the denoiser gets: the last layer's after the norm; of XL (Podell et al. 2023,
        https://arxiv.org/abs/2307.01952) those of the last layer but one, without it. `skip` layers before that.
        """
        only_one = len(self.encoders) == 1
        if only_one and not skip:
            return output.last_hidden_state
        layers, last = len(output.hidden_states), skip + (1 if only_one else 2)
        if last > layers:
            most = layers - 1 if only_one else layers - 2
            raise UserError(f"clip_skip {skip} leaves no layer of the text encoder: give at most {most}.")
        states = output.hidden_states[-last]
        return encoder.text_model.final_layer_norm(states) if only_one else states

    def _encode_chunks(
        self, texts: Sequence[str], skips: Sequence[int], settings: Settings
    ) -> tuple[mx.array, mx.array | None]:
        """As `encode`, of texts with weights or of more than one chunk; the pooled states are the first chunk's."""
        from .text_chunks import chunks_of, ids_and_weights, weighted

        count = max(len(chunks_of(tokenizer, text, settings)) for tokenizer in self.tokenizers for text in texts)
        towers, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            states = []
            ids, weights = ids_and_weights(tokenizer, texts, settings, count)
            for i in range(count):
                output = encoder(ids[i])
                states.append(weighted(self._states(encoder, output, skips), weights[i]))
                if i == 0 and len(self.encoders) > 1:
                    pooled = output.pooled
            towers.append(mx.concatenate(states, axis=1))
        return mx.concatenate(towers, axis=-1), pooled


def time_ids(size: tuple[int, int], count: int) -> mx.array:
    """The size conditions of XL for `count` pictures, (count, 6): original size, crop offset (0, 0), target size."""
    return mx.array([[*size, 0, 0, *size]] * count, mx.float32)
