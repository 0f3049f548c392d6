"""The layers of models that an adapter can change, by their full paths, and putting others in their place.

Models go by the names of their components. A full path begins with one.
"""

from collections.abc import Iterator, Mapping

import mlx.nn as nn
from mlx.utils import tree_unflatten

from ..models.blocks import Conv2d
from ..quantization import QuantizedConv2d, QuantizedLinear
from .layers import LoRALayer

Models = Mapping[str, nn.Module]

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")

LAYERS = (nn.Linear, Conv2d, QuantizedLinear, QuantizedConv2d)


def attached(models: Models) -> dict[str, LoRALayer]:
    """The layers with a change, by their full paths."""
    return {path: module for path, module in _modules(models) if isinstance(module, LoRALayer)}


def detach(models: Models) -> None:
    """Give the layers that were wrapped back."""
    replace(models, {path: layer.base for path, layer in attached(models).items()})


def adaptable(models: Models) -> dict[str, nn.Module]:
    """The linear and convolution layers by their full paths, without what is wrapped around them."""
    wrapped = attached(models)
    layers: dict[str, nn.Module] = {}
    for path, module in _modules(models):
        if path in wrapped:
            layers[path] = module.base
        elif path.rpartition(".")[0] not in wrapped and isinstance(module, LAYERS):
            layers[path] = module
    return layers


def _modules(models: Models) -> Iterator[tuple[str, nn.Module]]:
    for name, model in models.items():
        for path, module in sorted(model.named_modules(), key=lambda item: item[0]):
            if path:
                yield f"{name}.{path}", module


def replace(models: Models, layers: Mapping[str, nn.Module]) -> None:
    """Put `layers` where their full paths say."""
    for name, model in models.items():
        own = [(path.removeprefix(f"{name}."), layer) for path, layer in layers.items() if path.startswith(f"{name}.")]
        if own:
            model.update_modules(tree_unflatten(own))


def is_pointwise(path: str, models: Models) -> bool:
    """Whether a layer is a 1x1 convolution, which here is kept as a linear layer, dense or quantized."""
    name = path.rpartition(".")[2]
    return name == "conv_shortcut" or (
        name in ("proj_in", "proj_out") and not models["unet"].config.use_linear_projection
    )
