"""The formats of weights in a package: dense, a palette, integers with scales, or MLX's own packing.

Weights have Core ML's layout: (O, I) of a linear layer, (N, C) of an embedding, (O, I, kh, kw) of a convolution. Each
format can decompress itself as Core ML will (`dense`), so that a package can be compared with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora.layers import LoRALayer, dense_weight
from mlx_genmoji.quantization import DENSE, PACKED, Quantization, QuantizedLayer

from ..export_options import DENSE_BITS, METHODS, Method

# Smaller weights are not compressed, as in Apple's converter.
MIN_WEIGHTS = 2048

# The method linear in 4 bits has a scale for each block of so many input channels.
BLOCK_SIZE = 32

# Lloyd's method converges after far fewer rounds from the start that `palette` gives it.
MAX_ROUNDS = 200


@dataclass(frozen=True)
class Dense:
    """The numbers themselves, in half or full precision."""

    values: np.ndarray

    def dense(self) -> np.ndarray:
        return self.values


@dataclass(frozen=True)
class Palette:
    """Indices, uint8 in the weight's shape, into a sorted table of 2 ** bits numbers in half precision."""

    indices: np.ndarray
    table: np.ndarray

    @property
    def bits(self) -> int:
        return len(self.table).bit_length() - 1

    def dense(self) -> np.ndarray:
        return self.table[self.indices]

    def packed(self) -> np.ndarray:
        """The indices as a row of bits in bytes, each index from its lowest bit on."""
        flat = self.indices.reshape(-1, 1)
        return np.packbits(np.unpackbits(flat, axis=1, count=self.bits, bitorder="little"), bitorder="little")


@dataclass(frozen=True)
class PerChannel:
    """Integers from -127 to 127 (int8), and a scale for each output channel in half precision."""

    values: np.ndarray
    scales: np.ndarray

    def dense(self) -> np.ndarray:
        return self.values * _per_output(self.scales.astype(np.float32), self.values)


@dataclass(frozen=True)
class Blockwise:
    """Integers of 4 or 8 bits; each block of input channels has a scale and maybe an offset, in half precision.

    A weight is scale * (value - offset).
    """

    values: np.ndarray
    """uint8, each below 2 ** bits; int8 where there are no offsets."""
    scales: np.ndarray
    """In the shape of the values, but axis 1 has one for each block."""
    offsets: np.ndarray | None
    bits: int

    def dense(self) -> np.ndarray:
        size = self.values.shape[1] // self.scales.shape[1]
        values = self.values.astype(np.float32)
        if self.offsets is not None:
            values -= np.repeat(self.offsets, size, axis=1)
        return np.repeat(self.scales, size, axis=1) * values


Compressed = Dense | Palette | PerChannel | Blockwise


class WeightError(NamedTuple):
    """The relative error of a layer's compressed weight: the norm of the difference by the norm of the weight."""

    path: str
    error: float


class Compressor:
    """Compresses the weights of a model by one method, and records the errors."""

    def __init__(self, model: nn.Module, method: Method, bits: int, half: bool = True):
        """bits: 16 to leave all weights dense. half: dense weights are in half precision, else in full.

        Raises UserError where the model is quantized in a way that the method mlx cannot take over.
        """
        self.method = method
        self.bits = bits
        self.dtype = np.dtype(np.float16 if half else np.float32)
        # The beginnings of the paths of layers that rounding harms most; all layers for a model of an unknown class.
        self.dense_paths = next((paths for kind, paths in DENSE.items() if isinstance(model, kind)), ("",))
        self.errors: dict[str, float] = {}
        self._tables: dict[str, np.ndarray] = {}
        packed = Quantization.read(model.raw_config)
        if method == "mlx" and packed is not None and (packed.mode != "affine" or packed.bits not in METHODS["mlx"]):
            raise UserError(
                f"The weights are packed in {packed.bits} bits of mode {packed.mode}, which Core ML has not; export"
                " with --method palettize, or quantize the model in mode affine with 4 or 8 bits."
            )
        self.packed = packed or (Quantization(bits) if method == "mlx" and bits < DENSE_BITS else None)

    def compress(self, path: str, layer: nn.Module) -> Compressed:
        """The compressed weight of a layer; a LoRALayer's adapter is in it."""
        base = layer.base if isinstance(layer, LoRALayer) else layer
        compressible = (
            self.bits < DENSE_BITS
            and isinstance(base, (QuantizedLayer, *PACKED))
            and not f"{path}.".startswith(self.dense_paths)
        )
        if compressible and self.method == "mlx" and isinstance(layer, QuantizedLayer):
            return _blockwise([np.asarray(part) for part in layer.packed], layer.quantization)
        weight = weight_of(layer)
        if not compressible or weight.size < MIN_WEIGHTS:
            return Dense(weight.astype(self.dtype))
        compressed = self._compress(path, weight)
        if path not in self.errors:
            norm = float(np.linalg.norm(weight))
            self.errors[path] = float(np.linalg.norm(compressed.dense() - weight)) / max(norm, 1e-30)
        return compressed

    def worst(self, count: int = 3) -> list[WeightError]:
        """The layers with the largest errors."""
        ranked = sorted(self.errors.items(), key=lambda item: -item[1])
        return [WeightError(path, error) for path, error in ranked[:count]]

    def _compress(self, path: str, weight: np.ndarray) -> Compressed:
        if self.method == "palettize":
            numbers = weight.astype(np.float16)
            if path not in self._tables:
                self._tables[path] = palette(numbers, self.bits)
            return Palette(_nearest(numbers, self._tables[path]), self._tables[path])
        if self.method == "mlx":
            assert self.packed is not None
            last = np.moveaxis(weight, 1, -1)
            if last.shape[-1] % self.packed.group_size:
                return Dense(weight.astype(self.dtype))
            return _blockwise([np.asarray(part) for part in self.packed.pack(mx.array(last))], self.packed)
        if self.bits == 8:
            scales = _half(np.abs(weight.reshape(len(weight), -1)).max(1) / 127)
            return PerChannel(_rounded(weight / _per_output(scales.astype(np.float32), weight), 127), scales)
        if weight.shape[1] % BLOCK_SIZE:
            return Dense(weight.astype(self.dtype))
        groups = weight.reshape(weight.shape[0], -1, BLOCK_SIZE, *weight.shape[2:])
        scales = _half(np.abs(groups).max(2) / 7)
        integers = _rounded(groups / scales.astype(np.float32)[:, :, None], 7)
        return Blockwise(integers.reshape(weight.shape), scales, None, 4)


