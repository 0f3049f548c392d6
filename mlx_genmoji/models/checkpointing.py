"""Gradient checkpointing (Chen et al., 2016): what is inside a block is computed again in the backward pass, not kept.

MLX evaluates a graph from its far end, so what nothing waits for, such as the gradient of a weight, would be computed
last of all, and keep until then the activations that it needs. Here the way back goes on only when a block is done.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from .ops import attention, within_block

Call = TypeVar("Call", bound=Callable[..., mx.array])

# Attention's matrices are computed for so many queries at a time that one holds at most as many scores.
SCORES_AT_ONCE = 2**24


# The key of what is dropped next in the block that is computed.
_key: ContextVar[list[mx.array] | None] = ContextVar("_key", default=None)


class Dropout(nn.Dropout):
    """MLX's, but where a block is computed again, it drops the same again."""

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
    """Whether a model's blocks are computed again in the backward pass, and attention in parts. Its results stay."""
    for module in model.modules():
        if hasattr(module, "checkpointing"):
            module.checkpointing = on


def checkpointable(call: Call) -> Call:
    """For the `__call__` of a block, whose arguments are arrays: pay heed to its `checkpointing`."""

    @wraps(call)
    def checkpointed(block: nn.Module, /, *arguments: Any, **options: Any) -> mx.array:
        if not block.checkpointing:
            return call(block, *arguments, **options)
        own = dict(cast(list[tuple[str, mx.array]], tree_flatten(block.trainable_parameters())))

        def run(key: mx.array, *arrays: mx.array) -> mx.array:
            """The block for other arguments and parameters, its dropout from `key`; afterwards all is as it was."""
            tokens = within_block.set(True), _key.set([key])
            block.update(tree_unflatten(list(zip(own, arrays[len(arguments) :], strict=True))))
            try:
                return call(block, *arrays[: len(arguments)], **options)
            finally:
                block.update(tree_unflatten(list(own.items())))
                within_block.reset(tokens[0])
                _key.reset(tokens[1])

        forward = mx.custom_function(run)

        @forward.vjp
        def backward(primals: Sequence[mx.array], cotangent: mx.array, output: mx.array) -> list[mx.array]:
            key, *arrays = primals
            _, gradients = mx.vjp(partial(run, key), mx.depends(arrays, [cotangent]), [cotangent])
            before, inside = gradients[: len(arguments)], gradients[len(arguments) :]
            return [mx.zeros_like(key), *(mx.depends(before, inside) if inside else before), *inside]

        key = mx.random.randint(0, 2**31 - 1, (2,)).astype(mx.uint32)
        return cast(mx.array, forward(key, *arguments, *own.values()))

    return cast(Call, checkpointed)


def attention_in_parts(queries: mx.array, keys: mx.array, values: mx.array, heads: int, scale: float) -> mx.array:
    """`attention`, one part of the queries after the other, there and back: no matrix of scores is ever whole."""
    at_once = max(1, SCORES_AT_ONCE // (queries.shape[0] * heads * keys.shape[1]))
    if at_once >= queries.shape[1]:
        return attention(queries, keys, values, heads, scale)
    ends = range(at_once, queries.shape[1], at_once)

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
