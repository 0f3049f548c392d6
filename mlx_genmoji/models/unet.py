"""UNet2DConditionModel: predicts the noise in latents, told the timestep and the text (Rombach et al., 2022).

Blocks are pure: a down block returns `(h, skips)`, an up block takes the skips that it consumes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .blocks import Attention, Conv2d, Downsample2D, GroupNorm, PointwiseConv, ResnetBlock2D, Upsample2D
from .config import Count, keep_config, parse_config, per_block, require_divisor, require_per_block
from .functions import attention, gelu, silu


@dataclass(frozen=True)
class UNet2DConditionConfig:
    """The fields of diffusers' UNet2DConditionModel that this one honours."""

    cross_attention_dim: Count | tuple[Count, ...]
    attention_head_dim: Count | tuple[Count, ...] = 8
    """The number of heads, in spite of its name."""
    in_channels: Count = 4
    out_channels: Count = 4
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)
    layers_per_block: Count | tuple[Count, ...] = 2
    transformer_layers_per_block: Count | tuple[Count, ...] = 1
    only_cross_attention: bool | tuple[bool, ...] = False
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1.0
    norm_num_groups: Count = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = False
    resnet_time_scale_shift: str = "default"
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    time_embedding_dim: Count | None = None
    center_input_sample: bool = False
    conv_in_kernel: Count = 3
    conv_out_kernel: Count = 3
    addition_embed_type: str | None = None
    addition_embed_type_num_heads: Count = 64

    def __post_init__(self) -> None:
        require_per_block(
            self,
            "down_block_types",
            "up_block_types",
            "attention_head_dim",
            "cross_attention_dim",
            "layers_per_block",
            "only_cross_attention",
            "transformer_layers_per_block",
        )
        count = len(self.block_out_channels)
        heads = per_block(self.attention_head_dim, count)
        for i, (channels, *kinds) in enumerate(
            zip(self.block_out_channels, self.down_block_types, reversed(self.up_block_types), strict=True)
        ):
            require_divisor(self, "norm_num_groups", self.norm_num_groups, channels)
            # The last block's channels are the middle block's, which always attends.
            if i == count - 1 or any(kind.startswith("CrossAttn") for kind in kinds):
                require_divisor(self, "attention_head_dim", heads[i], channels)
        if self.addition_embed_type == "text":
            text_channels = per_block(self.cross_attention_dim, count)[0]
            require_divisor(self, "addition_embed_type_num_heads", self.addition_embed_type_num_heads, text_channels)


ONLY: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text"),
    "attention_type": ("default",),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "downsample_padding": (0, 1),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "resnet_out_scale_factor": (1, 1.0),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "time_embedding_type": ("positional",),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}

# Transformers normalise with an eps of their own, whatever `norm_eps` says.
TRANSFORMER_EPS = 1e-6


def timestep_embedding(timesteps: mx.array, channels: int, flip_sin_to_cos: bool, freq_shift: float) -> mx.array:
    """Sines and cosines of (B,) timesteps, float32 (B, channels) (Vaswani et al., 2017)."""
    half = channels // 2
    exponents = mx.arange(half, dtype=mx.float32) * -math.log(10000) / (half - freq_shift)
    angles = timesteps.astype(mx.float32)[:, None] * mx.exp(exponents)
    waves = [mx.cos(angles), mx.sin(angles)] if flip_sin_to_cos else [mx.sin(angles), mx.cos(angles)]
    return mx.pad(mx.concatenate(waves, axis=-1), [(0, 0), (0, channels % 2)])


class TimestepEmbedding(nn.Module):
    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
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


