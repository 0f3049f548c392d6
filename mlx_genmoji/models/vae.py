"""AutoencoderKL: pictures to latents and back (Kingma and Welling, 2013; Rombach et al., 2022).

Pictures are (B, H, W, 3) in [-1, 1]; latents (B, H / f, W / f, latent_channels) with f = 2 ** (blocks - 1), unscaled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import (
    Count,
    field_error,
    keep_config,
    parse_config,
    require_divisor,
    require_few_layers,
    require_per_block,
)
from .blocks import Attention, Conv2d, Downsample2D, GroupNorm, PointwiseConv, ResnetBlock2D, Upsample2D
from .ops import silu


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """The supported fields of diffusers' AutoencoderKL."""

    down_block_types: tuple[str, ...]
    up_block_types: tuple[str, ...]
    block_out_channels: tuple[Count, ...]
    in_channels: Count = 3
    out_channels: Count = 3
    layers_per_block: Count = 1
    latent_channels: Count = 4
    norm_num_groups: Count = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    """Of each channel of the latents. With both, latents are `(mode - latents_mean) * scaling_factor / latents_std`."""
    force_upcast: bool = True
    """Whether the network overflows in half precision and must compute in float32."""
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        require_per_block(self, "down_block_types", "up_block_types")
        require_few_layers(self, "layers_per_block", self.layers_per_block * len(self.block_out_channels))
        for key in ("latents_mean", "latents_std"):
            value = getattr(self, key)
            if value is not None and len(value) != self.latent_channels:
                why = f"it must have one number for each of {self.latent_channels} channels"
                raise field_error(type(self), key, list(value), why)
        if self.latents_std is not None and 0 in self.latents_std:
            raise field_error(type(self), "latents_std", list(self.latents_std), "but a deviation is not 0")
        for channels in self.block_out_channels:
            require_divisor(self, "norm_num_groups", self.norm_num_groups, channels)


ONLY = {
    "act_fn": ("silu", "swish"),
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
}

EPS = 1e-6


class DownEncoderBlock2D(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, layers: int, groups: int, downsample: bool):
        super().__init__()
        self.resnets = [
            ResnetBlock2D(out_channels if i else in_channels, out_channels, groups, EPS) for i in range(layers)
        ]
        if downsample:
            self.downsamplers = [Downsample2D(out_channels, padding=0)]

    def __call__(self, x: mx.array) -> mx.array:
        for resnet in self.resnets:
            x = resnet(x)
        return self.downsamplers[0](x) if "downsamplers" in self else x


class UpDecoderBlock2D(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, layers: int, groups: int, upsample: bool):
        super().__init__()
        self.resnets = [
            ResnetBlock2D(out_channels if i else in_channels, out_channels, groups, EPS) for i in range(layers)
        ]
        if upsample:
            self.upsamplers = [Upsample2D(out_channels)]

    def __call__(self, x: mx.array) -> mx.array:
        for resnet in self.resnets:
            x = resnet(x)
        return self.upsamplers[0](x) if "upsamplers" in self else x


class MidBlock2D(nn.Module):
    def __init__(self, channels: int, groups: int, add_attention: bool):
        super().__init__()
        self.resnets = [ResnetBlock2D(channels, channels, groups, EPS) for _ in range(2)]
        if add_attention:
            self.attentions = [Attention(channels, None, 1, channels, bias=True, groups=groups, eps=EPS)]

    def __call__(self, x: mx.array) -> mx.array:
        x = self.resnets[0](x)
        if "attentions" in self:
            x = x + self.attentions[0](x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)
        return self.resnets[1](x)


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = []
        for i, out in enumerate(channels):
            before, last = channels[max(i - 1, 0)], i == len(channels) - 1
            block = DownEncoderBlock2D(before, out, config.layers_per_block, groups, downsample=not last)
            self.down_blocks.append(block)
        self.mid_block = MidBlock2D(channels[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = GroupNorm(groups, channels[-1], EPS)
        self.conv_out = Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        channels, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = MidBlock2D(channels[0], groups, config.mid_block_add_attention)
        self.up_blocks = []
        for i, out in enumerate(channels):
            before, last = channels[max(i - 1, 0)], i == len(channels) - 1
            block = UpDecoderBlock2D(before, out, config.layers_per_block + 1, groups, upsample=not last)
            self.up_blocks.append(block)
        self.conv_norm_out = GroupNorm(groups, channels[-1], EPS)
        self.conv_out = Conv2d(channels[-1], config.out_channels, 3, padding=1)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class AutoencoderKL(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: AutoencoderKLConfig, raw_config: Mapping[str, Any]):
        super().__init__()
        self.raw_config: dict[str, Any]
        self.config = config
        keep_config(self, raw_config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        latent = config.latent_channels
        if config.use_quant_conv:
            self.quant_conv = PointwiseConv(2 * latent, 2 * latent)
        if config.use_post_quant_conv:
            self.post_quant_conv = PointwiseConv(latent, latent)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "AutoencoderKL":
        """A model with random weights for a `config.json`. Raises UserError if a field is not supported."""
        return cls(parse_config(AutoencoderKLConfig, config, ONLY), config)

    @property
    def downscale(self) -> int:
        """Pixels per latent position, along each side."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def encode(self, images: mx.array) -> tuple[mx.array, mx.array]:
        """(B, H, W, 3) in [-1, 1] -> mean and log-variance of the latents, unscaled."""
        moments = self.encoder(images)
        if "quant_conv" in self:
            moments = self.quant_conv(moments)
        mean, log_variance = mx.split(moments, 2, axis=-1)
        return mean, mx.clip(log_variance, -30.0, 20.0)

    def decode(self, latents: mx.array) -> mx.array:
        """(B, h, w, latent_channels), unscaled -> pictures (B, h * f, w * f, 3), about [-1, 1]."""
        if "post_quant_conv" in self:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)
