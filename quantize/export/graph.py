"""Emits one function of a Core ML program: the layers of `mlx_genmoji.models`, op by op, with the ops that Apple's own
converter emits.

Activations are (B, C, H, W), of transformers (B, C, 1, S), as Apple's Neural Engine likes them; of text encoders
(B, L, C). Every op that ends a module is called by the module's path, its dots made underscores, so that a package can
be compared with the model layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora.layers import LoRALayer
from mlx_genmoji.models.blocks import Conv2d, GroupNorm
from mlx_genmoji.quantization import QuantizedConv2d

from ..coreml import import_coremltools
from .weight_formats import Dense, Palette, Steps, Storage, Stored, release

Attention = Literal["split-einsum", "original"]

# Var, Builder and the types of coremltools, which is imported only where it is used.
Var = Any


def op_name(path: str) -> str:
    """What the op that ends the module at `path` is called."""
    return path.replace(".", "_")


class Graph:
    """The function that is being emitted. `half`: in half precision, else in full."""

    def __init__(
        self,
        storage: Storage,
        half: bool,
        attention: Attention,
        system: int,
        adapter: str | None = None,
        weights: dict[str, dict[str, np.ndarray]] | None = None,
    ):
        """system: of iOS, which the ops are for. adapter: emit LoRALayers as their base and two layers beside it, and
        keep those under this name; without it, their changed weights. weights: those of functions emitted before, which
        are shared with them."""
        self.mb = import_coremltools("coremltools.converters.mil").Builder
        self.types = import_coremltools("coremltools.converters.mil.mil.types")
        self.storage = storage
        self.dtype = np.dtype(np.float16 if half else np.float32)
        self.split = attention == "split-einsum"
        self.system = system
        self.adapter = adapter
        self.weights = {} if weights is None else weights

    # Weights.

    def constant(self, values: np.ndarray, key: str) -> Var:
        """Numbers kept once for all functions of a package, whichever emits them first."""
        constant = self.mb.const(val=values, name=op_name(key))
        constant.op.weight_id = key
        return constant

    def vector(self, values: mx.array, key: str, shape: Sequence[int] | None = None) -> Var:
        """A bias or the like, in the precision of the function."""
        array = np.asarray(values.astype(mx.float32)).astype(self.dtype)
        return self.constant(array if shape is None else array.reshape(shape), key)

    def weight(self, path: str, layer: nn.Module, pointwise: bool = False) -> Var:
        """The weight of the layer at `path`; `pointwise`: a linear layer's as that of a convolution, (O, I, 1, 1).

        It is taken from the layer, which holds it no more: so that a model's weights are never all in memory.
        """
        if isinstance(layer, LoRALayer) and self.adapter is not None:
            layer = layer.base
        key = f"{path}.weight"
        if key not in self.weights:
            self.weights[key] = self._parts(self.storage.keep(path, layer), pointwise)
            release(layer)
        parts = self.weights[key]
        if "values" in parts:
            return self.constant(parts["values"], key)
        kinds = {"quantized_data": "affine_dequantize", "lut": "lut_to_dense", "data": "blockwise_shift_scale"}
        kind = next(kind for part, kind in kinds.items() if part in parts)
        made = getattr(self.mb, f"constexpr_{kind}")(**parts, name=op_name(key))
        for part, var in made.op.inputs.items():
            var.op.weight_id = f"{key}.{part}"
        return made

    def _parts(self, kept: Stored, pointwise: bool) -> dict[str, np.ndarray]:
        """What the op that makes a weight of what is kept is given."""

        def shaped(array: np.ndarray) -> np.ndarray:
            return array[:, :, None, None] if pointwise else array

        if isinstance(kept, Dense):
            return {"values": shaped(kept.values)}
        if isinstance(kept, Palette):
            if self.system < 18:
                shape = np.array(shaped(kept.indices).shape, np.uint32)
                return {"indices": kept.packed(), "lut": kept.table, "shape": shape}
            indices = self._few_bits(shaped(kept.indices), f"uint{kept.bits}")
            return {"indices": indices, "lut": kept.table.reshape(*[1] * indices.ndim, -1, 1)}
        if isinstance(kept, Steps):
            values = shaped(kept.values)
            if self.system < 18:
                fixed: dict[str, np.ndarray] = {"zero_point": np.array(0, np.int8), "axis": np.array(0, np.int32)}
                return {"quantized_data": values, "scale": kept.scales, **fixed}
            return {"data": values, "scale": kept.scales.reshape(-1, *[1] * (values.ndim - 1))}
        kind = ("int" if kept.offsets is None else "uint") + str(kept.bits)
        parts = {"data": self._few_bits(shaped(kept.values), kind), "scale": shaped(kept.scales)}
        return parts if kept.offsets is None else {**parts, "offset": shaped(kept.offsets)}

    def _few_bits(self, values: np.ndarray, kind: str) -> np.ndarray:
        return values.astype(self.types.nptype_from_builtin(self.types.string_to_builtin(kind)))

    # Layers over channels.

    def conv(self, path: str, layer: nn.Module, x: Var, stride: int = 1, pad: Sequence[int] | None = None) -> Var:
        """A convolution, or a linear layer or 1x1 convolution over the channels. `pad`: above, below, left, right."""
        base = layer.base if isinstance(layer, LoRALayer) else layer
        spatial = isinstance(base, (Conv2d, QuantizedConv2d))
        if pad is None:
            pad = [base.padding[0]] * 4 if spatial else [0] * 4
        how = {"strides": [stride, stride], "pad_type": "custom", "pad": list(pad)}
        beside = isinstance(layer, LoRALayer) and self.adapter is not None
        parts = {"x": x, "weight": self.weight(path, layer, pointwise=not spatial)}
        if "bias" in base:
            parts["bias"] = self.vector(base.bias, f"{path}.bias")
        y = self.mb.conv(**parts, **how, name=f"{op_name(path)}_base" if beside else op_name(path))
        if not beside:
            return y
        down, up = self._pair(layer)
        down = down.transpose(0, 3, 1, 2) if down.ndim == 4 else down[:, :, None, None]
        low = self.mb.conv(x=x, weight=self._own(down, f"{path}.lora_a"), **how)
        change = self.mb.conv(x=low, weight=self._own(up[:, :, None, None], f"{path}.lora_b"))
        return self.mb.add(x=y, y=change, name=op_name(path))

    def linear(self, path: str, layer: nn.Module, x: Var) -> Var:
        """A linear layer over the last axis."""
        base = layer.base if isinstance(layer, LoRALayer) else layer
        beside = isinstance(layer, LoRALayer) and self.adapter is not None
        parts = {"x": x, "weight": self.weight(path, layer)}
        if "bias" in base:
            parts["bias"] = self.vector(base.bias, f"{path}.bias")
        y = self.mb.linear(**parts, name=f"{op_name(path)}_base" if beside else op_name(path))
        if not beside:
            return y
        down, up = self._pair(layer)
        low = self.mb.linear(x=x, weight=self._own(down, f"{path}.lora_a"))
        change = self.mb.linear(x=low, weight=self._own(up, f"{path}.lora_b"))
        return self.mb.add(x=y, y=change, name=op_name(path))

    def _pair(self, layer: Any) -> list[np.ndarray]:
        if "excess" in layer or "magnitude" in layer:
            raise UserError(f"{self.adapter} is a DoRA, which is no pair beside a layer: export it fused.")
        down, up = layer.pair(False)
        return [np.asarray(array.astype(mx.float32)) for array in (down, layer.scale * up)]

    def _own(self, values: np.ndarray, key: str) -> Var:
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
        """x * number. Where half precision has no such number, two of its numbers whose product it is."""
        if x.dtype == self.types.fp32:
            return self.mb.mul(x=x, y=np.float32(number))
        if float(np.float16(number)) == number:
            return self.mb.mul(x=x, y=np.float16(number))
        firsts = (np.arange(1024) / 1024 + 1).astype(np.float16)
        seconds = (number / firsts.astype(np.float64)).astype(np.float16)
        best = np.abs(firsts.astype(np.float64) * seconds - number).argmin()
        return self.mb.mul(x=self.mb.mul(x=x, y=seconds[best]), y=firsts[best])

    def _split_attention(self, q: Var, k: Var, v: Var, heads: int) -> Var:
        """Head by head, the softmax over axis 1: https://machinelearning.apple.com/research/neural-engine-transformers"""
        D = q.shape[1] // heads
        keys = self.mb.transpose(x=k, perm=[0, 3, 2, 1])
        outputs = []
        for head in range(heads):
            own = {"begin": [0, head * D, 0, 0], "end": [0, (head + 1) * D, 0, 0]}
            masks = {"begin_mask": [True, False, True, True], "end_mask": [True, False, True, True]}
            query, value = (self.mb.slice_by_index(x=x, **own, **masks) for x in (q, v))
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

    def own_precision(self, x: Var) -> Var:
        """`x` in the precision of the function."""
        wanted, name = (self.types.fp16, "fp16") if self.dtype == np.float16 else (self.types.fp32, "fp32")
        return x if x.dtype == wanted else self.cast(x, name)
