"""The layers of models that an adapter can change, by full path, and replacing them.

A full path is the name of a component and the path of a module in it: "unet.down_blocks.0.attentions.0.proj_in".
"""

import copy
from collections.abc import Iterator, Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..models.blocks import Conv2d, GroupNorm
from ..quantization import QuantizedConv2d, QuantizedLinear
from .layers import LoRALayer

Models = Mapping[str, nn.Module]

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")

LAYERS = (nn.Linear, Conv2d, QuantizedLinear, QuantizedConv2d)
NORMS = (GroupNorm, nn.LayerNorm)


def attached(models: Models) -> dict[str, LoRALayer]:
    """The LoRA layers, by full path."""
    return {path: module for path, module in _modules(models) if isinstance(module, LoRALayer)}


def detach(models: Models) -> None:
    """Remove all adapters: put back the base layers that LoRA layers wrap, and those that changed copies replace."""
    wrapped = attached(models)
    originals = {path: original(layer.base) for path, layer in wrapped.items()}
    for path, module in _modules(models):
        if path.rpartition(".")[0] not in wrapped and original(module) is not module:
            originals[path] = original(module)
    replace(models, originals)


def adaptable(models: Models) -> dict[str, nn.Module]:
    """The linear and convolution layers by full path, as they are without adapters."""
    wrapped = attached(models)
    layers: dict[str, nn.Module] = {}
    for path, module in _modules(models):
        if path in wrapped:
            layers[path] = original(module.base)
        elif path.rpartition(".")[0] not in wrapped and isinstance(module, LAYERS):
            layers[path] = original(module)
    return layers


def norms(models: Models) -> dict[str, nn.Module]:
    """The norms by full path, as they are without adapters."""
    return {path: original(module) for path, module in _modules(models) if isinstance(module, NORMS)}


def changed_copy(layer: nn.Module, weight: mx.array | None, bias: mx.array | None) -> nn.Module:
    """A copy of a layer or norm with a new weight, a new bias or both, for `replace`; `detach` puts `layer` back.

    A layer whose weight is packed becomes a dense one if it gets a new weight.
    """
    if weight is not None and isinstance(layer, QuantizedConv2d):
        copied: nn.Module = Conv2d(1, 1, 1)
        copied.stride, copied.padding = layer.stride, layer.padding
    elif weight is not None and isinstance(layer, QuantizedLinear):
        copied = nn.Linear(1, 1)
    else:
        copied = copy.copy(layer)
        copied._no_grad = set(layer._no_grad)
    if weight is not None:
        copied.weight = weight
        if "bias" in layer:
            copied.bias = layer.bias
        elif "bias" in copied:
            del copied["bias"]
    if bias is not None:
        copied.bias = bias
    copied.original = _Original(layer)
    copied.freeze()
    return copied


def original(layer: nn.Module) -> nn.Module:
    """The layer that a changed copy replaces; any other layer itself."""
    kept = getattr(layer, "original", None)
    return kept.layer if isinstance(kept, _Original) else layer


class _Original:
    """Holds the layer that a copy replaces, outside of the tree of modules and parameters."""

    def __init__(self, layer: nn.Module):
        self.layer = layer


def changed_parameters(models: Models) -> dict[str, mx.array]:
    """The weights and biases as the attached adapters change them, by full path ("unet.conv_in.weight")."""
    changed: dict[str, mx.array] = {}
    wrapped = attached(models)
    for path, module in _modules(models):
        if path.rpartition(".")[0] in wrapped:
            continue
        layer = module.base if path in wrapped else module
        before = original(layer)
        if before is not layer:
            # The same array as in the original is not changed.
            changed |= {f"{path}.{name}": layer[name] for name in ("weight", "bias") if _differs(layer, before, name)}
        if path in wrapped:
            changed[f"{path}.weight"] = wrapped[path].changed_weight()
    return changed


def _differs(layer: nn.Module, before: nn.Module, name: str) -> bool:
    return name in layer and layer[name] is not before.get(name)


def _modules(models: Models) -> Iterator[tuple[str, nn.Module]]:
    for name, model in models.items():
        for path, module in sorted(model.named_modules(), key=lambda item: item[0]):
            if path:
                yield f"{name}.{path}", module


def replace(models: Models, layers: Mapping[str, nn.Module]) -> None:
    """Put each of `layers` into `models`, in place, at its full path."""
    for name, model in models.items():
        start = f"{name}."
        local = [(path.removeprefix(start), layer) for path, layer in layers.items() if path.startswith(start)]
        if local:
            model.update_modules(tree_unflatten(local))


def is_pointwise(path: str, models: Models) -> bool:
    """Whether the layer at a full path is a 1x1 convolution in files. In the models it is a linear layer."""
    name = path.rpartition(".")[2]
    return name == "conv_shortcut" or (
        name in ("proj_in", "proj_out") and not models["unet"].config.use_linear_projection
    )
