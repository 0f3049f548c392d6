"""Ops on each element alone, of one tensor or of several that broadcast."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES = {
    "fp16": np.float32,
    "fp32": np.float32,
    "bool": np.bool_,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
}

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
    """Fractions are cut towards zero; to fp16 nothing is rounded here (see `Program.run`)."""
    return x.astype(DTYPES[str(dtype)], copy=False)


def erf(x: Array) -> Array:
    x = np.clip(x, -4, 4)
    square = x * x
    return x * _polynomial(square, ERF_P) / _polynomial(square, ERF_Q)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule in place, highest power first."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += np.float32(coefficient)
    return total


def clip(x: Array, alpha: Array, beta: Array) -> Array:
    return np.clip(x, alpha, beta)


def inverse(x: Array, epsilon: Array | float = 1e-4) -> Array:
    return 1 / (x + np.float32(epsilon))


def log(x: Array, epsilon: Array | float = 1e-45) -> Array:
    return np.log(x + np.float32(epsilon))


def rsqrt(x: Array, epsilon: Array | float = 1e-12) -> Array:
    return 1 / np.sqrt(x + np.float32(epsilon))


def threshold(x: Array, alpha: Array) -> Array:
    return np.maximum(x, alpha)


def select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


def _unary(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def op(x: Array) -> Array:
        return function(x)

    return op


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    def op(x: Array, y: Array) -> Array:
        return function(x, y)

    return op


UNARY: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "identity": np.asarray,
    "logical_not": np.logical_not,
    "round": np.round,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}

BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "real_div": np.true_divide,
    "sub": np.subtract,
}

OPS: dict[str, Callable[..., Any]] = {
    **{name: _unary(function) for name, function in UNARY.items()},
    **{name: _binary(function) for name, function in BINARY.items()},
    "cast": cast,
    "clip": clip,
    "erf": erf,
    "inverse": inverse,
    "log": log,
    "rsqrt": rsqrt,
    "select": select,
    "threshold": threshold,
}
