"""Quantization: its entry in a component's config.json, the layers with packed weights, and quantizing a model.

Each group of `group_size` weights along the input channels shares a scale and, in mode affine, a bias:
w = scale * q + bias. The other modes are small floats, the OCP microscaling formats and NVIDIA's, with fixed group
sizes. A packed layer dequantizes its weight when it computes. In training it dequantizes it again in the backward pass
instead of keeping it. Only the input gets a gradient, because a packed base is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .errors import UserError, quoted
from .models import CONFIG_KEY as CONFIG_KEY
from .models import DENSE_KEY as DENSE_KEY
from .models.blocks import Conv2d, Convolution, PointwiseConv
from .models.clip import CLIPTextModel
from .models.ops import conv2d, on_cpu
from .models.ops.packed import dequantize, packed_matmul, with_dequantized
from .models.unet import UNet2DConditionModel

# By mode, the bits and the group sizes that MLX has; the first of each is the default.
MODES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((4, 2, 3, 5, 6, 8), (64, 32, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}

# By class of model, the beginnings of the paths of layers that stay dense: they are small, and the whole picture or
# text passes through them. Norms hold no matrices. A model of another class stays dense as a whole.
DENSE: dict[type[nn.Module], tuple[str, ...]] = {
    UNet2DConditionModel: ("conv_in.", "conv_out.", "time_embedding.", "add_embedding."),
    CLIPTextModel: ("text_model.embeddings.position_embedding.", "text_projection."),
}


@dataclass(frozen=True)
class Quantization:
    """How weights are packed: the entry "quantization" of a component's config.json. Raises UserError if not valid."""

    bits: int = 4
    group_size: int = 64
    mode: str = "affine"

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise UserError(f"The quantization's mode is {quoted(repr(self.mode))}; there are {_either(MODES)}.")
        for name, value, allowed in zip(
            ("bits", "group_size"), (self.bits, self.group_size), MODES[self.mode], strict=True
        ):
            if type(value) is not int or value not in allowed:
                raise UserError(
                    f"The quantization's {name} is {quoted(repr(value))}; in mode {self.mode} it is"
                    f" {_either(sorted(allowed))}."
                )

    @classmethod
    def choose(cls, bits: int | None = None, group_size: int | None = None, mode: str = "affine") -> Quantization:
        """A quantization with the mode's defaults for what is None."""
        all_bits, group_sizes = MODES.get(mode, MODES["affine"])
        return cls(all_bits[0] if bits is None else bits, group_sizes[0] if group_size is None else group_size, mode)

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Quantization | None:
        """The quantization in a component's config.json; None if its weights are dense."""
        entry = config.get(CONFIG_KEY)
        if entry is None:
            return None
        known = [field.name for field in fields(cls)]
        if not isinstance(entry, dict) or not set(entry) <= set(known):
            raise UserError(f"config.json's {CONFIG_KEY!r} is {quoted(repr(entry))}; it has {', '.join(known)}.")
        return cls(**entry)

    @property
    def for_text(self) -> Quantization:
        """The quantization for the text encoders of the same model, with at least 8 bits.

        At 4 bits they change pictures more than a UNet at 4 bits does, and they are the smaller part of a model.
        """
        if self.bits >= 8:
            return self
        return Quantization.choose(8, self.group_size) if self.mode == "affine" else Quantization.choose(mode="mxfp8")

    def as_config(self) -> dict[str, Any]:
        return asdict(self)

    def fits(self, weight: mx.array) -> bool:
        """Whether the weight's last axis is a whole number of groups."""
        return weight.shape[-1] % self.group_size == 0

    def pack(self, weight: mx.array) -> list[mx.array]:
        """(..., C) -> uint32 (..., C * bits / 32), scales (..., C / group_size) and, in mode affine, biases alike."""
        # From float32 on every device, so that a CPU and a GPU pack the same weights to the same numbers.
        packed = mx.quantize(weight.astype(mx.float32), **self.as_config())
        return [part.astype(mx.float16) if part.dtype == mx.float32 else part for part in packed]


class QuantizedLayer(nn.Module):
    """A layer with a packed weight: `weight`, `scales` and, in mode affine, `biases`. `unfreeze` keeps them frozen."""

    PARTS = ("weight", "scales", "biases")

    def __init__(self, layer: nn.Module, quantization: Quantization):
        """Pack a dense layer, lazily."""
        super().__init__()
        self.quantization = quantization
        for name, part in zip(self.PARTS, quantization.pack(layer.weight), strict=False):
            self[name] = part
        if "bias" in layer:
            self.bias = layer.bias
        self.freeze()

    def unfreeze(self, *arguments: Any, **options: Any) -> nn.Module:
        super().unfreeze(*arguments, **options)
        return self.freeze(recurse=False)

    @property
    def layout(self) -> dict[str, Any]:
        """The keyword arguments `bits`, `group_size` and `mode` of MLX's functions."""
        return self.quantization.as_config()

    @property
    def packed(self) -> list[mx.array]:
        return [self[name] for name in self.PARTS if name in self]

    @property
    def dense_shape(self) -> tuple[int, ...]:
        """The shape of the weight when it is dequantized."""
        *outer, groups = self.scales.shape
        return *outer, groups * self.quantization.group_size

    def dequantized(self, dtype: mx.Dtype = mx.float32) -> mx.array:
        """The weight, dense: (O, C) of a linear layer, (O, kh, kw, C) of a convolution, (N, C) of an embedding."""
        return dequantize(self.packed, self.layout, dtype)