def weight_of(layer: nn.Module) -> np.ndarray:
    """A layer's dense weight, float32 in Core ML's layout; a LoRALayer's adapter is in it."""
    weight = layer.changed_weight() if isinstance(layer, LoRALayer) else dense_weight(layer)
    array = np.asarray(weight.astype(mx.float32))
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def release(layer: nn.Module) -> None:
    """Free the memory of a layer's weight, which is not needed any more."""
    for owner in (layer, layer.base) if isinstance(layer, LoRALayer) else (layer,):
        for part in QuantizedLayer.PARTS:
            if part in owner:
                owner[part] = mx.zeros((0,), owner[part].dtype)


def palette(numbers: np.ndarray, bits: int) -> np.ndarray:
    """The 2 ** bits numbers that replace `numbers` (float16), each by the nearest, with the smallest squared error.

    k-means in one dimension (Lloyd 1982) on the counts of the 65536 numbers that half precision has, which is as exact
    as on the numbers themselves, and as fast for a large weight as for a small one. The start has the density that is
    best for a large palette (Panter and Dite 1951). Returns float16, sorted; fewer distinct numbers are returned as
    they are.
    """
    counts = np.bincount(numbers.reshape(-1).view(np.uint16), minlength=2**16)
    present = np.flatnonzero(counts)
    values = present.astype(np.uint16).view(np.float16).astype(np.float64)
    order = np.argsort(values)
    values, weights = values[order], counts[present][order].astype(np.float64)
    size = 2**bits
    if len(values) <= size:
        return np.append(values, np.full(size - len(values), values[-1])).astype(np.float16)
    widths = np.gradient(values)
    density = np.cumsum(weights ** (1 / 3) * widths ** (2 / 3))
    centres = np.interp((np.arange(size) + 0.5) / size * density[-1], density, values)
    mass, moments = (np.append(0, np.cumsum(sums)) for sums in (weights, weights * values))
    for _ in range(MAX_ROUNDS):
        ends = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(values)]])
        inside = np.diff(mass[ends])
        means = np.where(inside > 0, np.diff(moments[ends]) / np.maximum(inside, 1), centres)
        if np.array_equal(means, centres):
            break
        centres = means
    return np.sort(centres.astype(np.float16))


def _nearest(numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """For each half-precision number, the index of the nearest number of a sorted table, uint8."""
    centres = table.astype(np.float64)
    with np.errstate(invalid="ignore"):
        all_numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    indices = np.searchsorted((centres[1:] + centres[:-1]) / 2, all_numbers).astype(np.uint8)
    return indices[numbers.view(np.uint16)]


def _blockwise(packed: list[np.ndarray], quantization: Quantization) -> Blockwise:
    """MLX's packed weight, with groups along its last axis: w = scale * q + bias = scale * (q - offset)."""
    words, scales, biases = packed
    bits = quantization.bits
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    values = ((words[..., None] >> shifts) & (2**bits - 1)).astype(np.uint8).reshape(*words.shape[:-1], -1)
    wide = scales.astype(np.float32)
    offsets = np.divide(-biases.astype(np.float32), wide, out=np.zeros_like(wide), where=wide != 0)

    def inputs_second(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(array, -1, 1))

    return Blockwise(inputs_second(values), inputs_second(_half(scales)), inputs_second(_half(offsets)), bits)


def _half(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float16)


def _rounded(numbers: np.ndarray, largest: int) -> np.ndarray:
    return np.clip(np.round(np.nan_to_num(numbers)), -largest, largest).astype(np.int8)


def _per_output(numbers: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return numbers.reshape(-1, *[1] * (weight.ndim - 1))
