"""Gradient checkpointing (Chen et al., 2016): a block's activations are recomputed in the backward pass, not kept.

MLX evaluates a graph from its outputs, so the gradient of a weight, which no other operation waits for, would be
computed last of all, and its activations kept until then. Here the backward pass leaves a block only when all of the
block's gradients are computed.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from .ops import attention, within_block

# Attention scores computed at a time in training: 64 MiB in float32.
SCORES_CHUNK = 2**24

# The random key of the next dropout in the block that is being computed; None outside of one.
_key: ContextVar[list[mx.array] | None] = ContextVar("_key", default=None)


class Dropout(nn.Dropout):
    """MLX's dropout, which drops the same elements again when a block is recomputed."""

    def __init__(self, probability: float):
        super().__init__(probability)
        self.kept = 1 - probability

    def __call__(self, x: mx.array) -> mx.array:
        keys = _key.get()
        if keys is None or self.kept == 1 or not self.training:
            return super().__call__(x)
        keys[0], key = mx.random.split(keys[0])
        return mx.random.bernoulli(self.kept, x.shape, key) * x * (1 / self.kept)


def checkpoint_blocks(model: nn.Module, on: bool = True) -> None:
    """Turn checkpointing and attention in chunks on or off, for all blocks of a model. Its results stay the same."""
    for module in model.modules():
        if hasattr(module, "checkpointing"):
            module.checkpointing = on


def recomputed(block: nn.Module, *arguments: mx.array | None) -> mx.array:
    """block(*arguments), whose backward pass calls the block again. A trailing None is left out."""
    inputs = [array for array in arguments if array is not None]
    parameters = dict(cast(list[tuple[str, mx.array]], tree_flatten(block.trainable_parameters())))

    def run(key: mx.array, *arrays: mx.array) -> mx.array:
        """The block with other inputs and parameters and its dropout from `key`; afterwards it is as it was."""
        tokens = within_block.set(True), _key.set([key])
        block.update(tree_unflatten(list(zip(parameters, arrays[len(inputs) :], strict=True))))
        try:
            return cast(mx.array, block(*arrays[: len(inputs)]))
        finally:
            block.update(tree_unflatten(list(parameters.items())))
            within_block.reset(tokens[0])
            _key.reset(tokens[1])

    forward = mx.custom_function(run)

    @forward.vjp
    def backward(primals: Sequence[mx.array], cotangent: mx.array, output: mx.array) -> list[mx.array]:
        key, *arrays = primals
        _, gradients = mx.vjp(partial(run, key), mx.depends(arrays, [cotangent]), [cotangent])
        before, inside = gradients[: len(inputs)], gradients[len(inputs) :]
        return [mx.zeros_like(key), *(mx.depends(before, inside) if inside else before), *inside]

    key = mx.random.randint(0, 2**31 - 1, (2,)).astype(mx.uint32)
    return cast(mx.array, forward(key, *inputs, *parameters.values()))


def attention_in_chunks(queries: mx.array, keys: mx.array, values: mx.array, heads: int, scale: float) -> mx.array:
    """`ops.attention` for some queries at a time, forward and backward: at most SCORES_CHUNK scores in memory."""
    chunk = max(1, SCORES_CHUNK // (queries.shape[0] * heads * keys.shape[1]))
    if chunk >= queries.shape[1]:
        return attention(queries, keys, values, heads, scale)
    ends = range(chunk, queries.shape[1], chunk)

    def attend(part: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        return attention(part, keys, values, heads, scale)

    @mx.custom_function
    def forward(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        outputs: list[mx.array] = []
        for part in mx.split(queries, list(ends), axis=1):
            waiting = mx.depends([part], outputs[-1:])[0] if outputs else part
            outputs.append(attend(waiting, keys, values))
        return mx.concatenate(outputs, axis=1)

    @forward.vjp
    def backward(primals: Sequence[mx.array], cotangent: mx.array, output: mx.array) -> tuple[mx.array, ...]:
        queries, keys, values = primals
        done: list[mx.array] = []
        key_gradient, value_gradient = mx.zeros_like(keys), mx.zeros_like(values)
        parts = zip(*(mx.split(array, list(ends), axis=1) for array in (queries, cotangent)), strict=True)
        for part, part_cotangent in parts:
            waited = [*done[-1:], key_gradient, value_gradient]
            part, part_cotangent = mx.depends([part, part_cotangent], waited)
            _, gradients = mx.vjp(attend, [part, keys, values], [part_cotangent])
            done.append(gradients[0])
            key_gradient, value_gradient = key_gradient + gradients[1], value_gradient + gradients[2]
        return mx.concatenate(done, axis=1), key_gradient, value_gradient

    return cast(mx.array, forward(queries, keys, values))
