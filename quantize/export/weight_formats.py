"""How a package keeps weights: as they are, as a palette, as whole numbers with scales, or as MLX packed them.

Here a weight is in the layout of Core ML: (O, I) of a linear layer, (N, C) of an embedding, (O, I, kh, kw) of a
convolution. Each way of keeping it can say what Core ML will make of it again (`dense`), so that a package can be held
against the model that it was meant to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora.layers import LoRALayer, dense_weight
from mlx_genmoji.quantization import DENSE, PACKED, Quantization, QuantizedLayer

Method = Literal["palettize", "linear", "mlx"]

# The bits that each method has in Core ML, and the first system that reads them.
METHODS: Mapping[str, Mapping[int, int]] = {
    "palettize": {4: 17, 6: 17, 8: 17},
    "linear": {4: 18, 8: 17},
    "mlx": {4: 18, 8: 18},
}

# What is smaller is not worth a palette, as in Apple's converter.
FEWEST_WEIGHTS = 2048

# Weights along the input channels that share a scale, of the method linear in 4 bits.
BLOCK = 32

# Of Lloyd's method; from the start that it is given, it is done after a few.
MOST_ROUNDS = 200


@dataclass(frozen=True)
class Dense:
    """Numbers as they are, in half or full precision."""

    values: np.ndarray

    def dense(self) -> np.ndarray:
        return self.values


@dataclass(frozen=True)
class Palette:
    """Indices, uint8 in the weight's shape, into a table of 2 ** bits numbers in half precision, rising."""

    indices: np.ndarray
    table: np.ndarray

    @property
    def bits(self) -> int:
        return len(self.table).bit_length() - 1

    def dense(self) -> np.ndarray:
        return self.table[self.indices]

    def packed(self) -> np.ndarray:
        """The indices one after the other in bytes, each from its lowest bit on."""
        flat = self.indices.reshape(-1, 1)
        return np.packbits(np.unpackbits(flat, axis=1, count=self.bits, bitorder="little"), bitorder="little")


@dataclass(frozen=True)
class Steps:
    """Eight-bit whole numbers from -127 to 127, and a scale for each output in half precision."""

    values: np.ndarray
    scales: np.ndarray

    def dense(self) -> np.ndarray:
        return self.values * _per_output(self.scales.astype(np.float32), self.values)


@dataclass(frozen=True)
class Blocks:
    """Whole numbers of 4 or 8 bits; input channels in groups, each with a scale and an offset in half precision.

    A weight is scale * (value - offset).
    """

    values: np.ndarray
    """uint8, each below 2 ** bits; of signed ones int8."""
    scales: np.ndarray
    """In the shape of the values, but for axis 1, which has one for each group."""
    offsets: np.ndarray | None
    bits: int

    def dense(self) -> np.ndarray:
        size = self.values.shape[1] // self.scales.shape[1]
        values = self.values.astype(np.float32)
        if self.offsets is not None:
            values -= np.repeat(self.offsets, size, axis=1)
        return np.repeat(self.scales, size, axis=1) * values


Stored = Dense | Palette | Steps | Blocks


class Rounding(NamedTuple):
    """How much a weight lost: the norm of the change by that of the weight."""

    path: str
    error: float


class Storage:
    """Decides how each weight of a model is kept, and remembers what that cost."""

    def __init__(self, model: nn.Module, method: Method, bits: int, half: bool = True):
        """`bits`: 16 for none of the methods. half: keep what is not compressed in half precision, else in full.

        Raises UserError where a model's weights are packed otherwise than `mlx` can keep.
        """
        self.method = method
        self.bits = bits
        self.dtype = np.dtype(np.float16 if half else np.float32)
        self.kept_dense = next((paths for kind, paths in DENSE.items() if isinstance(model, kind)), ("",))
        self.errors: dict[str, float] = {}
        self._tables: dict[str, np.ndarray] = {}
        packed = Quantization.read(model.raw_config)
        if method == "mlx" and packed is not None and (packed.mode != "affine" or packed.bits not in METHODS["mlx"]):
            raise UserError(
                f"The weights are packed in {packed.bits} bits of mode {packed.mode}, which Core ML has not; export"
                " with --method palettize, or quantize the model in mode affine with 4 or 8 bits."
            )
        self.packed = packed or (Quantization(bits) if method == "mlx" and bits < 16 else None)

    def keep(self, path: str, layer: nn.Module) -> Stored:
        """The weight of a layer (of a LoRALayer, changed), as it will be kept."""
        plain = layer.base if isinstance(layer, LoRALayer) else layer
        compressed = (
            self.bits < 16
            and isinstance(plain, (QuantizedLayer, *PACKED))
            and not f"{path}.".startswith(self.kept_dense)
        )
        if compressed and self.method == "mlx" and isinstance(layer, QuantizedLayer):
            return self._as_packed(layer)
        weight = weight_of(layer)
        if not compressed or weight.size < FEWEST_WEIGHTS:
            return Dense(weight.astype(self.dtype))
        kept = self._compress(path, plain, weight)
        if path not in self.errors:
            norm = float(np.linalg.norm(weight))
            self.errors[path] = float(np.linalg.norm(kept.dense() - weight)) / max(norm, 1e-30)
        return kept

    def worst(self, count: int = 3) -> list[Rounding]:
        """The layers whose weights lost most."""
        ranked = sorted(self.errors.items(), key=lambda item: -item[1])
        return [Rounding(path, error) for path, error in ranked[:count]]

    def _compress(self, path: str, layer: nn.Module, weight: np.ndarray) -> Stored:
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
            return _blocks([np.asarray(part) for part in self.packed.pack(mx.array(last))], self.packed)
        if self.bits == 8:
            scales = _half(np.abs(weight.reshape(len(weight), -1)).max(1) / 127)
            return Steps(_rounded(weight / _per_output(scales.astype(np.float32), weight), 127), scales)
        if weight.shape[1] % BLOCK:
            return Dense(weight.astype(self.dtype))
        groups = weight.reshape(weight.shape[0], -1, BLOCK, *weight.shape[2:])
        scales = _half(np.abs(groups).max(2) / 7)
        whole = _rounded(groups / scales.astype(np.float32)[:, :, None], 7)
        return Blocks(whole.reshape(weight.shape), scales, None, 4)

    def _as_packed(self, layer: QuantizedLayer) -> Stored:
        return _blocks([np.asarray(part) for part in layer.packed], layer.quantization)


