"""An adapter in memory: the low-rank delta of each layer that it changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import mlx.core as mx
import mlx.nn as nn

from ..checkpoint.original_keys import UNET_RESNET, unet_modules
from ..errors import UserError, first_few, quoted
from .key_formats import kohya_keys
from .layer_tree import Models, adaptable, is_pointwise
from .layers import weight_shape


@dataclass(frozen=True, eq=False)
class Layer:
    """The delta of one layer's weight, alpha / rank * up @ down; with `dora_scale` a DoRA."""

    down: mx.array
    """(rank, in) for a linear layer; (rank, kh, kw, in) for a convolution, 1x1 ones included."""
    up: mx.array
    """(out, rank)."""
    alpha: float
    """The rank, if a file has no alpha."""
    dora_scale: mx.array | None = None
    """(out,): for a DoRA, the norm of each output's weights after the change."""

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True, eq=False)
class Adapter:
    """Deltas of layers by their full paths ("unet.down_blocks.0.attentions.0.proj_in"), and the file they came from.

    An adapter from a kohya file has kohya's names instead ("lora_unet_down_blocks_0_...") until `resolve`.
    """

    layers: Mapping[str, Layer]
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The file's header. This project's fields, all optional: `base_model` (a name or hub id, never a path),
    `base_sha256`, `base_bits`, `skin_tone`, `person_type`, `template`, `init`, `dataset_sha256`, `step`, `seed`."""
    name: str = "the adapter"
    """The file's name."""
    sha256: str | None = None
    """The file's hash."""

    def resolve(self, models: Models) -> "Adapter":
        """This adapter with the full paths that its layers have in `models`, and `down` in the shapes of `Layer`.

        Raises UserError with a list of the layers that `models` lack, that have another shape or that occur twice.
        """
        base_layers = adaptable(models)
        aliases: dict[str, str] = {}
        layers: dict[str, Layer] = {}
        unknown, twice, misshaped = [], [], []
        for path, layer in self.layers.items():
            if path not in base_layers:
                aliases = aliases or dict(_aliases(base_layers, models))
            full_path = path if path in base_layers else aliases.get(path)
            if full_path is None:
                unknown.append(quoted(path))
            elif full_path in layers:
                twice.append(quoted(path))
            elif (expected := weight_shape(base_layers[full_path])) != (shape := _shape(layer, base_layers[full_path])):
                misshaped.append(f"{quoted(path)} {shape} instead of {expected}")
            else:
                layers[full_path] = replace(layer, down=to_adapter_shape(layer.down, full_path, models))
        for complaint, names in (
            ("it changes layers that the model lacks", unknown),
            ("its layers have other shapes", misshaped),
            ("it changes layers twice", twice),
        ):
            if names:
                raise UserError(f"{self.name} is an adapter for another model: {complaint}: {first_few(names)}.")
        return replace(self, layers=layers)


def to_adapter_shape(down: mx.array, path: str, models: Models) -> mx.array:
    """The down matrix of the layer at `path`, in any layout -> in the shape of `Layer.down`."""
    if down.ndim == 4 and down.shape[1:3] != (1, 1):
        return down
    flat = down.reshape(len(down), -1)
    return flat[:, None, None] if is_pointwise(path, models) else flat


def _shape(layer: Layer, base: nn.Module) -> tuple[int, ...]:
    """The shape of the weight that a delta is for. A 1x1 convolution has that of a linear layer, if `base` is one."""
    shape = (len(layer.up), *layer.down.shape[1:])
    return (shape[0], shape[-1]) if base.weight.ndim == 2 and shape[1:-1] == (1, 1) else shape


def _aliases(paths: Mapping[str, object], models: Models) -> Iterator[tuple[str, str]]:
    """(other name, full path) for the names that kohya's sd-scripts and newer versions of transformers use.

    For Stable Diffusion XL, sd-scripts use names of the original layout ("input_blocks_4_1_...").
    """
    for path in paths:
        component, _, module = path.partition(".")
        for name in (module, module.removeprefix("text_model.")):
            yield f"{component}.{name}", path
            for key in kohya_keys(f"{component}.{name}"):
                yield key, path
    if "unet" not in models:
        return
    inner = {name: original for original, name in UNET_RESNET.items()}
    for original, name in unet_modules(models["unet"].config.layers).items():
        for path in paths:
            if f"{path}.".startswith(f"unet.{name}."):
                rest = path.removeprefix(f"unet.{name}")
                module = inner.get(rest[1:], rest[1:]) if ".resnets." in path else rest[1:]
                name_in_original = f"{original}.{module}" if module else original
                yield kohya_keys(f"unet.{name_in_original}")[0], path
