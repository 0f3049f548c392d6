"""Ops that unpack weights. Their iOS 16 and iOS 18 variants share names and differ in parameters.

In a sparse pair (mask, nonzero data) the data are the elements under the mask's ones, in rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .convolutions import bounded
from .package import unpack

Array = np.ndarray[Any, Any]


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    """scale (data - zero point), each a number or one for each place along `axis`."""
    along = [-1 if at == int(axis) % quantized_data.ndim else 1 for at in range(quantized_data.ndim)]
    values = quantized_data.astype(np.float32)
    values -= zero_point.astype(np.float32).reshape(along if zero_point.ndim else ())
    values *= scale.reshape(along if scale.ndim else ())
    return values


def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale (data - offset), each scale and offset for a block of data, of data's shape / scale's shape."""
    blocked, spread = _blocks(data.shape, scale.shape)
    values = data.astype(np.float32).reshape(blocked)
    if offset is not None:
        values -= offset.astype(np.float32).reshape(spread)
    values *= scale.reshape(spread)
    return values.reshape(data.shape)


def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: Array | None = None
) -> Array:
    """Values by their place in a palette.

    iOS 16: lut (2^n,), indices packed n bits each, with the `shape` they make. iOS 18: lut (*groups, 2^n, V), a palette
    for each block of indices, of V elements that lie along `vector_axis`.
    """
    if shape is not None:
        sizes = bounded([int(size) for size in shape])
        bits, count = int(lut.size).bit_length() - 1, int(np.prod(sizes))
        if indices.size * 8 < count * bits or lut.size != 2**bits:
            raise ValueError(f"{indices.size} bytes and a palette of {lut.size} do not make shape {tuple(sizes)}")
        return lut[unpack(indices, bits, count)].reshape(sizes)
    groups, (palette, vector) = lut.shape[:-2], lut.shape[-2:]
    blocked, spread = _blocks(indices.shape, groups)
    if indices.size and indices.max() >= palette:
        raise IndexError(f"an index is past the palette's {palette} entries")
    first = np.arange(int(np.prod(groups)), dtype=np.int32).reshape(spread) * np.int32(palette)
    places = (indices.reshape(blocked) + first if first.size > 1 else indices).reshape(indices.shape)
    values = lut.reshape(-1, vector)[places]
    if vector_axis is None:
        if vector != 1:
            raise ValueError(f"a palette of vectors of {vector} has no vector_axis")
        return values[..., 0]
    axis = int(vector_axis) % indices.ndim
    bounded(sizes := [size * vector if at == axis else size for at, size in enumerate(indices.shape)])
    return np.moveaxis(values, -1, axis + 1).reshape(sizes)


def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """iOS 16: mask packed eight to a byte, with the `shape` it makes. iOS 18: mask of ones and zeros."""
    if shape is not None:
        sizes = bounded([int(size) for size in shape])
        mask = unpack(mask, 1, int(np.prod(sizes))).reshape(sizes)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None
) -> tuple[Array, Array]:
    """-> mask, nonzero data."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, vector_axis=vector_axis)
    mask = indices_mask if vector_axis is None else np.repeat(indices_mask, lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """-> mask, nonzero data."""
    dense = constexpr_blockwise_shift_scale(constexpr_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def constexpr_cast(source_val: Array, output_dtype: Array) -> Array:
    return source_val


def _blocks(shape: tuple[int, ...], groups: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """`shape` with each dimension as groups and a group's places, and the shape in which `groups` broadcast to it."""
    if len(shape) != len(groups) or any(size % max(count, 1) for size, count in zip(shape, groups, strict=True)):
        raise ValueError(f"shape {shape} does not divide into {groups} blocks")
    blocked = [part for size, count in zip(shape, groups, strict=True) for part in (count, size // max(count, 1))]
    return blocked, [part for count in groups for part in (count, 1)]


OPS: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_cast": constexpr_cast,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "constexpr_lut_to_sparse": constexpr_lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": constexpr_sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": constexpr_sparse_to_dense,
}
