"""The layers of models that an adapter can change, by full path, and replacing them.

A full path is the name of a component and the path of a module in it: "unet.down_blocks.0.attentions.0.proj_in".
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
    """The LoRA layers, by full path."""
    return {path: module for path, module in _modules(models) if isinstance(module, LoRALayer)}


def detach(models: Models) -> None:
    """Remove all LoRA layers: put back the base layers that they wrap."""
    replace(models, {path: layer.base for path, layer in attached(models).items()})


def adaptable(models: Models) -> dict[str, nn.Module]:
    """The linear and convolution layers by full path; of a LoRA layer, its base layer."""
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
