"""The blocks of the UNet: the time embedding, transformers, and the blocks down, in the middle and up.

Activations are (B, H, W, C).
"""

import math

import mlx.core as mx
import mlx.nn as nn

from .blocks import Attention, Downsample2D, GroupNorm, PointwiseConv, ResnetBlock2D, Upsample2D, recomputes
from .ops import attention, gated_gelu, silu

# As in diffusers, which does not use the config's `norm_eps` here.
TRANSFORMER_EPS = 1e-6


def timestep_embedding(timesteps: mx.array, channels: int, flip_sin_to_cos: bool, freq_shift: float) -> mx.array:
    """The sinusoidal embedding of (B,) timesteps: float32 (B, channels) (Vaswani et al., 2017)."""
    half = channels // 2
    exponents = mx.arange(half, dtype=mx.float32) * -math.log(10000) / (half - freq_shift)
    angles = timesteps.astype(mx.float32)[:, None] * mx.exp(exponents)
    waves = [mx.cos(angles), mx.sin(angles)] if flip_sin_to_cos else [mx.sin(angles), mx.cos(angles)]
    return mx.pad(mx.concatenate(waves, axis=-1), [(0, 0), (0, channels % 2)])


class TimestepEmbedding(nn.Module):
    """Two linear layers. If there is a condition (the guidance of an LCM), its projection is added to their input."""

    def __init__(self, in_channels: int, channels: int, condition_channels: int | None = None):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, channels)
        if condition_channels is not None:
            self.cond_proj = nn.Linear(condition_channels, in_channels, bias=False)
        self.linear_2 = nn.Linear(channels, channels)

    def __call__(self, x: mx.array, condition: mx.array | None = None) -> mx.array:
        """(B, in_channels) and the condition (B, condition_channels), if any -> (B, channels)."""
        if condition is not None:
            x = x + self.cond_proj(condition)
        return self.linear_2(silu(self.linear_1(x)))


class AttentionPooling(nn.Module):
    """Attention with one query, the mean of the sequence, over the query and the sequence (from DeepFloyd IF)."""

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
    """Pools the text into one vector, which is added to the time embedding (`addition_embed_type` "text")."""

    def __init__(self, text_channels: int, time_channels: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(text_channels)
        self.pool = AttentionPooling(text_channels, heads)
        self.proj = nn.Linear(text_channels, time_channels)
        self.norm2 = nn.LayerNorm(time_channels)

    def __call__(self, x: mx.array) -> mx.array:
        return self.norm2(self.proj(self.pool(self.norm1(x))))


class GEGLU(nn.Module):
    """The projection of a gated GELU (Shazeer, 2020), to the values and their gates."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.net = [GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]

    def __call__(self, x: mx.array) -> mx.array:
        values, gates = mx.split(self.net[0].proj(x), 2, axis=-1)
        return self.net[2](gated_gelu(values, gates))


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text and a feed-forward network, each with a residual connection."""

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
            from .checkpointing import recomputed

            return recomputed(self, x, text)
        x = x + self.attn1(self.norm1(x), text if self.only_cross_attention else None)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """Transformer blocks over the positions of a feature map (Rombach et al., 2022).

    linear: whether the checkpoint stores `proj_in` and `proj_out` as linear layers instead of 1x1 convolutions.
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


class DownBlock(nn.Module):
    """CrossAttnDownBlock2D; without attentions, DownBlock2D. Returns the output and the skip connections."""

    def __init__(self, resnets: list[ResnetBlock2D], attentions: list[Transformer2DModel], downsample: int | None):
        super().__init__()
        self.resnets = resnets
        if attentions:
            self.attentions = attentions
        if downsample is not None:
            self.downsamplers = [Downsample2D(resnets[-1].conv2.weight.shape[0], downsample)]

    def __call__(self, x: mx.array, time: mx.array, text: mx.array) -> tuple[mx.array, list[mx.array]]:
        skips = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if "attentions" in self:
                x = self.attentions[i](x, text)
            skips.append(x)
        if "downsamplers" in self:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """UNetMidBlock2DCrossAttn; with one resnet and no attentions, UNetMidBlock2D."""

    def __init__(self, resnets: list[ResnetBlock2D], attentions: list[Transformer2DModel]):
        super().__init__()
        self.resnets = resnets
        if attentions:
            self.attentions = attentions

    def __call__(self, x: mx.array, time: mx.array, text: mx.array) -> mx.array:
        x = self.resnets[0](x, time)
        for i, resnet in enumerate(self.resnets[1:]):
            x = resnet(self.attentions[i](x, text), time)
        return x


class UpBlock(nn.Module):
    """CrossAttnUpBlock2D; without attentions, UpBlock2D."""

    def __init__(self, resnets: list[ResnetBlock2D], attentions: list[Transformer2DModel], upsample: bool):
        super().__init__()
        self.resnets = resnets
        if attentions:
            self.attentions = attentions
        if upsample:
            self.upsamplers = [Upsample2D(resnets[-1].conv2.weight.shape[0])]

    def __call__(
        self,
        x: mx.array,
        skips: list[mx.array],
        time: mx.array,
        text: mx.array,
        size: tuple[int, int] | None,
    ) -> mx.array:
        """skips: one for each resnet, used from the last on. size: (H, W) of the next block's skips."""
        for i, (resnet, skip) in enumerate(zip(self.resnets, reversed(skips), strict=True)):
            x = resnet(mx.concatenate([x, skip], axis=-1), time)
            if "attentions" in self:
                x = self.attentions[i](x, text)
        return self.upsamplers[0](x, size) if "upsamplers" in self else x