class QuantizedLinear(QuantizedLayer):
    """Replaces nn.Linear and PointwiseConv."""

    def __call__(self, x: mx.array) -> mx.array:
        y = packed_matmul(x, self.packed, self.layout)
        return y + self.bias if "bias" in self else y


class QuantizedConv2d(QuantizedLayer):
    """Replaces Conv2d."""

    def __init__(self, layer: Conv2d, quantization: Quantization):
        super().__init__(layer, quantization)
        self.stride = layer.stride
        self.padding = layer.padding

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        """operation: replaces the plain convolution, such as one fused with resampling."""
        if operation is None:
            operation = partial(conv2d, stride=self.stride[0], padding=self.padding[0])
        y = with_dequantized(operation, x, self.packed, self.layout)
        return y + self.bias if "bias" in self else y


class QuantizedEmbedding(QuantizedLayer):
    """Replaces nn.Embedding: dequantizes only the rows of the given ids."""

    def __call__(self, ids: mx.array) -> mx.array:
        return dequantize([part[ids] for part in self.packed], self.layout, mx.float32 if on_cpu() else mx.float16)


PACKED: dict[type[nn.Module], type[QuantizedLayer]] = {
    nn.Linear: QuantizedLinear,
    PointwiseConv: QuantizedLinear,
    Conv2d: QuantizedConv2d,
    nn.Embedding: QuantizedEmbedding,
}


class LayerReport(NamedTuple):
    """The result of quantizing one layer."""

    path: str
    bits: int | None
    """None if the layer stays dense, because its input channels are not a whole number of groups."""
    error: float | None
    """||packed - dense|| / ||dense||; None if it was not measured."""


def packable(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of a model that `quantize_model` packs if their groups fit, with their paths, sorted."""
    dense = next((paths for kind, paths in DENSE.items() if isinstance(model, kind)), ("",))
    layers = [(path, layer) for path, layer in model.named_modules() if type(layer) in PACKED]
    return sorted(pair for pair in layers if not f"{pair[0]}.".startswith(dense))


def replace_layer(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Replace the module at `path` of a model by `layer`."""
    *owners, name = path.split(".")
    owner: Any = model
    for step in owners:
        owner = owner[int(step) if isinstance(owner, list) else step]
    owner[int(name) if isinstance(owner, list) else name] = layer


def quantize_model(
    model: nn.Module,
    quantization: Quantization,
    measure: bool = True,
    done: Callable[[int, int], None] | None = None,
) -> list[LayerReport]:
    """Pack a model's layers in place, one after another. Returns a report for each.

    If the weights are lazy, no more than one dense weight is in memory at a time. measure: compute the errors, which
    doubles the time. done: called after each layer with the number of layers done, and of all. Raises UserError if the
    model is packed already, or no layer can be packed.
    """
    if Quantization.read(model.raw_config) is not None:
        raise UserError("The model's weights are packed already: start from the dense model.")
    layers = packable(model)
    if not any(quantization.fits(layer.weight) for _, layer in layers):
        raise UserError(
            f"Nothing of the {type(model).__name__} can be packed in groups of {quantization.group_size} weights."
        )
    reports: list[LayerReport] = []
    count = len(layers)
    while layers:
        path, layer = layers.pop(0)
        reports.append(_quantize_layer(model, path, layer, quantization, measure))
        del layer
        if done is not None:
            done(len(reports), count)
    model.raw_config[CONFIG_KEY] = quantization.as_config()
    return reports


def _quantize_layer(
    model: nn.Module, path: str, layer: nn.Module, quantization: Quantization, measure: bool
) -> LayerReport:
    if not quantization.fits(layer.weight):
        return LayerReport(path, None, 0.0 if measure else None)
    packed = PACKED[type(layer)](layer, quantization)
    mx.eval(packed.packed)
    replace_layer(model, path, packed)
    if not measure:
        return LayerReport(path, quantization.bits, None)
    dense = layer.weight.astype(mx.float32)
    difference = mx.linalg.norm(packed.dequantized() - dense) / mx.maximum(mx.linalg.norm(dense), 1e-30)
    return LayerReport(path, quantization.bits, float(np.asarray(difference)))


def expect_packed(model: nn.Module, quantization: Quantization, paths: Iterable[str]) -> None:
    """Replace the layers at `paths` by packed ones, before their weights are loaded. Raises UserError if none fits."""
    layers = {path: layer for path, layer in packable(model) if quantization.fits(layer.weight)}
    matches = layers.keys() & set(paths)
    if not matches:
        raise UserError(f"config.json's {CONFIG_KEY!r} says that weights are packed, but none is.")
    for path in matches:
        replace_layer(model, path, PACKED[type(layers[path])](layers[path], quantization))


def _either(values: Iterable[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def configs_of(raw_configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """How models are quantized, by their names; None if none are. raw_configs: the contents of their config.json."""
    configs = {name: Quantization.read(config) for name, config in raw_configs.items()}
    return {name: config.as_config() for name, config in configs.items() if config is not None} or None
