"""Ops that take elements by their places, or find places."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .convolutions import bounded

Array = np.ndarray[Any, Any]


def gather(
    x: Array,
    indices: Array,
    axis: Array | int = 0,
    batch_dims: Array | int = 0,
    validate_indices: Array | bool | None = None,
) -> Array:
    """-> x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1:]."""
    axis, batch_dims = int(axis) % x.ndim, int(batch_dims)
    _check(indices, validate_indices)
    if not batch_dims:
        return np.take(x, indices, axis=axis)
    batch = x.shape[:batch_dims]
    taken = [np.take(x[at], indices[at], axis=axis - batch_dims) for at in np.ndindex(batch)]
    return np.stack(taken).reshape(batch + taken[0].shape)


def gather_along_axis(
    x: Array, indices: Array, axis: Array | int = 0, validate_indices: Array | bool | None = None
) -> Array:
    _check(indices, validate_indices)
    return np.take_along_axis(x, indices.astype(np.intp), axis=int(axis))


def gather_nd(
    x: Array, indices: Array, batch_dims: Array | int = 0, validate_indices: Array | bool | None = None
) -> Array:
    """indices: (*batch, ..., N), the last dimension addresses N dimensions of x after the batch's."""
    _check(indices, validate_indices)
    batch = x.shape[: int(batch_dims)]
    taken = [x[at][tuple(np.moveaxis(indices[at], -1, 0))] for at in np.ndindex(batch)]
    return np.stack(taken).reshape(batch + taken[0].shape)


def _check(indices: Array, validate_indices: Array | bool | None) -> None:
    """From iOS 17 on, where this parameter exists, Core ML no longer counts negative indices from the end."""
    if validate_indices is not None and indices.size and indices.min() < 0:
        raise IndexError("an index is negative, which Core ML leaves undefined from iOS 17 on")


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    return x[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    updated = x.copy()
    updated[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return updated


def _slices(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None,
    begin_mask: Array | None,
    end_mask: Array | None,
    squeeze_mask: Array | None,
) -> tuple[slice | int, ...]:
    """NumPy's slices; a mask leaves an end open, or takes the element at `begin` alone."""
    nothing = [False] * x.ndim
    steps = [1] * x.ndim if stride is None else stride
    masks = [nothing if mask is None else mask for mask in (begin_mask, end_mask, squeeze_mask)]
    return tuple(
        int(first) if squeezed else slice(None if from_start else int(first), None if to_end else int(last), int(step))
        for first, last, step, from_start, to_end, squeezed in zip(begin, end, steps, *masks, strict=True)
    )


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """A size of -1 is all that is left."""
    slices = []
    for first, count, whole in zip(begin, size, x.shape, strict=True):
        start = int(first) % whole if first < 0 else int(first)
        slices.append(slice(start, whole if count == -1 else start + int(count)))
    return x[tuple(slices)]


def one_hot(
    indices: Array,
    one_hot_vector_size: Array,
    axis: Array | int = -1,
    on_value: Array | int = 1,
    off_value: Array | int = 0,
) -> Array:
    axis = int(axis) % (indices.ndim + 1)
    size = bounded([indices.size, int(one_hot_vector_size)])[1]
    places = np.arange(size).reshape(-1, *[1] * (indices.ndim - axis))
    return np.where(np.expand_dims(indices, axis) == places, on_value, off_value)


def argsort(x: Array, axis: Array | int = -1, ascending: Array | bool = False) -> Array:
    return np.argsort(x if ascending else -x, axis=int(axis), kind="stable")


def topk(
    x: Array,
    k: Array | int = 1,
    axis: Array | int = -1,
    ascending: Array | bool = False,
    sort: Array | bool = True,
    return_indices: Array | bool = True,
    output_indices_dtype: Array | str = "int32",
) -> Array | tuple[Array, Array]:
    """The largest, or smallest, in order: which is one of the orders that `sort=False` allows."""
    indices = np.take(argsort(x, axis, ascending), np.arange(int(k)), axis=int(axis))
    values = np.take_along_axis(x, indices, axis=int(axis))
    return (values, indices) if return_indices else values


OPS: dict[str, Callable[..., Any]] = {
    "argsort": argsort,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "gather_nd": gather_nd,
    "one_hot": one_hot,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "slice_update": slice_update,
    "topk": topk,
}