def weight_of(layer: nn.Module) -> np.ndarray:
    """A layer's weight, dense and with a LoRALayer's change in it, float32 in the layout of Core ML."""
    weight = layer.changed_weight() if isinstance(layer, LoRALayer) else dense_weight(layer)
    array = np.asarray(weight.astype(mx.float32))
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def release(layer: nn.Module) -> None:
    """Let go of a layer's weight, which was read when it was needed and is needed no more."""
    for owner in (layer, layer.base) if isinstance(layer, LoRALayer) else (layer,):
        for part in QuantizedLayer.PARTS:
            if part in owner:
                owner[part] = mx.zeros((0,), owner[part].dtype)


def palette(numbers: np.ndarray, bits: int) -> np.ndarray:
    """The 2 ** bits numbers that half-precision numbers lose least by when each becomes the nearest of them.

    k-means in one dimension (Lloyd 1982), on how often each of the 65536 numbers of half precision occurs: as exact as
    on all the numbers, and as quick for a large weight as for a small one. It starts from the density that is best for
    many levels (Panter and Dite 1951). float16, rising; fewer distinct numbers are kept as they are.
    """
    counts = np.bincount(numbers.reshape(-1).view(np.uint16), minlength=2**16)
    present = np.flatnonzero(counts)
    values = present.astype(np.uint16).view(np.float16).astype(np.float64)
    order = np.argsort(values)
    values, weights = values[order], counts[present][order].astype(np.float64)
    levels = 2**bits
    if len(values) <= levels:
        return np.append(values, np.full(levels - len(values), values[-1])).astype(np.float16)
    widths = np.gradient(values)
    density = np.cumsum(weights ** (1 / 3) * widths ** (2 / 3))
    centres = np.interp((np.arange(levels) + 0.5) / levels * density[-1], density, values)
    mass, moments = (np.append(0, np.cumsum(sums)) for sums in (weights, weights * values))
    for _ in range(MOST_ROUNDS):
        ends = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(values)]])
        inside = np.diff(mass[ends])
        moved = np.where(inside > 0, np.diff(moments[ends]) / np.maximum(inside, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.sort(centres.astype(np.float16))


def _nearest(numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The index of the nearest number of a rising table, uint8, for half-precision numbers."""
    rising = table.astype(np.float64)
    with np.errstate(invalid="ignore"):
        all_numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    indices = np.searchsorted((rising[1:] + rising[:-1]) / 2, all_numbers).astype(np.uint8)
    return indices[numbers.view(np.uint16)]


def _blocks(packed: list[np.ndarray], quantization: Quantization) -> Blocks:
    """MLX's packed weight, whose groups are along its last axis: w = scale * q + bias = scale * (q - -bias / scale)."""
    words, scales, biases = packed
    bits = quantization.bits
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    values = ((words[..., None] >> shifts) & (2**bits - 1)).astype(np.uint8).reshape(*words.shape[:-1], -1)
    wide = scales.astype(np.float32)
    offsets = np.divide(-biases.astype(np.float32), wide, out=np.zeros_like(wide), where=wide != 0)

    def inputs_second(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(array, -1, 1))

    return Blocks(inputs_second(values), inputs_second(_half(scales)), inputs_second(_half(offsets)), bits)


def _half(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.float16)


def _rounded(numbers: np.ndarray, largest: int) -> np.ndarray:
    return np.clip(np.round(np.nan_to_num(numbers)), -largest, largest).astype(np.int8)


def _per_output(numbers: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return numbers.reshape(-1, *[1] * (weight.ndim - 1))
