"""Emits the layers of `mlx_genmoji.models` as ops of a Core ML function, the same ops that Apple's converter emits.

Activations are (B, C, H, W); in transformers (B, C, 1, S), which is fast on Apple's Neural Engine; in text encoders
(B, L, C). The last op of each module is named after the module's path with underscores for dots, so that a package can
be compared with the model layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora.layers import LoRALayer
from mlx_genmoji.models.blocks import Conv2d, GroupNorm
from mlx_genmoji.quantization import QuantizedConv2d

from ..coreml import import_coremltools
from ..export_options import Attention
from .weight_formats import Compressed, Compressor, Dense, Palette, PerChannel, release

# A value of coremltools, which is imported only where it is used.
Var = Any


def op_name(path: str) -> str:
    """The name of the last op of the module at `path`."""
    return path.replace(".", "_")


class Graph:
    """Emits the ops of one function."""

    def __init__(
        self,
        compressor: Compressor,
        half: bool,
        attention: Attention,
        system: int,
        adapter: str | None = None,
        weights: dict[str, dict[str, np.ndarray]] | None = None,
    ):
        """half: compute in half precision, else in full. system: the iOS version that the ops are for.

        adapter: emit a LoRALayer as its base and two separate layers, whose weights have this name; without it, with
        its changed weight. weights: those of the functions emitted before, to share them; new ones are added.
        """
        self.mb = import_coremltools("coremltools.converters.mil").Builder
        self.types = import_coremltools("coremltools.converters.mil.mil.types")
        self.compressor = compressor
        self.dtype = np.dtype(np.float16 if half else np.float32)
        self.split = attention == "split-einsum"
        self.system = system
        self.adapter = adapter
        self.weights = {} if weights is None else weights

    # Weights.

    def constant(self, values: np.ndarray, key: str) -> Var:
        """A constant. Functions of a package share those with the same key, so they are in its file once."""
        constant = self.mb.const(val=values, name=op_name(key))
        constant.op.weight_id = key
        return constant

    def vector(self, values: mx.array, key: str, shape: Sequence[int] | None = None) -> Var:
        """A bias or the like, in the precision of the function."""
        array = np.asarray(values.astype(mx.float32)).astype(self.dtype)
        return self.constant(array if shape is None else array.reshape(shape), key)

    def weight(self, path: str, layer: nn.Module, pointwise: bool = False) -> Var:
        """The weight of the layer at `path`. pointwise: give a linear layer's the shape of a convolution, (O, I, 1, 1).

        The layer's own copy is freed, so that a model's weights are never all in memory.
        """
        if isinstance(layer, LoRALayer) and self.adapter is not None:
            layer = layer.base
        key = f"{path}.weight"
        if key not in self.weights:
            self.weights[key] = self._parts(self.compressor.compress(path, layer), pointwise)
            release(layer)
        parts = self.weights[key]
        if "values" in parts:
            return self.constant(parts["values"], key)
        kinds = {"quantized_data": "affine_dequantize", "lut": "lut_to_dense", "data": "blockwise_shift_scale"}
        kind = next(kind for part, kind in kinds.items() if part in parts)
        weight = getattr(self.mb, f"constexpr_{kind}")(**parts, name=op_name(key))
        for part, var in weight.op.inputs.items():
            var.op.weight_id = f"{key}.{part}"
        return weight

    def _parts(self, weight: Compressed, pointwise: bool) -> dict[str, np.ndarray]:
        """The parameters of the op that decompresses a weight; `values` alone for a constant."""

        def shaped(array: np.ndarray) -> np.ndarray:
            return array[:, :, None, None] if pointwise else array

        if isinstance(weight, Dense):
            return {"values": shaped(weight.values)}
        if isinstance(weight, Palette):
            if self.system < 18:
                shape = np.array(shaped(weight.indices).shape, np.uint32)
                return {"indices": weight.packed(), "lut": weight.table, "shape": shape}
            indices = self._few_bits(shaped(weight.indices), f"uint{weight.bits}")
            return {"indices": indices, "lut": weight.table.reshape(*[1] * indices.ndim, -1, 1)}
        if isinstance(weight, PerChannel):
            values = shaped(weight.values)
            if self.system < 18:
                fixed: dict[str, np.ndarray] = {"zero_point": np.array(0, np.int8), "axis": np.array(0, np.int32)}
                return {"quantized_data": values, "scale": weight.scales, **fixed}
            return {"data": values, "scale": weight.scales.reshape(-1, *[1] * (values.ndim - 1))}
        kind = ("int" if weight.offsets is None else "uint") + str(weight.bits)
        parts = {"data": self._few_bits(shaped(weight.values), kind), "scale": shaped(weight.scales)}
        return parts if weight.offsets is None else {**parts, "offset": shaped(weight.offsets)}

    def _few_bits(self, values: np.ndarray, kind: str) -> np.ndarray:
        return values.astype(self.types.nptype_from_builtin(self.types.string_to_builtin(kind)))

    # Layers over channels.

    def conv(self, path: str, layer: nn.Module, x: Var, stride: int = 1, pad: Sequence[int] | None = None) -> Var:
        """A convolution, or a linear layer over the channels. pad: above, below, left, right."""
        base = layer.base if isinstance(layer, LoRALayer) else layer
        spatial = isinstance(base, (Conv2d, QuantizedConv2d))
        if pad is None:
            pad = [base.padding[0]] * 4 if spatial else [0] * 4
        options = {"strides": [stride, stride], "pad_type": "custom", "pad": list(pad)}
        separate = isinstance(layer, LoRALayer) and self.adapter is not None
        inputs = {"x": x, "weight": self.weight(path, layer, pointwise=not spatial)}
        if "bias" in base:
            inputs["bias"] = self.vector(base.bias, f"{path}.bias")
        y = self.mb.conv(**inputs, **options, name=f"{op_name(path)}_base" if separate else op_name(path))
        if not separate:
            return y
        down, up = self._pair(layer)
        down = down.transpose(0, 3, 1, 2) if down.ndim == 4 else down[:, :, None, None]
        low = self.mb.conv(x=x, weight=self._adapter_weight(down, f"{path}.lora_a"), **options)
        change = self.mb.conv(x=low, weight=self._adapter_weight(up[:, :, None, None], f"{path}.lora_b"))
        return self.mb.add(x=y, y=change, name=op_name(path))

    def linear(self, path: str, layer: nn.Module, x: Var) -> Var:
        """A linear layer over the last axis."""
        base = layer.base if isinstance(layer, LoRALayer) else layer
        separate = isinstance(layer, LoRALayer) and self.adapter is not None
        inputs = {"x": x, "weight": self.weight(path, layer)}
        if "bias" in base:
            inputs["bias"] = self.vector(base.bias, f"{path}.bias")
        y = self.mb.linear(**inputs, name=f"{op_name(path)}_base" if separate else op_name(path))
        if not separate:
            return y
        down, up = self._pair(layer)
        low = self.mb.linear(x=x, weight=self._adapter_weight(down, f"{path}.lora_a"))
        change = self.mb.linear(x=low, weight=self._adapter_weight(up, f"{path}.lora_b"))
        return self.mb.add(x=y, y=change, name=op_name(path))

    def _pair(self, layer: Any) -> list[np.ndarray]:
        """The two matrices of a LoRALayer, float32. Raises UserError for a DoRA."""
        if "excess" in layer or "magnitude" in layer:
            raise UserError(
                f"{self.adapter} is a DoRA, which cannot be a function of its own: export it without --functions."
            )
        down, up = layer.pair(False)
        return [np.asarray(array.astype(mx.float32)) for array in (down, layer.scale * up)]

    def _adapter_weight(self, values: np.ndarray, key: str) -> Var:
        return self.constant(np.ascontiguousarray(values.astype(self.dtype)), f"{self.adapter}.{key}")

    def group_norm(self, path: str, layer: GroupNorm, x: Var) -> Var:
        B, C, H, W = x.shape
        grouped = self.mb.reshape(x=x, shape=[B, layer.groups, C // layer.groups, H, W])
        normal = self.mb.reshape(x=self._normalised(grouped, [2, 3, 4], layer.eps), shape=[B, C, H, W])
        return self._scaled(path, layer, normal, (1, C, 1, 1))

    def layer_norm(self, path: str, layer: nn.LayerNorm, x: Var) -> Var:
        """Over the channels of (B, C, 1, S)."""
        return self._scaled(path, layer, self._normalised(x, [1], layer.eps), (1, x.shape[1], 1, 1))

    def _normalised(self, x: Var, axes: list[int], eps: float) -> Var:
        centred = self.mb.sub(x=x, y=self.mb.reduce_mean(x=x, axes=axes, keep_dims=True))
        variance = self.mb.reduce_mean(x=self.mb.square(x=centred), axes=axes, keep_dims=True)
        return self.mb.real_div(x=centred, y=self.mb.sqrt(x=self.mb.add(x=variance, y=self.dtype.type(eps))))

    def _scaled(self, path: str, layer: nn.Module, x: Var, shape: tuple[int, ...]) -> Var:
        scaled = self.mb.mul(x=x, y=self.vector(layer.weight, f"{path}.weight", shape))
        return self.mb.add(x=scaled, y=self.vector(layer.bias, f"{path}.bias", shape), name=op_name(path))

    def silu(self, x: Var) -> Var:
        return self.mb.silu(x=x)

    def attention(self, q: Var, k: Var, v: Var, heads: int, scale: float) -> Var:
        """(B, heads * D, 1, L) over (B, heads * D, 1, S) -> (B, heads * D, 1, L)."""
        q = self.times(q, scale)
        return (self._split_attention if self.split else self._whole_attention)(q, k, v, heads)

    def times(self, x: Var, number: float) -> Var:
        """x * number. A number that half precision does not have becomes the product of two that it has, nearly."""
        if x.dtype == self.types.fp32:
            return self.mb.mul(x=x, y=np.float32(number))
        if float(np.float16(number)) == number:
            return self.mb.mul(x=x, y=np.float16(number))
        firsts = (np.arange(1024) / 1024 + 1).astype(np.float16)
        seconds = (number / firsts.astype(np.float64)).astype(np.float16)
        best = np.abs(firsts.astype(np.float64) * seconds - number).argmin()
        return self.mb.mul(x=self.mb.mul(x=x, y=seconds[best]), y=firsts[best])

    def _split_attention(self, q: Var, k: Var, v: Var, heads: int) -> Var:
        """One head after the other, with the softmax over axis 1: https://machinelearning.apple.com/research/neural-engine-transformers"""
        D = q.shape[1] // heads
        keys = self.mb.transpose(x=k, perm=[0, 3, 2, 1])
        outputs = []
        for head in range(heads):
            ends = {"begin": [0, head * D, 0, 0], "end": [0, (head + 1) * D, 0, 0]}
            masks = {"begin_mask": [True, False, True, True], "end_mask": [True, False, True, True]}
            query, value = (self.mb.slice_by_index(x=x, **ends, **masks) for x in (q, v))
            key = self.mb.slice_by_index(
                x=keys,
                begin=[0, 0, 0, head * D],
                end=[0, 0, 0, (head + 1) * D],
                begin_mask=[True, True, True, False],
                end_mask=[True, True, True, False],
            )
            scores = self.mb.einsum(values=(key, query), equation="bkhc,bchq->bkhq")
            weights = self.mb.softmax(x=scores, axis=1)
            outputs.append(self.mb.einsum(values=(value, weights), equation="bchk,bkhq->bchq"))
        return outputs[0] if heads == 1 else self.mb.concat(values=outputs, axis=1)

    def _whole_attention(self, q: Var, k: Var, v: Var, heads: int) -> Var:
        B, C, _, L = q.shape
        q, k, v = (self.mb.reshape(x=x, shape=[B, heads, C // heads, x.shape[3]]) for x in (q, k, v))
        weights = self.mb.softmax(x=self.mb.matmul(x=q, y=k, transpose_x=True), axis=-1)
        return self.mb.reshape(x=self.mb.matmul(x=v, y=weights, transpose_y=True), shape=[B, C, 1, L])

    def cast(self, x: Var, dtype: str, name: str | None = None) -> Var:
        return self.mb.cast(x=x, dtype=dtype, **({} if name is None else {"name": name}))

    def in_precision(self, x: Var) -> Var:
        """`x` cast to the function's precision."""
        dtype, name = (self.types.fp16, "fp16") if self.dtype == np.float16 else (self.types.fp32, "fp32")
        return x if x.dtype == dtype else self.cast(x, name)
