"""Ops on each element alone, of one tensor or of several that broadcast; and softmax."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES = {"fp16": np.float32, "fp32": np.float32, "int32": np.int32}

# erf(x) = x P(x^2) / Q(x^2) for |x| <= 4, where float32 has reached 1: the rational minimax fit of Eigen and XLA.
ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def cast(x: Array, dtype: Array) -> Array:
    """To integers, fractions are cut towards zero. To fp16 nothing is rounded here: `Program.run` does that."""
    return x.astype(DTYPES[str(dtype)], copy=False)


def sigmoid(x: Array) -> Array:
    """By way of exp(-|x|), which does not overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu(x: Array, mode: Array | str = "EXACT") -> Array:
    if mode != "EXACT":
        raise ValueError(f"mode {mode} is not supported")
    return x * (0.5 * (1 + erf(x * np.float32(np.sqrt(0.5)))))


def erf(x: Array) -> Array:
    x = np.clip(x, -4, 4)
    square = x * x
    return x * _polynomial(square, ERF_P) / _polynomial(square, ERF_Q)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule in place, the coefficient of the highest power first."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += np.float32(coefficient)
    return total


def softmax(x: Array, axis: Array | int = -1) -> Array:
    shifted = x - x.max(axis=int(axis), keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=int(axis), keepdims=True)
    return shifted


def select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


def _unary(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """`function` as an op, its parameter named as MIL's."""

    def op(x: Array) -> Array:
        return function(x)

    return op


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def op(x: Array, y: Array) -> Array:
        return function(x, y)

    return op


UNARY: dict[str, Callable[..., Any]] = {
    "cos": np.cos,
    "identity": np.asarray,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
}

BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "equal": np.equal,
    "greater": np.greater,
    "maximum": np.maximum,
    "mul": np.multiply,
    "real_div": np.true_divide,
    "sub": np.subtract,
}

OPS: dict[str, Callable[..., Any]] = {
    **{name: _unary(function) for name, function in UNARY.items()},
    **{name: _binary(function) for name, function in BINARY.items()},
    "cast": cast,
    "gelu": gelu,
    "select": select,
    "sigmoid": sigmoid,
    "silu": silu,
    "softmax": softmax,
}
