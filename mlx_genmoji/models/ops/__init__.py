"""Arithmetic that every block shares. On a GPU it is MLX's own, with a few helps from `metal`; on a CPU the forms of
`cpu` stand in, and those of `cpu_eager` where nothing is differentiated, equal to within float32 rounding."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from . import cpu, cpu_eager, metal


def on_cpu() -> bool:
    """Whether MLX computes on the CPU."""
    return mx.default_device().type == mx.DeviceType.cpu


_infers: ContextVar[bool] = ContextVar("_infers", default=False)


@contextmanager
def inference() -> Iterator[None]:
    """Within, nothing is differentiated or compiled, so what is quicker computed at once may be."""
    token = _infers.set(True)
    try:
        yield
    finally:
        _infers.reset(token)


def on_metal() -> bool:
    """Whether MLX computes on Apple's GPU."""
    return not on_cpu() and mx.metal.is_available()


def _now(x: mx.array) -> bool:
    """Whether what is made of `x` is computed at once."""
    return on_cpu() and _infers.get() and cpu_eager.worthwhile(x)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    if _now(x):
        return cpu_eager.silu(x)
    return x * cpu.sigmoid(x) if on_cpu() else nn.silu(x)


def gelu(x: mx.array) -> mx.array:
    """The exact GELU, x * Phi(x)."""
    return 0.5 * x * (1 + cpu.erf(x * math.sqrt(0.5))) if on_cpu() else nn.gelu(x)


def gated_gelu(x: mx.array, gate: mx.array) -> mx.array:
    """x * gelu(gate)."""
    return cpu_eager.gated_gelu(x, gate) if _now(x) else x * gelu(gate)


def quick_gelu(x: mx.array) -> mx.array:
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * (cpu.sigmoid(1.702 * x) if on_cpu() else mx.sigmoid(1.702 * x))


def relu(x: mx.array) -> mx.array:
    """max(x, 0)."""
    return mx.maximum(x, 0)


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": silu,
    "swish": silu,
    "gelu": gelu,
    "quick_gelu": quick_gelu,
}


def group_norm(x: mx.array, groups: int, weight: mx.array, bias: mx.array, eps: float) -> mx.array:
    """Normalise (B, ..., C) over its positions and the channels of each group (Wu and He, 2018)."""
    if on_cpu():
        return cpu.group_norm(x, groups, weight, bias, eps)
    grouped = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups).astype(mx.float32)
    grouped = grouped - grouped.mean((1, 3), keepdims=True)
    grouped = grouped * mx.rsqrt(grouped.square().mean((1, 3), keepdims=True) + eps)
    return grouped.astype(x.dtype).reshape(x.shape) * weight + bias


def conv2d(x: mx.array, weight: mx.array, stride: int, padding: int) -> mx.array:
    """The convolution of (B, H, W, C) with (O, kh, kw, C)."""
    if on_cpu():
        return (cpu_eager if _infers.get() else cpu).conv2d(x, weight, stride, padding)
    return mx.conv2d(x, weight, stride=stride, padding=padding)


def downsampled_conv2d(x: mx.array, weight: mx.array, padding: int) -> mx.array:
    """A 3x3 convolution of stride 2; with padding 0, (B, H, W, C) is padded below and to the right by one."""
    if on_cpu() and x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0:
        return cpu.downsampled_conv2d(x, weight, padding)
    if padding == 0:
        x = mx.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)])
    return mx.conv2d(x, weight, stride=2, padding=padding)


def upsampled_conv2d(x: mx.array, weight: mx.array) -> mx.array:
    """Nearest-neighbour doubling of (B, H, W, C), then a 3x3 convolution: (B, 2H, 2W, O)."""
    if on_cpu():
        return (cpu_eager if _infers.get() else cpu).upsampled_conv2d(x, weight)
    B, H, W, C = x.shape
    doubled = mx.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)
    return mx.conv2d(doubled, weight, padding=1)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, heads: int, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """Scaled dot-product attention of (B, L, heads * D) over (B, S, heads * D) (Vaswani et al., 2017)."""

    def split(x: mx.array) -> mx.array:
        return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = split(queries), split(keys), split(values)
    if on_cpu() and mask is None and q.dtype == mx.float32:
        B, _, L, D = q.shape
        q, k, v = (x.reshape(B * heads, -1, D) for x in (q, k, v))
        out = (cpu_eager if _infers.get() else cpu).attention(q, k, v, scale).reshape(B, heads, L, D)
    else:
        attend = metal.attention if on_metal() else mx.fast.scaled_dot_product_attention
        out = attend(q, k, v, scale=scale, mask=mask)
    return out.transpose(0, 2, 1, 3).reshape(queries.shape)


def dequantize(packed: Sequence[mx.array], layout: Mapping[str, Any], dtype: mx.Dtype) -> mx.array:
    """A packed weight (weight, scales and, in mode affine, biases) as the dense one; `layout`: bits, group_size, mode.

    The scales are few, and converted before: MLX computes in their precision.
    """
    packed = [part.astype(dtype) if mx.issubdtype(part.dtype, mx.floating) else part for part in packed]
    if on_cpu():
        return cpu.dequantize(packed, layout, dtype)
    weight, scales, *biases = packed
    return mx.dequantize(weight, scales, biases[0] if biases else None, **layout, dtype=dtype)


def packed_matmul(x: mx.array, packed: Sequence[mx.array], layout: Mapping[str, Any]) -> mx.array:
    """x @ W.T for a packed W, differentiable by x."""
    if on_cpu():
        return with_dequantized(lambda x, weight: x @ weight.T, x, packed, layout)
    weight, scales, *biases = packed
    return mx.quantized_matmul(x, weight, scales, biases[0] if biases else None, **layout)


# Whether what is computed belongs to a block that is computed again for its gradient (`checkpointing`).
within_block: ContextVar[bool] = ContextVar("within_block", default=False)


def with_dequantized(
    operation: Callable[[mx.array, mx.array], mx.array],
    x: mx.array,
    packed: Sequence[mx.array],
    layout: Mapping[str, Any],
) -> mx.array:
    """operation(x, dense weight), differentiable by x: the dense weight is made anew for the gradient, never kept.

    Where a whole block is computed again for its gradient, what is made for the one does for the other.
    """
    if within_block.get():
        return operation(x, dequantize(packed, layout, x.dtype))

    @mx.custom_function
    def forward(x: mx.array, *packed: mx.array) -> mx.array:
        return operation(x, dequantize(packed, layout, x.dtype))

    @forward.vjp
    def backward(primals: Sequence[mx.array], cotangent: mx.array, output: mx.array) -> tuple[mx.array, ...]:
        x, *packed = primals
        # Only once the cotangent is there: before, it would wait in memory.
        weight = dequantize(mx.depends(packed, [cotangent]), layout, x.dtype)
        _, gradients = mx.vjp(lambda x: operation(x, weight), [x], [cotangent])
        return (gradients[0], *map(mx.zeros_like, packed))

    return cast(mx.array, forward(x, *packed))
