"""Applying adapters to models: several at once, exchanged without loading the models again."""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ..quantization import QuantizedLayer
from .adapter import Adapter, Layer
from .layer_tree import Models, adaptable, changed_copy, detach, norms, replace
from .layers import LoRALayer, dense_weight, low_rank, output_norms, weight_shape, wrap
from .whole import WholeChange

WeightedAdapter = tuple[Adapter, float]


def use(models: Models, adapters: Sequence[WeightedAdapter], dtype: mx.Dtype) -> None:
    """Apply adapters, each with its weight, to `models`, in place of those applied before. An empty list removes them.

    A layer's low-rank adapters become one pair of matrices in `dtype`, whose rank is the sum of theirs. All other
    changes (`lora.whole`), and the pairs of the same layers, are merged into a dense weight in `dtype`. Weight 0
    disables an adapter. For DoRA the weight interpolates between the base layer (0) and the adapted one (1). Raises
    UserError if an adapter is for another model; the models are then unchanged.
    """
    changes: dict[str, _Changes] = {}
    for adapter, weight in adapters:
        resolved = adapter.resolve(models)
        for path, layer in resolved.layers.items():
            changes.setdefault(path, _Changes([], [])).pairs.append((layer, weight))
        for path, change in resolved.whole.items():
            changes.setdefault(path, _Changes([], [])).whole.append((change, weight))
    layers = adaptable(models) | norms(models)
    changed = {}
    for path, parts in changes.items():
        changed[path] = _changed_layer(layers[path], parts, dtype)
        # One at a time: some changes need the dense weight of their layer.
        mx.eval([changed[path].get(name) for name in ("lora_a", "lora_b", "excess", "weight", "bias")])
    detach(models)
    replace(models, changed)


class _Changes(NamedTuple):
    """The changes of one layer by several adapters, each with its weight."""

    pairs: list[tuple[Layer, float]]
    whole: list[tuple[WholeChange, float]]


def _changed_layer(base: nn.Module, changes: _Changes, dtype: mx.Dtype) -> nn.Module:
    """`base` with all of its changes: a copy, a LoRA layer around it, or both."""
    bias = _changed_bias(base, changes.whole, dtype)
    if not any(change.changes_weight for change, _ in changes.whole):
        base = base if bias is None else changed_copy(base, None, bias)
        return _combined_layer(base, changes.pairs, dtype) if changes.pairs else base
    weight = dense_weight(base).astype(mx.float32)
    total = weight
    for change, factor in changes.whole:
        if change.changes_weight:
            total = total + factor * (change.changed(weight) - weight)
    if changes.pairs:
        total = total + _combined_layer(base, changes.pairs, mx.float32).changed_weight() - weight
    return changed_copy(base, total.astype(dtype), bias)


def _changed_bias(base: nn.Module, changes: Sequence[tuple[WholeChange, float]], dtype: mx.Dtype) -> mx.array | None:
    """The bias with its differences added; None if it does not change."""
    added = [weight * change.bias.astype(mx.float32) for change, weight in changes if change.bias is not None]
    return sum(added, base.bias.astype(mx.float32)).astype(dtype) if added else None


def _combined_layer(base: nn.Module, parts: Sequence[tuple[Layer, float]], dtype: mx.Dtype) -> LoRALayer:
    """`base` with the sum of several weighted deltas, frozen and in inference mode."""
    shape = weight_shape(base)
    downs, ups, excess = [], [], None
    for delta, weight in parts:
        down, up = delta.down.astype(mx.float32), delta.up.astype(mx.float32) * (weight * delta.scale)
        down = down.reshape(delta.rank, *shape[1:])
        if delta.dora_scale is not None:
            dense = dense_weight(base).astype(mx.float32)
            changed = dense + low_rank(delta.scale, down, delta.up.astype(mx.float32), shape)
            gain = delta.dora_scale.astype(mx.float32) / output_norms(changed)
            up = up * gain[:, None]
            added = weight * (gain - 1)
            excess = added if excess is None else excess + added
        downs.append(down)
        ups.append(up)
    layer = wrap(base, mx.concatenate(downs).astype(dtype), mx.concatenate(ups, axis=1).astype(dtype), 1.0)
    if excess is not None:
        layer.excess = excess.astype(dtype)
    layer.merges = not isinstance(base, QuantizedLayer)
    layer.freeze()
    layer.eval()
    return layer


def packed(models: Models) -> bool:
    """Whether any layer that an adapter can change is quantized."""
    return any(isinstance(layer, QuantizedLayer) for layer in adaptable(models).values())
