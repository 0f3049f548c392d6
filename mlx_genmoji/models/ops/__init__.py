"""The operations that all models share, each with a version for every backend.

On a GPU they are MLX's own, with helpers from `metal`, which is imported there. On a CPU they are the kernels of
`cpu`, or within `inference()` the NumPy ones of `cpu_eager`; both equal MLX's to within float32 rounding.

| operation                   | GPU                         | CPU, training       | CPU, inference          |
|-----------------------------|-----------------------------|---------------------|-------------------------|
| silu, gated_gelu            | MLX                         | cpu                 | cpu_eager where large   |
| gelu, quick_gelu            | MLX                         | cpu                 | cpu                     |
| group_norm                  | MLX, in float32             | cpu                 | cpu                     |
| conv2d, upsampled_conv2d    | MLX                         | cpu                 | cpu_eager               |
| downsampled_conv2d          | MLX                         | cpu                 | cpu                     |
| attention                   | MLX; padded heads on Metal  | cpu without a mask  | cpu_eager where large   |

`packed` has the operations of packed weights, `parallel_cast` those of half precision on a CPU.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx
import mlx.nn as nn

from . import cpu, cpu_eager


def on_cpu() -> bool:
    """Whether MLX computes on the CPU."""
    return mx.default_device().type == mx.DeviceType.cpu


_infers: ContextVar[bool] = ContextVar("_infers", default=False)

# Whether the operation is part of a block that is recomputed in the backward pass (`checkpointing`).
within_block: ContextVar[bool] = ContextVar("within_block", default=False)


@contextmanager
def inference() -> Iterator[None]:
    """Promise that nothing within is differentiated, nor compiled on a CPU: allows `cpu_eager` and padded heads."""
    token = _infers.set(True)
    try:
        yield
    finally:
        _infers.reset(token)


def on_metal() -> bool:
    """Whether MLX computes on Apple's GPU."""
    return not on_cpu() and mx.metal.is_available()


@contextmanager
def drawing() -> Iterator[None]:
    """`inference`, for all of a drawing: on a Mac's GPU the arrays stay in memory meanwhile (`metal.wired_memory`)."""
    with inference():
        if not on_metal():
            yield
            return
        from . import metal

        with metal.wired_memory():
            yield


def _use_eager_cpu(x: mx.array) -> bool:
    """Whether an activation of `x` is computed by `cpu_eager`."""
    return on_cpu() and _infers.get() and cpu_eager.worthwhile(x)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    if _use_eager_cpu(x):
        return cpu_eager.silu(x)
    return x * cpu.sigmoid(x) if on_cpu() else nn.silu(x)


def gelu(x: mx.array) -> mx.array:
    """The exact GELU, x * Phi(x)."""
    return 0.5 * x * (1 + cpu.erf(x * math.sqrt(0.5))) if on_cpu() else nn.gelu(x)


def gated_gelu(x: mx.array, gate: mx.array) -> mx.array:
    """x * gelu(gate)."""
    if _use_eager_cpu(x):
        return cpu_eager.gated_gelu(x, gate)
    return x * (0.5 * gate * (1 + cpu.erf(gate * math.sqrt(0.5)))) if on_cpu() else x * nn.gelu(gate)


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
    B, *positions, C = x.shape
    grouped = x.reshape(B, math.prod(positions), groups, C // groups).astype(mx.float32)
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
    B, H, W, C = x.shape
    convolve = (cpu_eager if _infers.get() else cpu).conv2d if on_cpu() else mx.conv2d
    if on_cpu() and max(weight.shape[0], C) < cpu.WIDE:
        return cpu.interleaved_phases(convolve(x, cpu.phase_weights(weight), stride=1, padding=1))
    doubled = mx.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)
    return convolve(doubled, weight, stride=1, padding=1)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, heads: int, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """Scaled dot-product attention of (B, L, heads * D) over (B, S, heads * D) (Vaswani et al., 2017)."""

    def split(x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)

    q, k, v = split(queries), split(keys), split(values)
    if on_cpu() and mask is None and q.dtype == mx.float32 and q.size:
        B, _, L, D = q.shape
        q, k, v = (x.reshape(B * heads, x.shape[2], D) for x in (q, k, v))
        eager = _infers.get() and B * heads * L * k.shape[1] >= cpu_eager.LARGE
        out = (cpu_eager if eager else cpu).attention(q, k, v, scale).reshape(B, heads, L, D)
    else:
        # MLX's fused kernel has no gradient: where one is asked for, padding would only add work.
        attend: Callable[..., mx.array] = mx.fast.scaled_dot_product_attention
        if on_metal() and _infers.get():
            from . import metal

            attend = metal.attention
        out = attend(q, k, v, scale=scale, mask=mask)
    return out.transpose(0, 2, 1, 3).reshape(queries.shape)
