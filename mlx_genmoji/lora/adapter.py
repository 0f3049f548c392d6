"""An adapter in memory: the change of each layer, most of them low-rank deltas, and the tokens that it brings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import mlx.core as mx
import mlx.nn as nn

from ..checkpoint.original_keys import UNET_RESNET, unet_modules
from ..errors import UserError, first_few, quoted
from ..textual_inversion import Learned
from .card import Card
from .key_formats import LYCORIS, kohya_keys
from .layer_tree import Models, adaptable, is_pointwise, norms
from .layers import weight_shape
from .whole import WholeChange


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
    whole: Mapping[str, WholeChange] = field(default_factory=dict)
    """Changes that no pair of matrices holds, by the same names. A layer may be in both."""
    learned: Learned = Learned()  # noqa: RUF009
    """The tokens that it brings."""
    card: Card = field(default_factory=Card)
    """What its folder says of it."""

    def low_rank_only(self, purpose: str) -> Mapping[str, Layer]:
        """The layers, for a purpose that knows pairs of matrices only ("training"). Raises UserError for more."""
        if self.whole:
            kind = next(iter(self.whole.values())).kind
            raise UserError(f"{self.name} holds {kind}: {purpose} takes adapters of LoRA and DoRA only.")
        return self.layers

    def resolve(self, models: Models) -> "Adapter":
        """This adapter with the full paths that its layers have in `models`, and `down` in the shapes of `Layer`.

        Raises UserError with a list of the layers that `models` lack, that have another shape or that occur twice.
        """
        names = _FullPaths(models)
        layers: dict[str, Layer] = {}
        whole: dict[str, WholeChange] = {}
        unknown, twice, misshaped = [], [], []
        for path, layer in self.layers.items():
            full_path = names.get(path)
            if full_path is None:
                unknown.append(quoted(path))
                continue
            base = names.modules[full_path]
            if full_path in layers:
                twice.append(quoted(path))
            elif (expected := weight_shape(base)) != (shape := _shape(layer, base)):
                misshaped.append(f"{quoted(path)} {shape} instead of {expected}")
            else:
                layers[full_path] = replace(layer, down=to_adapter_shape(layer.down, full_path, models))
        for path, change in self.whole.items():
            full_path = names.get(path)
            if full_path is None:
                unknown.append(quoted(path))
            elif full_path in whole:
                twice.append(quoted(path))
            elif fault := _misfit(change, names.modules[full_path]):
                misshaped.append(f"{quoted(path)} {fault}")
            else:
                whole[full_path] = change
        for complaint, complained in (
            ("it changes layers that the model lacks", unknown),
            ("its layers have other shapes", misshaped),
            ("it changes layers twice", twice),
        ):
            if complained:
                raise UserError(f"{self.name} is an adapter for another model: {complaint}: {first_few(complained)}.")
        return replace(self, layers=layers, whole=whole)


class _FullPaths:
    """The full paths of a model's layers and norms, and the other names that files give them."""

    def __init__(self, models: Models):
        self.modules = adaptable(models) | norms(models)
        self._models = models
        self._aliases: dict[str, str] | None = None

    def get(self, name: str) -> str | None:
        if name in self.modules:
            return name
        if self._aliases is None:
            self._aliases = dict(_aliases(self.modules, self._models))
        return self._aliases.get(name)


def _misfit(change: WholeChange, base: nn.Module) -> str | None:
    """How a change does not fit a layer, if it does not."""
    shape = weight_shape(base)
    bias = None if "bias" not in base else tuple(base.bias.shape)
    if change.bias is not None and tuple(change.bias.shape) != bias:
        return f"a bias of {tuple(change.bias.shape)} instead of {bias}"
    size = shape[-1] if change.over_inputs else shape[0]
    if change.magnitude is not None and change.magnitude.size != size:
        return f"{change.magnitude.size} magnitudes instead of {size}"
    try:
        if change.changes_weight:
            change.delta(shape)
    except ValueError as error:
        return str(error).splitlines()[0]
    return None


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
    """(other name, full path) for the names that sd-scripts, LyCORIS and newer versions of transformers use.

    For Stable Diffusion XL, sd-scripts use names of the original layout ("input_blocks_4_1_..."), OneTrainer the same
    with dots.
    """
    for path in paths:
        component, _, module = path.partition(".")
        for name in (module, module.removeprefix("text_model.")):
            yield f"{component}.{name}", path
            for key in kohya_keys(f"{component}.{name}"):
                yield key, path
            yield LYCORIS + name.replace(".", "_"), path
    if "unet" not in models:
        return
    inner = {name: original for original, name in UNET_RESNET.items()}
    for original, name in unet_modules(models["unet"].config.layers).items():
        for path in paths:
            if f"{path}.".startswith(f"unet.{name}."):
                rest = path.removeprefix(f"unet.{name}")
                module = inner.get(rest[1:], rest[1:]) if ".resnets." in path else rest[1:]
                name_in_original = f"unet.{original}.{module}" if module else f"unet.{original}"
                yield name_in_original, path
                yield kohya_keys(name_in_original)[0], path
