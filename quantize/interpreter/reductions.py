"""Ops over whole axes. Sums are added up in float64: the result is the exact one, rounded once."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...] | None


def axes_of(axes: Array | None) -> Axes:
    """MIL's axes: none given are all."""
    return None if axes is None else tuple(int(axis) for axis in np.ravel(axes))


def total(x: Array, axes: Axes, keep_dims: bool) -> Array:
    """The sum, in float64 where `x` is of floats."""
    return x.sum(axis=axes, keepdims=keep_dims, dtype=np.float64 if x.dtype.kind == "f" else None)


def mean(x: Array, axes: Axes, keep_dims: bool) -> Array:
    return x.mean(axis=axes, keepdims=keep_dims, dtype=np.float64)


def _log_sum_exp(x: Array, axes: Axes, keep_dims: bool) -> Array:
    largest = x.max(axis=axes, keepdims=True)
    sums = largest + np.log(total(np.exp(x - largest), axes, keep_dims=True))
    return sums if keep_dims else np.squeeze(sums, axes)


REDUCTIONS: dict[str, Callable[[Array, Axes, bool], Array]] = {
    "reduce_l1_norm": lambda x, axes, keep_dims: total(np.abs(x), axes, keep_dims),
    "reduce_l2_norm": lambda x, axes, keep_dims: np.sqrt(total(np.square(x), axes, keep_dims)),
    "reduce_log_sum": lambda x, axes, keep_dims: np.log(total(x, axes, keep_dims)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": lambda x, axes, keep_dims: x.max(axis=axes, keepdims=keep_dims),
    "reduce_mean": mean,
    "reduce_min": lambda x, axes, keep_dims: x.min(axis=axes, keepdims=keep_dims),
    "reduce_prod": lambda x, axes, keep_dims: x.prod(axis=axes, keepdims=keep_dims),
    "reduce_sum": total,
    "reduce_sum_square": lambda x, axes, keep_dims: total(np.square(x), axes, keep_dims),
}


def _reduction(function: Callable[[Array, Axes, bool], Array]) -> Callable[..., Array]:
    def op(x: Array, axes: Array | None = None, keep_dims: Array | bool = False) -> Array:
        return function(x, axes_of(axes), bool(keep_dims))

    return op


def _position(function: Callable[..., Array]) -> Callable[..., Array]:
    def op(
        x: Array, axis: Array | int = -1, keep_dims: Array | bool = False, output_dtype: Array | str = "int32"
    ) -> Array:
        return function(x, axis=int(axis), keepdims=bool(keep_dims))

    return op


def cumsum(x: Array, axis: Array | int = 0, exclusive: Array | bool = False, reverse: Array | bool = False) -> Array:
    axis = int(axis)
    x = np.flip(x, axis) if reverse else x
    sums = np.cumsum(x, axis=axis, dtype=np.float64 if x.dtype.kind == "f" else None)
    if exclusive:
        sums = sums - x
    return np.flip(sums, axis) if reverse else sums


OPS: dict[str, Callable[..., Any]] = {
    **{name: _reduction(function) for name, function in REDUCTIONS.items()},
    "cumsum": cumsum,
    "reduce_argmax": _position(np.argmax),
    "reduce_argmin": _position(np.argmin),
}
