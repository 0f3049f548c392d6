"""AutoencoderTiny: TAESD, a small distilled autoencoder for previews (Ollin Boer Bohan, 2023).

Pictures are (B, H, W, 3) in [-1, 1]; latents (B, H / f, W / f, latent_channels) with f = 2 ** (stages - 1). It
takes the UNet's latents unchanged: its `scaling_factor` is 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from . import Count, Depth, field_error, keep_config, parse_config, require_few_layers
from .blocks import Conv2d, Convolution
from .ops import downsampled_conv2d, relu, upsampled_conv2d


@dataclass(frozen=True)
class AutoencoderTinyConfig:
    """The supported fields of diffusers' AutoencoderTiny."""

    in_channels: Count = 3
    out_channels: Count = 3
    encoder_block_out_channels: tuple[Count, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[Count, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[Depth, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[Depth, ...] = (3, 3, 3, 1)
    latent_channels: Count = 4
    scaling_factor: float = 1.0
    shift_factor: float | None = 0.0
    force_upcast: bool = False

    def __post_init__(self) -> None:
        for half in ("encoder", "decoder"):
            channels = getattr(self, f"{half}_block_out_channels")
            blocks = getattr(self, f"num_{half}_blocks")
            if len(set(channels)) > 1:
                raise field_error(
                    type(self), f"{half}_block_out_channels", list(channels), "but its items must be equal"
                )
            if len(channels) != len(blocks):
                why = f"it must have one item for each of {len(channels)} stages"
                raise field_error(type(self), f"num_{half}_blocks", list(blocks), why)
            require_few_layers(self, f"num_{half}_blocks", sum(blocks))


ONLY: dict[str, tuple[Any, ...]] = {
    "act_fn": ("relu",),
    "upsample_fn": ("nearest",),
    "upsampling_scaling_factor": (2,),
}

# The decoder first squashes latents into [-MAX_LATENT, MAX_LATENT]; as in diffusers, `latent_magnitude` is ignored.
MAX_LATENT = 3


class Activation(nn.Module):
    """ReLU as a layer, because it takes up an index in the checkpoint's keys."""

    def __call__(self, x: mx.array) -> mx.array:
        return relu(x)


class HalvingConv2d(Conv2d):
    """A 3x3 convolution of stride 2, padded all around."""

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        return super().__call__(x, operation or partial(downsampled_conv2d, padding=1))


class DoublingConv2d(Conv2d):
    """Nearest-neighbour doubling, then a 3x3 convolution. In the checkpoint's keys the doubling is a separate layer."""

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        return super().__call__(x, operation or upsampled_conv2d)


class AutoencoderTinyBlock(nn.Module):
    """Three convolutions with a residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        convs = [Conv2d(channels, channels, 3, padding=1) for _ in range(3)]
        self.conv = [convs[0], Activation(), convs[1], Activation(), convs[2]]

    def __call__(self, x: mx.array) -> mx.array:
        h = x
        for layer in self.conv:
            h = layer(h)
        return relu(h + x)


class EncoderTiny(nn.Module):
    def __init__(self, config: AutoencoderTinyConfig):
        super().__init__()
        channels = config.encoder_block_out_channels[0]
        self.layers: list[nn.Module] = []
        for stage, blocks in enumerate(config.num_encoder_blocks):
            if stage == 0:
                self.layers.append(Conv2d(config.in_channels, channels, 3, padding=1))
            else:
                self.layers.append(HalvingConv2d(channels, channels, 3, bias=False))
            self.layers += [AutoencoderTinyBlock(channels) for _ in range(blocks)]
        self.layers.append(Conv2d(channels, config.latent_channels, 3, padding=1))

    def __call__(self, x: mx.array) -> mx.array:
        x = (x + 1) / 2
        for layer in self.layers:
            x = layer(x)
        return x


class DecoderTiny(nn.Module):
    def __init__(self, config: AutoencoderTinyConfig):
        super().__init__()
        channels = config.decoder_block_out_channels[0]
        self.layers: list[nn.Module] = [Conv2d(config.latent_channels, channels, 3, padding=1), Activation()]
        *stages, last = config.num_decoder_blocks
        for blocks in stages:
            self.layers += [AutoencoderTinyBlock(channels) for _ in range(blocks)]
            self.layers += [nn.Identity(), DoublingConv2d(channels, channels, 3, bias=False)]
        self.layers += [AutoencoderTinyBlock(channels) for _ in range(last)]
        self.layers.append(Conv2d(channels, config.out_channels, 3, padding=1))

    def __call__(self, x: mx.array) -> mx.array:
        x = mx.tanh(x / MAX_LATENT) * MAX_LATENT
        for layer in self.layers:
            x = layer(x)
        return 2 * x - 1


class AutoencoderTiny(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: AutoencoderTinyConfig, raw_config: Mapping[str, Any]):
        super().__init__()
        self.raw_config: dict[str, Any]
        self.config = config
        keep_config(self, raw_config)
        self.encoder = EncoderTiny(config)
        self.decoder = DecoderTiny(config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "AutoencoderTiny":
        """A model with random weights for a `config.json`. Raises UserError if a field is not supported."""
        return cls(parse_config(AutoencoderTinyConfig, config, ONLY), config)

    @property
    def downscale(self) -> int:
        """Pixels per latent position, along each side."""
        return 2 ** (len(self.config.num_decoder_blocks) - 1)

    def encode(self, images: mx.array) -> tuple[mx.array, mx.array]:
        """(B, H, W, 3) in [-1, 1] -> mean and log-variance of the latents, like AutoencoderKL's; the variance is 0."""
        latents = self.encoder(images)
        return latents, mx.full(latents.shape, -mx.inf, latents.dtype)

    def decode(self, latents: mx.array) -> mx.array:
        """(B, h, w, latent_channels), unscaled -> pictures (B, h * f, w * f, 3), about [-1, 1]."""
        return self.decoder(latents)
