"""Normalizations. Means and variances are added up in float64; gamma and beta default to one and zero."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .reductions import axes_of, mean, total

Array = np.ndarray[Any, Any]


def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """x: (B, C, ...), the others (C,)."""
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + epsilon)
    shift = (0 if beta is None else beta) - mean * scale
    return x * _per_channel(scale, x) + _per_channel(shift, x)


def instance_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Array | float = 1e-5
) -> Array:
    """x: (B, C, ...), normalized over what follows C; gamma, beta (C,)."""
    normal = _standardize(x, tuple(range(2, x.ndim)), epsilon)
    return _scale(normal, *(None if one is None else _per_channel(one, x) for one in (gamma, beta)))


def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:
    """Over `axes`; gamma, beta have the shape of these axes."""
    over = axes_of(axes) or tuple(range(x.ndim))
    over = tuple(sorted(axis % x.ndim for axis in over))
    shape = [x.shape[axis] if axis in over else 1 for axis in range(x.ndim)]
    normal = _standardize(x, over, epsilon)
    return _scale(normal, *(None if one is None else one.reshape(shape) for one in (gamma, beta)))


def l2_norm(x: Array, epsilon: Array | float = 1e-6) -> Array:
    """Over the last three axes: x / sqrt(sum(x^2) + epsilon)."""
    sums = total(np.square(x), (-3, -2, -1), keep_dims=True)
    return x / np.sqrt(sums + epsilon).astype(np.float32)


def local_response_norm(
    x: Array,
    size: Array,
    alpha: Array | float = 1e-4,
    beta: Array | float = 0.75,
    k: Array | float = 1.0,
) -> Array:
    """x: (B, C, ...), by the mean square of `size` neighbouring channels."""
    before = int(size) // 2
    around = [(0, 0), (before, int(size) - 1 - before), *[(0, 0)] * (x.ndim - 2)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(np.square(x), around), int(size), axis=1)
    return x / (k + alpha * windows.mean(axis=-1)) ** beta


def _standardize(x: Array, axes: tuple[int, ...], epsilon: Array | float) -> Array:
    centred = x - mean(x, axes, keep_dims=True).astype(np.float32)
    variance = mean(np.square(centred), axes, keep_dims=True)
    centred *= (1 / np.sqrt(variance + epsilon)).astype(np.float32)
    return centred


def _scale(normal: Array, gamma: Array | None, beta: Array | None) -> Array:
    if gamma is not None:
        normal *= gamma
    if beta is not None:
        normal += beta
    return normal


def _per_channel(values: Array, x: Array) -> Array:
    return values.reshape(-1, *[1] * (x.ndim - 2))


OPS: dict[str, Callable[..., Any]] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "local_response_norm": local_response_norm,
}
