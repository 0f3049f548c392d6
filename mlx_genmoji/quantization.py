"""Weights in few bits: what a component's config.json says of them, the layers that hold them, and packing a model.

Every `group_size` weights along the input channels share a scale and, in mode affine, a bias: w = scale * q + bias. The
other modes are the small floats of the OCP microscaling formats and of NVIDIA, whose groups are fixed. A packed layer
computes with the weight unpacked for the moment: in training it is unpacked again in the backward pass, never kept, and
the gradient is that of the input, since a packed base stays as it is.
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
from .models.blocks import Conv2d, Convolution, PointwiseConv
from .models.clip import CLIPTextModel
from .models.ops import conv2d, on_cpu
from .models.ops.packed import dequantize, packed_matmul, with_dequantized
from .models.unet import UNet2DConditionModel

# By mode, the bits and the group sizes that MLX has; the first of each is meant where nothing is said.
MODES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((4, 2, 3, 5, 6, 8), (64, 32, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}

# What stays dense, by the beginning of its path: next to nothing of the size, and where every error of a picture or a
# text passes through. Norms hold no matrices; a kind of model that is not here stays dense as a whole.
DENSE: dict[type[nn.Module], tuple[str, ...]] = {
    UNet2DConditionModel: ("conv_in.", "conv_out.", "time_embedding.", "add_embedding."),
    CLIPTextModel: ("text_model.embeddings.position_embedding.", "text_projection."),
}

CONFIG_KEY = "quantization"
DENSE_KEY = "_dense_sha256"
"""In a UNet's config.json: the hash of the whole model's weights before they were packed, which adapters name."""


@dataclass(frozen=True)
class Quantization:
    """How weights are packed; as a component's config.json has it under "quantization". Raises UserError."""

    bits: int = 4
    group_size: int = 64
    mode: str = "affine"

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise UserError(f"The quantization's mode is {quoted(repr(self.mode))}; there are {_either(MODES)}.")
        for what, value, allowed in zip(
            ("bits", "group_size"), (self.bits, self.group_size), MODES[self.mode], strict=True
        ):
            if type(value) is not int or value not in allowed:
                shown = quoted(repr(value))
                raise UserError(
                    f"The quantization's {what} is {shown}; in mode {self.mode} it is {_either(sorted(allowed))}."
                )

    @classmethod
    def choose(cls, bits: int | None = None, group_size: int | None = None, mode: str = "affine") -> Quantization:
        """The mode's own bits and group size where they are not said."""
        own_bits, own_groups = MODES.get(mode, MODES["affine"])
        return cls(own_bits[0] if bits is None else bits, own_groups[0] if group_size is None else group_size, mode)

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Quantization | None:
        """What a component's config.json says; None where its weights are dense."""
        said = config.get(CONFIG_KEY)
        if said is None:
            return None
        known = [field.name for field in fields(cls)]
        if not isinstance(said, dict) or not set(said) <= set(known):
            raise UserError(f"config.json's {CONFIG_KEY!r} is {quoted(repr(said))}; it has {', '.join(known)}.")
        return cls(**said)

    @property
    def for_text(self) -> Quantization:
        """What goes with it for text encoders, never below 8 bits.

        At 4 they change pictures more than a UNet at 4 does, and are the smaller part of a model.
        """
        if self.bits >= 8:
            return self
        return Quantization.choose(8, self.group_size) if self.mode == "affine" else Quantization.choose(mode="mxfp8")

    def as_config(self) -> dict[str, Any]:
        return asdict(self)

    def fits(self, weight: mx.array) -> bool:
        """Whether the weight's last axis can be packed in whole groups."""
        return weight.shape[-1] % self.group_size == 0

    def pack(self, weight: mx.array) -> list[mx.array]:
        """(..., C) -> uint32 (..., C * bits / 32), scales (..., C / group_size) and, in mode affine, biases alike."""
        # From float32 everywhere, so that the same weights are packed alike on a CPU and on a GPU.
        packed = mx.quantize(weight.astype(mx.float32), **self.as_config())
        return [part.astype(mx.float16) if part.dtype == mx.float32 else part for part in packed]


