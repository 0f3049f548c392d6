"""The UNet's transformers: positions of a feature map attend to each other and to the text (Rombach et al., 2022)."""

import mlx.core as mx
import mlx.nn as nn

from .blocks import Attention, GroupNorm, PointwiseConv
from .checkpointing import recomputed, recomputes
from .ops import gated_gelu

# As in diffusers, whatever the config's `norm_eps`.
TRANSFORMER_EPS = 1e-6


class GEGLU(nn.Module):
    """Gated GELU (Shazeer, 2020)."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def __call__(self, x: mx.array) -> mx.array:
        x, gate = mx.split(self.proj(x), 2, axis=-1)
        return gated_gelu(x, gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.net = [GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.net:
            x = layer(x)
        return x


class BasicTransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward, each added to its normalised input."""

    checkpointing = False

    def __init__(self, channels: int, text_channels: int, heads: int, only_cross_attention: bool, upcast: bool):
        super().__init__()
        self.only_cross_attention = only_cross_attention
        context_channels = text_channels if only_cross_attention else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, context_channels, heads, channels // heads, bias=False, upcast=upcast)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, text_channels, heads, channels // heads, bias=False, upcast=upcast)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def __call__(self, x: mx.array, text: mx.array) -> mx.array:
        if recomputes(self):
            return recomputed(self, x, text)
        x = x + self.attn1(self.norm1(x), text if self.only_cross_attention else None)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """Transformer blocks over the positions of a feature map.

    linear: whether the checkpoint stores `proj_in` and `proj_out` as linear layers, not as 1x1 convolutions.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        heads: int,
        depth: int,
        groups: int,
        linear: bool,
        only_cross_attention: bool,
        upcast: bool,
    ):
        super().__init__()
        Projection = nn.Linear if linear else PointwiseConv
        self.norm = GroupNorm(groups, channels, TRANSFORMER_EPS)
        self.proj_in = Projection(channels, channels)
        self.transformer_blocks = []
        for _ in range(depth):
            block = BasicTransformerBlock(channels, text_channels, heads, only_cross_attention, upcast)
            self.transformer_blocks.append(block)
        self.proj_out = Projection(channels, channels)

    def __call__(self, x: mx.array, text: mx.array) -> mx.array:
        B, H, W, C = x.shape
        h = self.proj_in(self.norm(x).reshape(B, H * W, C))
        for block in self.transformer_blocks:
            h = block(h, text)
        return x + self.proj_out(h).reshape(B, H, W, C)
