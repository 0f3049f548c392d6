"""Ops that move, join, repeat and pick elements."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def axes_of(axes: Array | None) -> tuple[int, ...] | None:
    """MIL's axes as a tuple; None, for all axes, where none are given."""
    return None if axes is None else tuple(int(axis) for axis in np.ravel(axes))


def bounded(shape: Sequence[int]) -> Sequence[int]:
    """`shape`, unless an array of it would be larger than any of a diffusion model: then the package is wrong."""
    if any(size < 0 for size in shape) or np.prod(np.array(shape, dtype=np.float64)) > 2**31:
        raise ValueError(f"a result of shape {tuple(shape)} is out of bounds")
    return shape


def reshape(x: Array, shape: Array) -> Array:
    """In `shape`, 0 stands for x's own size, and -1 for what is left."""
    return x.reshape(
        [x.shape[axis] if size == 0 and x.size else int(size) for axis, size in enumerate(np.ravel(shape))]
    )


def transpose(x: Array, perm: Array) -> Array:
    return x.transpose([int(axis) for axis in perm])


def expand_dims(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(axis) for axis in np.ravel(axes)))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, axes_of(axes))


def concat(values: list[Array], axis: Array, interleave: Array | bool = False) -> Array:
    if interleave:
        raise ValueError("interleave is not supported")
    return np.concatenate(values, axis=int(axis))


def split(x: Array, axis: Array, num_splits: Array | int) -> tuple[Array, ...]:
    return tuple(np.split(x, int(num_splits), axis=int(axis)))


def gather(
    x: Array,
    indices: Array,
    axis: Array | int = 0,
    batch_dims: Array | int = 0,
    validate_indices: Array | bool | None = None,
) -> Array:
    """-> x.shape[:axis] + indices.shape + x.shape[axis + 1:].

    From iOS 17 on, where `validate_indices` exists, Core ML no longer counts negative indices from the end.
    """
    if int(batch_dims):
        raise ValueError("batch_dims is not supported")
    if validate_indices is not None and indices.size and indices.min() < 0:
        raise IndexError("an index is negative, which Core ML leaves undefined from iOS 17 on")
    return np.take(x, indices, axis=int(axis))


def slice_by_index(
    x: Array, begin: Array, end: Array, begin_mask: Array | None = None, end_mask: Array | None = None
) -> Array:
    """The elements from `begin` to before `end` of each axis; a mask that is true leaves that end open."""
    nothing = [False] * x.ndim
    masks = [nothing if mask is None else mask for mask in (begin_mask, end_mask)]
    slices = [
        slice(None if from_start else int(first), None if to_end else int(last))
        for first, last, from_start, to_end in zip(begin, end, *masks, strict=True)
    ]
    return x[tuple(slices)]


def upsample_nearest_neighbor(
    x: Array, scale_factor_height: Array | float = 1, scale_factor_width: Array | float = 1
) -> Array:
    """(..., H, W) -> (..., H * height's factor, W * width's factor), each pixel repeated; factors are whole numbers."""
    factors = (float(scale_factor_height), float(scale_factor_width))
    if not all(factor.is_integer() for factor in factors):
        raise ValueError(f"the factors {factors} are no whole numbers, which is not supported")
    height, width = (int(factor) for factor in factors)
    bounded([*x.shape[:-2], x.shape[-2] * height, x.shape[-1] * width])
    return np.repeat(np.repeat(x, height, -2), width, -1)


OPS: dict[str, Callable[..., Any]] = {
    "concat": concat,
    "expand_dims": expand_dims,
    "gather": gather,
    "reshape": reshape,
    "slice_by_index": slice_by_index,
    "split": split,
    "squeeze": squeeze,
    "transpose": transpose,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
