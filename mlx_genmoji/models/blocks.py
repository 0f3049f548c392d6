"""Layers that the UNet and the autoencoder share. Activations are (B, H, W, C)."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from .ops import attention, conv2d, downsampled_conv2d, group_norm, silu, upsampled_conv2d, within_block

# (B, H, W, C) and a weight (O, kh, kw, C) -> (B, H', W', O)
Convolution = Callable[[mx.array, mx.array], mx.array]


def recomputes(block: nn.Module) -> bool:
    """Whether a call of `block` shall go through `checkpointing.recomputed`: checkpointing is on, in training, and this
    is not its recomputation.

    For blocks that never contain one another.
    """
    return bool(block.checkpointing) and not within_block.get()


class PointwiseConv(nn.Linear):
    """A 1x1 convolution as a linear layer. Files store its weight as (out, in, 1, 1)."""


class Conv2d(nn.Conv2d):
    """A convolution with a square kernel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        """operation: replaces the plain convolution, such as one fused with resampling."""
        if operation is None:
            operation = partial(conv2d, stride=self.stride[0], padding=self.padding[0])
        y = operation(x, self.weight)
        return y + self.bias if "bias" in self else y


class GroupNorm(nn.Module):
    """Group normalisation of (B, ..., C). `eps` has no default, because it differs within one checkpoint."""

    def __init__(self, groups: int, channels: int, eps: float):
        super().__init__()
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))
        self.groups = groups
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return group_norm(x, self.groups, self.weight, self.bias, self.eps)


class ResnetBlock2D(nn.Module):
    """Two normalised convolutions with a residual connection, conditioned on the time embedding.

    time_channels: None for the autoencoder, which has no timesteps. scale_shift: the embedding scales and shifts the
    activations; otherwise it is added to them.
    """

    checkpointing = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        eps: float,
        time_channels: int | None = None,
        scale_shift: bool = False,
    ):
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = GroupNorm(groups, in_channels, eps)
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1)
        if time_channels is not None:
            self.time_emb_proj = nn.Linear(time_channels, out_channels * (2 if scale_shift else 1))
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.conv_shortcut = PointwiseConv(in_channels, out_channels)

    def __call__(self, x: mx.array, activated_time: mx.array | None = None) -> mx.array:
        """activated_time: SiLU of the time embedding, (B, time_channels); computed once for all blocks."""
        if recomputes(self):
            from .checkpointing import recomputed

            return recomputed(self, x, activated_time)
        h = self.conv1(silu(self.norm1(x)))
        if activated_time is None:
            h = self.norm2(h)
        else:
            time = self.time_emb_proj(activated_time)[:, None, None]
            if self.scale_shift:
                scale, shift = mx.split(time, 2, axis=-1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + time)
        h = self.conv2(silu(h))
        return h + (self.conv_shortcut(x) if "conv_shortcut" in self else x)


class Downsample2D(nn.Module):
    """A convolution of stride 2. The autoencoder pads the bottom and right only (padding 0), the UNet all sides."""

    def __init__(self, channels: int, padding: int):
        super().__init__()
        self.padding = padding
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=padding)

    def __call__(self, x: mx.array) -> mx.array:
        return self.conv(x, partial(downsampled_conv2d, padding=self.padding))


class Upsample2D(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def __call__(self, x: mx.array, size: tuple[int, int] | None = None) -> mx.array:
        """size: (H, W) of the result; None is twice that of `x`. A skip connection of an odd size needs another."""
        B, H, W, C = x.shape
        if size in (None, (2 * H, 2 * W)):
            return self.conv(x, upsampled_conv2d)
        rows = mx.arange(size[0]) * H // size[0]
        columns = mx.arange(size[1]) * W // size[1]
        return self.conv(x[:, rows][:, :, columns])


class Attention(nn.Module):
    """Self-attention over positions, or cross-attention if `context` is given."""

    checkpointing = False

    def __init__(
        self,
        channels: int,
        context_channels: int | None,
        heads: int,
        head_channels: int,
        bias: bool,
        groups: int = 0,
        eps: float = 1e-5,
        upcast: bool = False,
    ):
        """upcast: compute attention in float32 with weights of any dtype, because the scores of some models overflow
        float16.
        """
        super().__init__()
        inner = heads * head_channels
        self.heads = heads
        self.upcast = upcast
        self.scale = head_channels**-0.5
        if groups:
            self.group_norm = GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, inner, bias=bias)
        self.to_k = nn.Linear(context_channels or channels, inner, bias=bias)
        self.to_v = nn.Linear(context_channels or channels, inner, bias=bias)
        self.to_out = [nn.Linear(inner, channels)]

    def __call__(self, x: mx.array, context: mx.array | None = None) -> mx.array:
        """(B, L, channels), and (B, S, context_channels) -> (B, L, channels)."""
        if "group_norm" in self:
            x = self.group_norm(x)
        context = x if context is None else context
        projected = self.to_q(x), self.to_k(context), self.to_v(context)
        if self.upcast:
            q, k, v = (array.astype(mx.float32) for array in projected)
        else:
            q, k, v = projected
        attend: Callable[..., mx.array] = attention
        if self.checkpointing:
            from .checkpointing import attention_in_chunks

            attend = attention_in_chunks
        return self.to_out[0](attend(q, k, v, self.heads, self.scale).astype(x.dtype))
