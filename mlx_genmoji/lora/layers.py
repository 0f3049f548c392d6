"""Layers with a low-rank change of their weight (LoRA; Hu et al., 2021, https://arxiv.org/abs/2106.09685).

    W' = W + scale * up @ down              W' = magnitude * (W + scale * up @ down) / |W + scale * up @ down|

The second is DoRA (Liu et al., 2024, https://arxiv.org/abs/2402.09353), |.| being the norm of each output's weights. W
belongs to the layer that is wrapped, dense or quantized, and is never touched: it is called as before, and taking the
wrapper away gives it back. `lora_a`, the way down, is (rank, in) of a linear layer and (rank, kh, kw, in) of a
convolution; `lora_b`, the way up, (out, rank).
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
    """What the two kinds share: a frozen `base` and its trainable change."""

    def __init__(
        self,
        base: nn.Module,
        lora_a: mx.array,
        lora_b: mx.array,
        scale: float,
        dropout: float = 0.0,
        magnitude: mx.array | None = None,
    ):
        """scale: of the product of both. dropout: of the change's input, in training. magnitude: (out,), of DoRA.

        A layer that is not trained may have an `excess` (out,): how much of the base is added once more, to which DoRAs
        come down; and it `merges`: where that is less work, it adds the change to the weight and not to the result.
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
        """Keep the pair of now, in `start_a` and `start_b`. `offset`: what it does is taken off again.

        With an offset the layer starts as its base whatever the pair is, and the pair is trained from there (PiSSA).
        """
        self.start_a, self.start_b = self.lora_a, self.lora_b
        self.offset = offset

    def freeze_base(self) -> None:
        """Leave the change alone trainable."""
        self.freeze()
        self.unfreeze(keys=["lora_a", "lora_b", "magnitude"], recurse=False, strict=False)

    def pair(self, offset: bool) -> tuple[mx.array, mx.array]:
        """`lora_a` and `lora_b`; with `offset`, such that the change is one from the start, of twice the rank."""
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
        """W' for this input, if there is a dense W to add to and that is less work than two more products."""
        positions, shape = x.size // x.shape[-1], weight_shape(self.base)
        inputs = math.prod(shape[1:])
        if not self.merges or positions * (shape[0] + inputs) < shape[0] * inputs:
            return None
        weight = self.base.weight
        if "excess" in self:
            weight = weight * (1 + per_output(self.excess, weight))
        return weight + low_rank(self.scale, *self.pair(self.offset), shape)

    def _gain(self) -> mx.array:
        """magnitude / |W + ...|, (out,); the norm is taken as a constant, as the paper does."""
        weight = mx.stop_gradient(dense_weight(self.base).astype(self.lora_a.dtype))
        down, up = (mx.stop_gradient(array) for array in self.pair(self.offset))
        weight = weight + low_rank(self.scale, down, up, weight.shape)
        return self.magnitude / mx.stop_gradient(output_norms(weight))

    def _add(self, y: mx.array, change: mx.array) -> mx.array:
        """`y` of the base with the change, not scaled yet, of the same input."""
        change = self.scale * change
        if "magnitude" in self or "excess" in self:
            plain = (y - self.base.bias if "bias" in self.base else y).astype(change.dtype)
            gain = self._gain() if "magnitude" in self else 1
            excess = gain - 1 if "magnitude" in self else self.excess
            change = excess * plain + gain * change
        return y + change.astype(y.dtype)


class LoRALinear(LoRALayer):
    """A linear layer, a 1x1 convolution that is kept as one included."""

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) -> (..., out). The change is computed in the precision of the adapter."""
        if (weight := self._merged(x)) is not None:
            return mx.addmm(self.base.bias, x, weight.T) if "bias" in self.base else x @ weight.T
        down, up = self.pair(self.offset)
        return self._add(self.base(x), (self.dropout(x).astype(down.dtype) @ down.T) @ up.T)


class LoRAConv2d(LoRALayer):
    """A convolution."""

    def __call__(self, x: mx.array, operation: Convolution | None = None) -> mx.array:
        """(B, H, W, in) -> (B, H', W', out). The change is computed in the precision of the adapter."""
        if operation is None:
            operation = partial(conv2d, stride=self.base.stride[0], padding=self.base.padding[0])
        if (weight := self._merged(x)) is not None:
            y = operation(x, weight)
            return y + self.base.bias if "bias" in self.base else y
        down, up = self.pair(self.offset)
        low = operation(self.dropout(x).astype(down.dtype), down)
        return self._add(self.base(x, operation), low @ up.T)


def low_rank(scale: float, down: mx.array, up: mx.array, shape: tuple[int, ...]) -> mx.array:
    """scale * up @ down, in the shape of the weight that it changes."""
    return scale * (up @ down.reshape(len(down), -1)).reshape(shape)


def per_output(values: mx.array, weight: mx.array) -> mx.array:
    """(out,) values, to be multiplied with a weight."""
    return values.reshape(-1, *[1] * (weight.ndim - 1))


def output_norms(weight: mx.array) -> mx.array:
    """The norm of the weights of each output, (out,)."""
    return mx.sqrt(weight.reshape(len(weight), -1).square().sum(-1))


def wrap(base: nn.Module, lora_a: mx.array, lora_b: mx.array, scale: float, **more: Any) -> LoRALayer:
    """The kind of LoRALayer that stands in for `base`."""
    return (LoRAConv2d if base.weight.ndim == 4 else LoRALinear)(base, lora_a, lora_b, scale, **more)
