"""Sums of products, all as BLAS's matrix products in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

EQUATIONS = ("bkhc,bchq->bkhq", "bchk,bkhq->bchq")


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x: (..., in), weight: (out, in), bias: (out,) -> (..., out)."""
    # One product of two matrices: NumPy's loop over leading axes would make many small ones.
    out = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], weight.shape[0])
    if bias is not None:
        out += bias
    return out


def matmul(x: Array, y: Array, transpose_x: Array | bool = False, transpose_y: Array | bool = False) -> Array:
    x = x.swapaxes(-1, -2) if transpose_x else x
    y = y.swapaxes(-1, -2) if transpose_y else y
    return x @ y


def einsum(values: list[Array], equation: Array) -> Array:
    """One matrix product for each batch and head, where `np.einsum` would work element by element.

    The two equations of split attention are the same one with the letters c and k exchanged.
    """
    if str(equation) not in EQUATIONS:
        raise ValueError(f"equation {equation} is not supported")
    x, y = (value.transpose(0, 2, 1, 3) for value in values)
    return (x @ y).transpose(0, 2, 1, 3)


OPS: dict[str, Callable[..., Any]] = {"einsum": einsum, "linear": linear, "matmul": matmul}
