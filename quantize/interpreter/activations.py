"""Activations. `alpha`, `beta` of those that have them are MIL's."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .elementwise import erf

Array = np.ndarray[Any, Any]


def sigmoid(x: Array) -> Array:
    """Through exp(-|x|), which does not overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu(x: Array, mode: Array | str = "EXACT") -> Array:
    if mode == "EXACT":
        return x * (0.5 * (1 + erf(x * np.float32(np.sqrt(0.5)))))
    if mode == "TANH_APPROXIMATION":
        return x * (0.5 * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x))))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(np.float32(1.702) * x)
    raise ValueError(f"mode {mode} is unknown")


def softmax(x: Array, axis: Array | int = -1) -> Array:
    shifted = x - x.max(axis=int(axis), keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=int(axis), keepdims=True)
    return shifted


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    return np.clip(x, 0, 6)


def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


def elu(x: Array, alpha: Array | float = 1) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def leaky_relu(x: Array, alpha: Array | float = 0.01) -> Array:
    return np.where(x >= 0, x, alpha * x)


def linear_activation(x: Array, alpha: Array, beta: Array | float = 0) -> Array:
    return alpha * x + beta


def prelu(x: Array, alpha: Array) -> Array:
    """alpha: (C,), for x (B, C, ...)."""
    return np.where(x >= 0, x, alpha.reshape(-1, *[1] * (x.ndim - 2)) * x)


def scaled_tanh(x: Array, alpha: Array | float = 1, beta: Array | float = 1) -> Array:
    return alpha * np.tanh(beta * x)


def sigmoid_hard(x: Array, alpha: Array | float = 0.2, beta: Array | float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def thresholded_relu(x: Array, alpha: Array | float = 1) -> Array:
    return np.where(x >= alpha, x, 0)


OPS: dict[str, Callable[..., Any]] = {
    "clamped_relu": clamped_relu,
    "elu": elu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "linear_activation": linear_activation,
    "prelu": prelu,
    "relu": relu,
    "relu6": relu6,
    "scaled_tanh": scaled_tanh,
    "sigmoid": sigmoid,
    "sigmoid_hard": sigmoid_hard,
    "silu": silu,
    "softmax": softmax,
    "softplus": softplus,
    "softsign": softsign,
    "thresholded_relu": thresholded_relu,
}
