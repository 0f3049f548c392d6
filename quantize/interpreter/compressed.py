"""Ops that unpack weights to float32."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .package import unpack
from .shapes import bounded

Array = np.ndarray[Any, Any]


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    """scale * (data - zero point); each of the two is one number, or has one for each place along `axis`."""
    along = [-1 if dimension == int(axis) % quantized_data.ndim else 1 for dimension in range(quantized_data.ndim)]
    values = quantized_data.astype(np.float32)
    values -= zero_point.astype(np.float32).reshape(along if zero_point.ndim else ())
    values *= scale.reshape(along if scale.ndim else ())
    return values


def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale * (data - offset). A scale and an offset belong to a block of `data`, of data's shape / scale's shape."""
    if data.ndim != scale.ndim or any(
        size % max(count, 1) for size, count in zip(data.shape, scale.shape, strict=True)
    ):
        raise ValueError(f"shape {data.shape} does not divide into {scale.shape} blocks")
    # Each dimension becomes two: its blocks, and the places in a block.
    blocked = [
        part for size, count in zip(data.shape, scale.shape, strict=True) for part in (count, size // max(count, 1))
    ]
    spread = [part for count in scale.shape for part in (count, 1)]
    values = data.astype(np.float32).reshape(blocked)
    if offset is not None:
        values -= offset.astype(np.float32).reshape(spread)
    values *= scale.reshape(spread)
    return values.reshape(data.shape)


def constexpr_lut_to_dense(indices: Array, lut: Array, shape: Array | None = None) -> Array:
    """Each index replaced by its number in the palette `lut`, of 2^n numbers.

    iOS 16 and 17: the indices are packed, n bits each, and `shape` is the shape of the weight. iOS 18: the indices have
    that shape, and `lut` is (1, ..., 1, 2^n, 1).
    """
    palette = lut.reshape(-1)
    if lut.ndim > 1 and lut.shape[-2] != lut.size:
        raise ValueError(f"a palette of shape {lut.shape} is not supported, only one for the whole weight")
    if shape is None:
        if indices.size and indices.max() >= palette.size:
            raise IndexError(f"an index is past the palette's {palette.size} entries")
        return palette[indices]
    sizes = bounded([int(size) for size in shape])
    bits, count = int(palette.size).bit_length() - 1, int(np.prod(sizes))
    if indices.size * 8 < count * bits or palette.size != 2**bits:
        raise ValueError(f"{indices.size} bytes and a palette of {palette.size} do not make shape {tuple(sizes)}")
    return palette[unpack(indices, bits, count)].reshape(sizes)


OPS: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
}
