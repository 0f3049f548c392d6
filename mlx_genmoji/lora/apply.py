"""Making models compute with adapters: several at once, exchanged without loading the models again."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..quantization import QuantizedLayer
from .adapter import Adapter, Layer
from .layer_tree import Models, adaptable, detach, replace
from .layers import LoRALayer, dense_weight, low_rank, output_norms, weight_shape, wrap

Weighted = tuple[Adapter, float]


def use(models: Models, adapters: Sequence[Weighted], dtype: mx.Dtype) -> None:
    """Make `models` compute with adapters, each with its weight, in place of those before; with none, as they were.

    The ranks of a layer's adapters are concatenated into one pair of matrices in `dtype`. Weight 0 disables an adapter;
    for DoRA the weight interpolates between the base layer (0) and the adapted one (1). Raises UserError where an
    adapter is for another model; the models are then left as they were.
    """
    changes: dict[str, list[tuple[Layer, float]]] = {}
    for adapter, weight in adapters:
        for path, layer in adapter.resolve(models).layers.items():
            changes.setdefault(path, []).append((layer, weight))
    layers = adaptable(models)
    wrapped = {}
    for path, parts in changes.items():
        wrapped[path] = _together(layers[path], parts, dtype)
        # One at a time: a DoRA needs the dense weight of its layer.
        mx.eval(wrapped[path].lora_a, wrapped[path].lora_b, wrapped[path].get("excess"))
    detach(models)
    replace(models, wrapped)


def _together(base: nn.Module, parts: Sequence[tuple[Layer, float]], dtype: mx.Dtype) -> LoRALayer:
    shape = weight_shape(base)
    downs, ups, excess = [], [], None
    for change, weight in parts:
        down, up = change.down.astype(mx.float32), change.up.astype(mx.float32) * (weight * change.scale)
        down = down.reshape(change.rank, *shape[1:])
        if change.dora_scale is not None:
            dense = dense_weight(base).astype(mx.float32)
            changed = dense + low_rank(change.scale, down, change.up.astype(mx.float32), shape)
            gain = change.dora_scale.astype(mx.float32) / output_norms(changed)
            up = up * gain[:, None]
            more = weight * (gain - 1)
            excess = more if excess is None else excess + more
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
