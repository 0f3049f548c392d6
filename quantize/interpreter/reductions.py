"""Ops over whole axes. Means and variances are summed in float64 and rounded once."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .shapes import axes_of

Array = np.ndarray[Any, Any]


def reduce_mean(x: Array, axes: Array | None = None, keep_dims: Array | bool = False) -> Array:
    return x.mean(axis=axes_of(axes), keepdims=bool(keep_dims), dtype=np.float64)


def reduce_argmax(
    x: Array, axis: Array | int = -1, keep_dims: Array | bool = False, output_dtype: Array | str = "int32"
) -> Array:
    return np.argmax(x, axis=int(axis), keepdims=bool(keep_dims))


def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Normalize over `axes`; gamma and beta have the shape of these axes."""
    over = tuple(sorted(axis % x.ndim for axis in axes_of(axes) or range(x.ndim)))
    shape = [x.shape[axis] if axis in over else 1 for axis in range(x.ndim)]
    centred = x - x.mean(over, keepdims=True, dtype=np.float64).astype(np.float32)
    variance = np.square(centred).mean(over, keepdims=True, dtype=np.float64)
    centred *= (1 / np.sqrt(variance + epsilon)).astype(np.float32)
    if gamma is not None:
        centred *= gamma.reshape(shape)
    if beta is not None:
        centred += beta.reshape(shape)
    return centred


OPS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "reduce_argmax": reduce_argmax,
    "reduce_mean": reduce_mean,
}
