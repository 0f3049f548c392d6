"""CLIPTextModel: the text encoder of CLIP, from token ids to hidden states (Radford et al., 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import mlx.core as mx
import mlx.nn as nn

from . import Count, keep_config, parse_config, require_divisor, require_few_layers
from .ops import ACTIVATIONS, attention


@dataclass(frozen=True)
class CLIPTextConfig:
    """The supported fields of transformers' CLIPTextConfig."""

    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    max_position_embeddings: Count = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int | None = 49407
    projection_dim: Count = 512
    """Used by CLIPTextModelWithProjection only."""

    def __post_init__(self) -> None:
        require_few_layers(self, "num_hidden_layers", self.num_hidden_layers)
        require_divisor(self, "num_attention_heads", self.num_attention_heads, self.hidden_size)


class TextOutput(NamedTuple):
    """The output of the text encoder for (B, L) token ids."""

    last_hidden_state: mx.array
    """(B, L, hidden_size), after the final layer norm."""
    hidden_states: list[mx.array]
    """The embeddings and the output of each layer, each (B, L, hidden_size), before the final layer norm."""
    pooled: mx.array
    """(B, hidden_size): `last_hidden_state` at the end of the text; (B, projection_dim) where the model projects it."""


class CLIPAttention(nn.Module):
    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = (size // self.heads) ** -0.5
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def __call__(self, x: mx.array) -> mx.array:
        out = attention(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads, self.scale, mask="causal")
        return self.out_proj(out)


class CLIPMLP(nn.Module):
    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self.activation(self.fc1(x)))


class CLIPEncoderLayer(nn.Module):
    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.self_attn = CLIPAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = CLIPMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPTextEmbeddings(nn.Module):
    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def __call__(self, input_ids: mx.array) -> mx.array:
        return self.token_embedding(input_ids) + self.position_embedding.weight[: input_ids.shape[1]]


class CLIPEncoder(nn.Module):
    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.layers = []
        for _ in range(config.num_hidden_layers):
            self.layers.append(CLIPEncoderLayer(config))


class CLIPTextTransformer(nn.Module):
    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.embeddings = CLIPTextEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)


class CLIPTextModel(nn.Module):
    """The text encoder of Stable Diffusion 1.x and 2.x, and the first one of XL."""

    def __init__(self, config: CLIPTextConfig, raw_config: Mapping[str, Any]):
        super().__init__()
        self.raw_config: dict[str, Any]
        self.config = config
        keep_config(self, raw_config)
        self.text_model = CLIPTextTransformer(config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A model with random weights for a `config.json`. Raises UserError if a field is not supported."""
        return cls(parse_config(CLIPTextConfig, config, {"hidden_act": tuple(ACTIVATIONS)}), config)

    def __call__(self, input_ids: mx.array) -> TextOutput:
        """`input_ids`: integers (B, L), L at most `max_position_embeddings`."""
        x = self.text_model.embeddings(input_ids)
        hidden_states = [x]
        for layer in self.text_model.encoder.layers:
            x = layer(x)
            hidden_states.append(x)
        last = self.text_model.final_layer_norm(x)
        # Old configs have a wrong id, 2. The end-of-text token of their vocabulary is the one with the largest id.
        if self.config.eos_token_id in (None, 2):
            ends = input_ids.argmax(-1)
        else:
            ends = (input_ids == self.config.eos_token_id).argmax(-1)
        return TextOutput(last, hidden_states, last[mx.arange(len(ends)), ends])


class CLIPTextModelWithProjection(CLIPTextModel):
    """The second text encoder of Stable Diffusion XL, which projects its pooled output."""

    def __init__(self, config: CLIPTextConfig, raw_config: Mapping[str, Any]):
        super().__init__(config, raw_config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def __call__(self, input_ids: mx.array) -> TextOutput:
        """`input_ids`: integers (B, L), L at most `max_position_embeddings`."""
        output = super().__call__(input_ids)
        return output._replace(pooled=self.text_projection(output.pooled))
