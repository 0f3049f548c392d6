"""The time embedding, and what is added to it: one vector that every block of the UNet is told."""

import math

import mlx.core as mx
import mlx.nn as nn

from .ops import attention, silu


def timestep_embedding(timesteps: mx.array, channels: int, flip_sin_to_cos: bool, freq_shift: float) -> mx.array:
    """Sines and cosines of (B,) timesteps, float32 (B, channels) (Vaswani et al., 2017)."""
    half = channels // 2
    exponents = mx.arange(half, dtype=mx.float32) * -math.log(10000) / (half - freq_shift)
    angles = timesteps.astype(mx.float32)[:, None] * mx.exp(exponents)
    waves = [mx.cos(angles), mx.sin(angles)] if flip_sin_to_cos else [mx.sin(angles), mx.cos(angles)]
    return mx.pad(mx.concatenate(waves, axis=-1), [(0, 0), (0, channels % 2)])


class TimestepEmbedding(nn.Module):
    """Two layers; before them a condition (an LCM's guidance, `time_cond_proj_dim`) is added to what goes in."""

    def __init__(self, in_channels: int, channels: int, condition_channels: int | None = None):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, channels)
        if condition_channels is not None:
            self.cond_proj = nn.Linear(condition_channels, in_channels, bias=False)
        self.linear_2 = nn.Linear(channels, channels)

    def __call__(self, x: mx.array, condition: mx.array | None = None) -> mx.array:
        """(B, in_channels), and (B, condition_channels) where there is `cond_proj` -> (B, channels)."""
        if condition is not None:
            x = x + self.cond_proj(condition)
        return self.linear_2(silu(self.linear_1(x)))


class AttentionPooling(nn.Module):
    """One query, the mean of the sequence, attends to it and to itself; a layer of DeepFloyd IF's text embedding."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = mx.random.normal((1, channels)) / math.sqrt(channels)
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(B, L, channels) -> (B, channels)."""
        query = x.mean(1, keepdims=True) + self.positional_embedding
        x = mx.concatenate([query, x], axis=1)
        scale = (x.shape[-1] // self.heads) ** -0.5
        return attention(self.q_proj(query), self.k_proj(x), self.v_proj(x), self.heads, scale)[:, 0]


class TextTimeEmbedding(nn.Module):
    """The whole text as one vector, added to the time embedding (`addition_embed_type` "text")."""

    def __init__(self, text_channels: int, time_channels: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(text_channels)
        self.pool = AttentionPooling(text_channels, heads)
        self.proj = nn.Linear(text_channels, time_channels)
        self.norm2 = nn.LayerNorm(time_channels)

    def __call__(self, x: mx.array) -> mx.array:
        return self.norm2(self.proj(self.pool(self.norm1(x))))