class GEGLU(nn.Module):
    """Gated GELU (Shazeer, 2020)."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def __call__(self, x: mx.array) -> mx.array:
        x, gate = mx.split(self.proj(x), 2, axis=-1)
        return x * gelu(gate)


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

    def __init__(self, channels: int, text_channels: int, heads: int, only_cross_attention: bool):
        super().__init__()
        self.only_cross_attention = only_cross_attention
        own = text_channels if only_cross_attention else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, own, heads, channels // heads, bias=False)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, text_channels, heads, channels // heads, bias=False)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def __call__(self, x: mx.array, text: mx.array) -> mx.array:
        x = x + self.attn1(self.norm1(x), text if self.only_cross_attention else None)
        x = x + self.attn2(self.norm2(x), text)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """Transformer blocks over the positions of a feature map."""

    def __init__(self, config: UNet2DConditionConfig, channels: int, heads: int, layers: int, text: int, cross: bool):
        super().__init__()
        Projection = nn.Linear if config.use_linear_projection else PointwiseConv
        self.norm = GroupNorm(config.norm_num_groups, channels, TRANSFORMER_EPS)
        self.proj_in = Projection(channels, channels)
        self.transformer_blocks = [BasicTransformerBlock(channels, text, heads, cross) for _ in range(layers)]
        self.proj_out = Projection(channels, channels)

    def __call__(self, x: mx.array, text: mx.array) -> mx.array:
        B, H, W, C = x.shape
        h = self.proj_in(self.norm(x).reshape(B, H * W, C))
        for block in self.transformer_blocks:
            h = block(h, text)
        return x + self.proj_out(h).reshape(B, H, W, C)


class DownBlock(nn.Module):
    """CrossAttnDownBlock2D, or DownBlock2D where it has no attentions."""

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
    """UNetMidBlock2DCrossAttn."""

    def __init__(self, resnets: list[ResnetBlock2D], attentions: list[Transformer2DModel]):
        super().__init__()
        self.resnets = resnets
        self.attentions = attentions

    def __call__(self, x: mx.array, time: mx.array, text: mx.array) -> mx.array:
        x = self.resnets[0](x, time)
        for transformer, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            x = resnet(transformer(x, text), time)
        return x


class UpBlock(nn.Module):
    """CrossAttnUpBlock2D, or UpBlock2D where it has no attentions."""

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
        """`skips`, one for each resnet, the last first; `size` (H, W) of the skips of the block after."""
        for i, (resnet, skip) in enumerate(zip(self.resnets, reversed(skips), strict=True)):
            x = resnet(mx.concatenate([x, skip], axis=-1), time)
            if "attentions" in self:
                x = self.attentions[i](x, text)
        return self.upsamplers[0](x, size) if "upsamplers" in self else x


class UNet2DConditionModel(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: UNet2DConditionConfig, raw_config: Mapping[str, Any]):
        super().__init__()
        self.raw_config: dict[str, Any]
        self.config = config
        keep_config(self, raw_config)

        channels = config.block_out_channels
        count = len(channels)
        heads = per_block(config.attention_head_dim, count)
        layers = per_block(config.layers_per_block, count)
        depths = per_block(config.transformer_layers_per_block, count)
        texts = per_block(config.cross_attention_dim, count)
        crosses = per_block(config.only_cross_attention, count)
        time_channels = config.time_embedding_dim or 4 * channels[0]
        scale_shift = config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps

        def resnet(in_channels: int, out_channels: int) -> ResnetBlock2D:
            return ResnetBlock2D(in_channels, out_channels, groups, eps, time_channels, scale_shift)

        def transformer(i: int, cross: bool) -> Transformer2DModel:
            return Transformer2DModel(config, channels[i], heads[i], depths[i], texts[i], cross)

        self.conv_in = Conv2d(
            config.in_channels, channels[0], config.conv_in_kernel, padding=(config.conv_in_kernel - 1) // 2
        )
        self.time_embedding = TimestepEmbedding(channels[0], time_channels)
        if config.addition_embed_type == "text":
            self.add_embedding = TextTimeEmbedding(texts[0], time_channels, config.addition_embed_type_num_heads)

        self.down_blocks = []
        skip_channels = [channels[0]]
        for i, kind in enumerate(config.down_block_types):
            last = i == count - 1
            self.down_blocks.append(
                DownBlock(
                    [resnet(channels[i] if j else channels[max(i - 1, 0)], channels[i]) for j in range(layers[i])],
                    [transformer(i, crosses[i]) for _ in range(layers[i])] if kind.startswith("CrossAttn") else [],
                    None if last else config.downsample_padding,
                )
            )
            skip_channels += [channels[i]] * (layers[i] + (not last))

        self.mid_block = MidBlock([resnet(channels[-1], channels[-1]) for _ in range(2)], [transformer(-1, False)])

        self.up_blocks = []
        before = channels[-1]
        for kind, i in zip(config.up_block_types, reversed(range(count)), strict=True):
            resnets = []
            for _ in range(layers[i] + 1):
                resnets.append(resnet(before + skip_channels.pop(), channels[i]))
                before = channels[i]
            attentions = [transformer(i, crosses[i]) for _ in resnets] if kind.startswith("CrossAttn") else []
            self.up_blocks.append(UpBlock(resnets, attentions, upsample=i > 0))

        self.conv_norm_out = GroupNorm(groups, channels[0], eps)
        self.conv_out = Conv2d(
            channels[0], config.out_channels, config.conv_out_kernel, padding=(config.conv_out_kernel - 1) // 2
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "UNet2DConditionModel":
        """Random weights for a `config.json`. Raises UserError naming a field that is not supported."""
        return cls(parse_config(UNet2DConditionConfig, config, ONLY), config)

    def __call__(
        self,
        sample: mx.array,
        timesteps: mx.array,
        encoder_hidden_states: mx.array,
        added: Mapping[str, mx.array] | None = None,
    ) -> mx.array:
        """Noisy latents (B, H, W, in_channels), timesteps (B,), text (B, L, cross_attention_dim) -> the prediction
        (B, H, W, out_channels). `added`: further conditions by the checkpoint's own names; none are needed here."""
        config, text = self.config, encoder_hidden_states
        if config.center_input_sample:
            sample = 2 * sample - 1
        waves = timestep_embedding(timesteps, config.block_out_channels[0], config.flip_sin_to_cos, config.freq_shift)
        time = self.time_embedding(waves.astype(sample.dtype))
        if "add_embedding" in self:
            time = time + self.add_embedding(text)
        time = silu(time)

        x = self.conv_in(sample)
        skips = [x]
        for down_block in self.down_blocks:
            x, more = down_block(x, time, text)
            skips += more
        x = self.mid_block(x, time, text)
        for up_block in self.up_blocks:
            own, skips = skips[-len(up_block.resnets) :], skips[: -len(up_block.resnets)]
            size = (skips[-1].shape[1], skips[-1].shape[2]) if skips else None
            x = up_block(x, own, time, text, size)
        return self.conv_out(silu(self.conv_norm_out(x)))
