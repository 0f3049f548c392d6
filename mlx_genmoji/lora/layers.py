"""Layers with a low-rank delta added to their weight (LoRA; Hu et al., 2021, https://arxiv.org/abs/2106.09685).

    W' = W + scale * up @ down              W' = magnitude * (W + scale * up @ down) / |W + scale * up @ down|

The second is DoRA (Liu et al., 2024, https://arxiv.org/abs/2402.09353), |.| being the norm of each output's weights. W
is the weight of the wrapped base layer, dense or quantized, which never changes. `lora_a`, the down matrix, is
(rank, in) for a linear layer and (rank, kh, kw, in) for a convolution; `lora_b`, the up matrix, is (out, rank).
"""

import math
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..models.blocks import Convolution
from ..models.checkpointing import Dropout
from ..models.ops import conv2d
from ..quantization import QuantizedLayer


def dense_weight(layer: nn.Module) -> mx.array:
    """The weight of a linear layer (out, in) or a convolution (out, kh, kw, in), float32 where it is quantized."""
    return layer.dequantized() if isinstance(layer, QuantizedLayer) else layer.weight


def weight_shape(layer: nn.Module) -> tuple[int, ...]:
    """The shape of `dense_weight`."""
    return layer.dense_shape if isinstance(layer, QuantizedLayer) else layer.weight.shape


class LoRALayer(nn.Module):
    """A frozen `base` layer and its trainable delta: what linear and convolution layers have in common."""

    def __init__(
        self,
        base: nn.Module,
        lora_a: mx.array,
        lora_b: mx.array,
        scale: float,
        dropout: float = 0.0,
        magnitude: mx.array | None = None,
    ):
        """scale: the factor of lora_b @ lora_a. dropout: of the delta's input, in training. magnitude: (out,), of DoRA.

        Two more attributes are for inference. `excess` (out,): a DoRA multiplies each output of the base by a constant
        gain, and `excess` is gain - 1. `merges`: the delta is added to the weight if that is cheaper than two extra
        products.
        """
        super().__init__()
        self.base = base
        self.lora_a = lora_a
        self.lora_b = lora_b
        self.scale = scale
        self.dropout = Dropout(dropout)
        if magnitude is not None:
            self.magnitude = magnitude
        self.offset = False
        self.merges = False

    def start_from(self, offset: bool) -> None:
        """Keep the present matrices as `start_a` and `start_b`. offset: subtract their product from the delta (PiSSA).

        With an offset the layer's output equals its base's until the matrices are trained.
        """
        self.start_a, self.start_b = self.lora_a, self.lora_b
        self.offset = offset

    def freeze_base(self) -> None:
        """Make only the delta trainable."""
        self.freeze()
        self.unfreeze(keys=["lora_a", "lora_b", "magnitude"], recurse=False, strict=False)

    def pair(self, offset: bool) -> tuple[mx.array, mx.array]:
        """The delta's matrices, `lora_a` and `lora_b`. offset: with the start subtracted, which doubles the rank."""
        if not offset:
            return self.lora_a, self.lora_b
        return mx.concatenate([self.lora_a, self.start_a]), mx.concatenate([self.lora_b, -self.start_b], axis=1)

    def changed_weight(self) -> mx.array:
        """W', float32, in the shape of W."""
        weight = dense_weight(self.base).astype(mx.float32)
        down, up = (array.astype(mx.float32) for array in self.pair(self.offset))
        changed = weight + low_rank(self.scale, down, up, weight.shape)
        if "magnitude" in self:
            changed = changed * per_output(self.magnitude.astype(mx.float32) / output_norms(changed), weight)
        if "excess" in self:
            changed = changed + weight * per_output(self.excess.astype(mx.float32), weight)
        return changed

    def _merged(self, x: mx.array) -> mx.array | None:
        """W' if `merges` and computing it is cheaper for this input than two extra products; else None."""
        positions, shape = x.size // x.shape[-1], weight_shape(self.base)
        inputs = math.prod(shape[1:])
        if not self.merges or positions * (shape[0] + inputs) < shape[0] * inputs:
            return None
        weight = self.base.weight
        if "excess" in self:
            weight = weight * (1 + per_output(self.excess, weight))
        return weight + low_rank(self.scale, *self.pair(self.offset), shape)

    def _gain(self) -> mx.array:
        """DoRA's magnitude / |W + scale * up @ down|, (out,). No gradient passes through the norm, as in the paper."""
        weight = mx.stop_gradient(dense_weight(self.base).astype(self.lora_a.dtype))
        down, up = (mx.stop_gradient(array) for array in self.pair(self.offset))
        weight = weight + low_rank(self.scale, down, up, weight.shape)
        return self.magnitude / mx.stop_gradient(output_norms(weight))

    def _add(self, y: mx.array, delta: mx.array) -> mx.array:
        """The layer's output: `y` is the base's output, `delta` that of the two matrices, before `scale`."""
        delta = self.scale * delta
        if "magnitude" in self or "excess" in self:
            unbiased = (y - self.base.bias if "bias" in self.base else y).astype(delta.dtype)
            gain = self._gain() if "magnitude" in self else 1
            excess = gain - 1 if "magnitude" in self else self.excess
            delta = excess * unbiased + gain * delta
        return y + delta.astype(y.dtype)


class LoRALinear(LoRALayer):
    """A linear layer, or a 1x1 convolution that the models keep as one."""

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) -> (..., out). The delta is computed in the adapter's dtype."""
        if (weight := self._merged(x)) is not None:
            return mx.addmm(self.base.bias, x, weight.T) if "bias" in self.base else x @ weight.T
        down, up = self.pair(self.offset)
        return self._add(self.base(x), (self.dropout(x).astype(down.dtype) @ down.T) @ up.T)


class LoRAConv2d(LoRALayer):
    """A convolution."""

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        """(B, H, W, in) -> (B, H', W', out). The delta is computed in the adapter's dtype."""
        if operation is None:
            operation = partial(conv2d, stride=self.base.stride[0], padding=self.base.padding[0])
        if (weight := self._merged(x)) is not None:
            y = operation(x, weight)
            return y + self.base.bias if "bias" in self.base else y
        down, up = self.pair(self.offset)
        low = operation(self.dropout(x).astype(down.dtype), down)
        return self._add(self.base(x, operation), low @ up.T)


def low_rank(scale: float, down: mx.array, up: mx.array, shape: tuple[int, ...]) -> mx.array:
    """scale * up @ down, reshaped to a weight's shape."""
    return scale * (up @ down.reshape(len(down), -1)).reshape(shape)


def per_output(values: mx.array, weight: mx.array) -> mx.array:
    """(out,) values in a shape that broadcasts with a weight (out, ...)."""
    return values.reshape(-1, *[1] * (weight.ndim - 1))


def output_norms(weight: mx.array) -> mx.array:
    """The norm of the weights of each output, (out,)."""
    return mx.sqrt(weight.reshape(len(weight), -1).square().sum(-1))


def wrap(base: nn.Module, lora_a: mx.array, lora_b: mx.array, scale: float, **options: Any) -> LoRALayer:
    """A LoRALinear or LoRAConv2d around `base`. options: see LoRALayer."""
    return (LoRAConv2d if base.weight.ndim == 4 else LoRALinear)(base, lora_a, lora_b, scale, **options)
