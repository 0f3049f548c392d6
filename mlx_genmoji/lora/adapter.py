"""An adapter by itself: for each layer of a model that it changes, by how much."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import mlx.core as mx
import mlx.nn as nn

from ..checkpoint.original_keys import UNET_RESNET, unet_modules
from ..errors import UserError, quoted
from .key_formats import kohya_keys
from .layer_tree import Models, adaptable, is_pointwise
from .layers import weight_shape


@dataclass(frozen=True, eq=False)
class Layer:
    """The change of one layer."""

    down: mx.array
    """(rank, in) of a linear layer, (rank, kh, kw, in) of a convolution, one of 1x1 included."""
    up: mx.array
    """(out, rank)."""
    alpha: float
    """The change is alpha / rank * up @ down. Where a file says nothing, it is the rank."""
    dora_scale: mx.array | None = None
    """(out,), the norms of the changed weights of each output, of a DoRA."""

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True, eq=False)
class Adapter:
    """Changes of layers by their full paths ("unet.down_blocks.0.attentions.0.proj_in"), and where they come from.

    Of kohya's files the paths are as there ("lora_unet_down_blocks_0_..."), until `resolve`.
    """

    layers: Mapping[str, Layer]
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The header of the file. Our own, all optional: `base_model` (a name or id, never a path), `base_sha256`,
    `base_bits`, `skin_tone`, `person_type`, `template`, `dataset_sha256`, `step`, `seed`."""
    name: str = "the adapter"
    """Of its file."""
    sha256: str | None = None
    """Of its file."""

    def resolve(self, models: Models) -> "Adapter":
        """The same with the paths of `models` and the shapes of their layers.

        Raises UserError listing what the models lack, or what in them has another shape.
        """
        there = adaptable(models)
        aliases: dict[str, str] = {}
        layers: dict[str, Layer] = {}
        unknown, twice, misshaped = [], [], []
        for path, layer in self.layers.items():
            if path not in there:
                aliases = aliases or dict(_aliases(there, models))
            known = path if path in there else aliases.get(path)
            if known is None:
                unknown.append(quoted(path))
            elif known in layers:
                twice.append(quoted(path))
            elif (expected := weight_shape(there[known])) != (found := _shape(layer, there[known])):
                misshaped.append(f"{quoted(path)} {found} instead of {expected}")
            else:
                layers[known] = replace(layer, down=as_filed(layer.down, known, models))
        for complaint, names in (
            ("it changes layers that the model lacks", unknown),
            ("layers are of other shapes", misshaped),
            ("it changes layers twice", twice),
        ):
            if names:
                shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
                raise UserError(f"{self.name} is an adapter for another model: {complaint}: {shown}.")
        return replace(self, layers=layers)


def as_filed(down: mx.array, path: str, models: Models) -> mx.array:
    """The way down of a layer, in the shape that it has in an Adapter."""
    if down.ndim == 4 and down.shape[1:3] != (1, 1):
        return down
    flat = down.reshape(len(down), -1)
    return flat[:, None, None] if is_pointwise(path, models) else flat


def _shape(layer: Layer, base: nn.Module) -> tuple[int, ...]:
    """Of the weight that a change is for; 1x1 convolutions and linear layers are the same."""
    shape = (len(layer.up), *layer.down.shape[1:])
    return (shape[0], shape[-1]) if base.weight.ndim == 2 and shape[1:-1] == (1, 1) else shape


def _aliases(paths: Mapping[str, object], models: Models) -> Iterator[tuple[str, str]]:
    """Full paths by how kohya's sd-scripts spell them, and newer versions of transformers.

    Stable Diffusion XL is spelled after its original layout ("input_blocks_4_1_...").
    """
    for path in paths:
        component, _, own = path.partition(".")
        for spelled in (own, own.removeprefix("text_model.")):
            yield f"{component}.{spelled}", path
            for key in kohya_keys(f"{component}.{spelled}"):
                yield key, path
    if "unet" not in models:
        return
    inner = {name: original for original, name in UNET_RESNET.items()}
    for original, name in unet_modules(models["unet"].config.layers).items():
        for path in paths:
            if f"{path}.".startswith(f"unet.{name}."):
                rest = path.removeprefix(f"unet.{name}")
                module = inner.get(rest[1:], rest[1:]) if ".resnets." in path else rest[1:]
                spelled = f"{original}.{module}" if module else original
                yield kohya_keys(f"unet.{spelled}")[0], path
