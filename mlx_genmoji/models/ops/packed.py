"""Operations of packed (quantized) weights, for inference and training.

On a GPU they are MLX's own. On a CPU a weight is dequantized by vector operations, then multiplied: MLX's own product
of packed weights is scalar code there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx

from . import on_cpu, within_block


def dequantize(packed: Sequence[mx.array], layout: Mapping[str, Any], dtype: mx.Dtype) -> mx.array:
    """A packed weight (weight, scales and, in mode affine, biases) as the dense one, of `dtype`.

    layout: bits, group_size and mode, as `mx.dequantize` takes them.
    """
    # MLX computes in the precision of the scales.
    packed = [part.astype(dtype) if mx.issubdtype(part.dtype, mx.floating) else part for part in packed]
    if on_cpu():
        return _dequantize_on_cpu(packed, layout, dtype)
    weight, scales, *biases = packed
    return mx.dequantize(weight, scales, biases[0] if biases else None, **layout, dtype=dtype)


def _dequantize_on_cpu(packed: Sequence[mx.array], layout: Mapping[str, Any], dtype: mx.Dtype) -> mx.array:
    """`dequantize` for a CPU: 2, 4 and 8 bits by vector operations, other layouts by MLX's scalar code."""
    weight, scales, *biases = packed
    if layout["mode"] != "affine" or layout["bits"] not in _SPREAD:
        return mx.dequantize(weight, scales, biases[0] if biases else None, **layout, dtype=dtype)
    numbers = _SPREAD[layout["bits"]](mx.view(weight, mx.uint8)).astype(mx.float32)
    grouped = numbers.reshape(*scales.shape, -1) * scales[..., None] + biases[0][..., None]
    return grouped.reshape(*scales.shape[:-1], -1).astype(dtype)


def _spread_pairs(packed: mx.array) -> mx.array:
    pairs = packed.astype(mx.uint16)
    return mx.view((pairs | pairs << 4) & 0x0F0F, mx.uint8)


def _spread_fours(packed: mx.array) -> mx.array:
    fours = packed.astype(mx.uint32)
    fours = (fours | fours << 12) & 0x000F000F
    return mx.view((fours | fours << 6) & 0x03030303, mx.uint8)


# By the bits of a number: bytes that hold one or several -> bytes of one each. Numbers lie lowest bits first.
_SPREAD = {2: _spread_fours, 4: _spread_pairs, 8: lambda packed: packed}


def packed_matmul(x: mx.array, packed: Sequence[mx.array], layout: Mapping[str, Any]) -> mx.array:
    """x @ W.T for a packed W, differentiable by x."""
    if on_cpu():
        return with_dequantized(lambda x, weight: x @ weight.T, x, packed, layout)
    weight, scales, *biases = packed
    return mx.quantized_matmul(x, weight, scales, biases[0] if biases else None, **layout)


def with_dequantized(
    operation: Callable[[mx.array, mx.array], mx.array],
    x: mx.array,
    packed: Sequence[mx.array],
    layout: Mapping[str, Any],
) -> mx.array:
    """operation(x, dense weight), differentiable by x: the weight is dequantized again for the gradient, never kept.

    Within a block that is recomputed as a whole, the block's own recomputation does that.
    """
    if within_block.get():
        return operation(x, dequantize(packed, layout, x.dtype))

    @mx.custom_function
    def forward(x: mx.array, *packed: mx.array) -> mx.array:
        return operation(x, dequantize(packed, layout, x.dtype))

    @forward.vjp
    def backward(primals: Sequence[mx.array], cotangent: mx.array, output: mx.array) -> tuple[mx.array, ...]:
        x, *packed = primals
        # Not before the cotangent is there: the dense weight would wait in memory for it.
        weight = dequantize(mx.depends(packed, [cotangent]), layout, x.dtype)
        _, gradients = mx.vjp(lambda x: operation(x, weight), [x], [cotangent])
        return (gradients[0], *map(mx.zeros_like, packed))

    return cast(mx.array, forward(x, *packed))
