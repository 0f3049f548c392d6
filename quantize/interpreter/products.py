"""Sums of products, all as BLAS's matrix products in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .activations import softmax

Array = np.ndarray[Any, Any]


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
    if y.ndim == 2 and x.ndim > 2:
        return (x.reshape(-1, x.shape[-1]) @ y).reshape(*x.shape[:-1], y.shape[-1])
    return x @ y


def einsum(values: list[Array], equation: Array) -> Array:
    """Of two operands as one batched matrix product, which `np.einsum` would do element by element."""
    operands, result = str(equation).replace(" ", "").split("->")
    a, b = operands.split(",")
    x, y = values
    if len({*a}) < len(a) or len({*b}) < len(b) or not {*result} <= {*a, *b} or "." in operands:
        raise ValueError(f"equation {equation} is not supported")
    x = x.sum(axis=tuple(axis for axis, letter in enumerate(a) if letter not in b + result))
    y = y.sum(axis=tuple(axis for axis, letter in enumerate(b) if letter not in a + result))
    a = "".join(letter for letter in a if letter in b + result)
    b = "".join(letter for letter in b if letter in a + result)
    sizes = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))
    batch = [letter for letter in a if letter in b and letter in result]
    summed = [letter for letter in a if letter in b and letter not in result]
    rows = [letter for letter in a if letter not in b]
    columns = [letter for letter in b if letter not in a]

    def shape(*groups: list[str]) -> list[int]:
        return [int(np.prod([sizes[letter] for letter in group], dtype=np.int64)) for group in groups]

    left = x.transpose([a.index(letter) for letter in (*batch, *rows, *summed)]).reshape(shape(batch, rows, summed))
    right = y.transpose([b.index(letter) for letter in (*batch, *summed, *columns)])
    product = left @ right.reshape(shape(batch, summed, columns))
    order = [*batch, *rows, *columns]
    return product.reshape([sizes[letter] for letter in order]).transpose([order.index(letter) for letter in result])


def scaled_dot_product_attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Array:
    """query: (..., L, E), key: (..., S, E), value: (..., S, V), attn_mask: (..., L, S) to add, or of bools to keep.

    One head of one batch after the other, so that not all scores are in memory together.
    """
    batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    query, key, value = (np.broadcast_to(one, batch + one.shape[-2:]) for one in (query, key, value))
    scores_shape = (query.shape[-2], key.shape[-2])
    mask = None if attn_mask is None else np.broadcast_to(attn_mask, batch + scores_shape)
    out = np.empty((*batch, query.shape[-2], value.shape[-1]), np.float32)
    for index in np.ndindex(batch):
        scores = (query[index] @ key[index].T) * np.float32(1 / np.sqrt(query.shape[-1]))
        if mask is not None and mask.dtype == np.bool_:
            scores = np.where(mask[index], scores, np.float32(-np.inf))
        elif mask is not None:
            scores += mask[index]
        out[index] = softmax(scores) @ value[index]
    return out


OPS: dict[str, Callable[..., Any]] = {
    "einsum": einsum,
    "linear": linear,
    "matmul": matmul,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
