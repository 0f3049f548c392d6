"""Applying adapters to models: several at once, exchanged without loading the models again."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..quantization import QuantizedLayer
from .adapter import Adapter, Layer
from .layer_tree import Models, adaptable, detach, replace
from .layers import LoRALayer, dense_weight, low_rank, output_norms, weight_shape, wrap

WeightedAdapter = tuple[Adapter, float]


def use(models: Models, adapters: Sequence[WeightedAdapter], dtype: mx.Dtype) -> None:
    """Apply adapters, each with its weight, to `models`, in place of those applied before. An empty list removes them.

    A layer's adapters become one pair of matrices in `dtype`, whose rank is the sum of theirs. Weight 0 disables an
    adapter. For DoRA the weight interpolates between the base layer (0) and the adapted one (1). Raises UserError if an
    adapter is for another model; the models are then unchanged.
    """
    deltas: dict[str, list[tuple[Layer, float]]] = {}
    for adapter, weight in adapters:
        for path, layer in adapter.resolve(models).layers.items():
            deltas.setdefault(path, []).append((layer, weight))
    layers = adaptable(models)
    wrapped = {}
    for path, parts in deltas.items():
        wrapped[path] = _combined_layer(layers[path], parts, dtype)
        # One at a time: a DoRA needs the dense weight of its layer.
        mx.eval(wrapped[path].lora_a, wrapped[path].lora_b, wrapped[path].get("excess"))
    detach(models)
    replace(models, wrapped)


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