class QuantizedLayer(nn.Module):
    """A layer whose weight is packed: `weight`, `scales` and, in mode affine, `biases`. Frozen, whatever thaws it."""

    PARTS = ("weight", "scales", "biases")

    def __init__(self, layer: nn.Module, quantization: Quantization):
        """Pack a dense layer, unevaluated."""
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
        """What MLX's functions ask for beside the arrays."""
        return self.quantization.as_config()

    @property
    def packed(self) -> list[mx.array]:
        return [self[name] for name in self.PARTS if name in self]

    @property
    def dense_shape(self) -> tuple[int, ...]:
        """The shape of the weight that is packed."""
        *outer, groups = self.scales.shape
        return *outer, groups * self.quantization.group_size

    def dequantized(self, dtype: mx.Dtype = mx.float32) -> mx.array:
        """The weight, dense: (O, C) of a linear layer, (O, kh, kw, C) of a convolution, (N, C) of an embedding."""
        return dequantize(self.packed, self.layout, dtype)


class QuantizedLinear(QuantizedLayer):
    """Stands in for nn.Linear and PointwiseConv."""

    def __call__(self, x: mx.array) -> mx.array:
        y = packed_matmul(x, self.packed, self.layout)
        return y + self.bias if "bias" in self else y


class QuantizedConv2d(QuantizedLayer):
    """Stands in for Conv2d."""

    def __init__(self, layer: Conv2d, quantization: Quantization):
        super().__init__(layer, quantization)
        self.stride = layer.stride
        self.padding = layer.padding

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        """`operation` stands in for the plain convolution: resampling is fused with it."""
        if operation is None:
            operation = partial(conv2d, stride=self.stride[0], padding=self.padding[0])
        y = with_dequantized(operation, x, self.packed, self.layout)
        return y + self.bias if "bias" in self else y


class QuantizedEmbedding(QuantizedLayer):
    """Stands in for nn.Embedding: unpacks the rows that are asked for."""

    def __call__(self, ids: mx.array) -> mx.array:
        return dequantize([part[ids] for part in self.packed], self.layout, mx.float32 if on_cpu() else mx.float16)


PACKED: dict[type[nn.Module], type[QuantizedLayer]] = {
    nn.Linear: QuantizedLinear,
    PointwiseConv: QuantizedLinear,
    Conv2d: QuantizedConv2d,
    nn.Embedding: QuantizedEmbedding,
}


class LayerReport(NamedTuple):
    """What became of one layer."""

    path: str
    bits: int | None
    """None: left dense, since its input channels are not whole groups."""
    error: float | None
    """||packed - dense|| / ||dense||, where it was measured."""


def packable(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that are packed where they fit, by their path."""
    dense = next((paths for kind, paths in DENSE.items() if isinstance(model, kind)), ("",))
    layers = [(path, layer) for path, layer in model.named_modules() if type(layer) in PACKED]
    return sorted(pair for pair in layers if not f"{pair[0]}.".startswith(dense))


def replace_layer(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put `layer` where `path` is in the tree."""
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
    """Pack a model's layers in place, one after the other, and say what became of each.

    Of a model whose weights are not evaluated yet, never more than one is in memory unpacked. measure: compute the
    errors, which takes as long again. done: called after each layer with the number of those done, and of all. Raises
    UserError where the model is packed already or nothing of it can be.
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
    """Give a model packed layers at `paths`, their weights to be loaded. Raises UserError where there are none."""
    layers = {path: layer for path, layer in packable(model) if quantization.fits(layer.weight)}
    found = layers.keys() & set(paths)
    if not found:
        raise UserError(f"config.json's {CONFIG_KEY!r} says that weights are packed, but none is.")
    for path in found:
        replace_layer(model, path, PACKED[type(layers[path])](layers[path], quantization))


def packed_parts(model: nn.Module) -> set[str]:
    """The paths of the parameters that are parts of packed weights."""
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, QuantizedLayer)]
    return {f"{path}.{part}" for path, layer in layers for part in layer.PARTS if part in layer}


def _either(values: Iterable[object]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last
