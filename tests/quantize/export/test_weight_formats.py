"""Weights in few bits: the palettes, and the weights that they decompress to."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_genmoji.errors import UserError
from mlx_genmoji.quantization import Quantization, QuantizedLinear
from quantize.export.weight_formats import Compressor, Palette, palette, weight_of

pytestmark = pytest.mark.usefixtures("cpu")


class Model(nn.Module):
    def __init__(self, **config: object) -> None:
        super().__init__()
        object.__setattr__(self, "raw_config", config)


def loss(numbers: np.ndarray, table: np.ndarray) -> float:
    nearest = np.abs(numbers.astype(np.float64)[:, None] - table.astype(np.float64)).min(1)
    return float(np.square(nearest).sum())


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("kind", ["standard_normal", "laplace"])
def test_a_palette_is_nearly_the_best_there_is(bits: int, kind: str) -> None:
    kmeans1d = pytest.importorskip("coremltools._deps.kmeans1d")
    numbers = (0.02 * getattr(np.random.default_rng(0), kind)(size=8_000)).astype(np.float16)
    best = np.array(kmeans1d.cluster(numbers.astype(np.float64), 2**bits).centroids)
    assert loss(numbers, palette(numbers, bits)) <= 1.08 * loss(numbers, best)


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("kind", ["standard_normal", "laplace"])
def test_each_number_of_a_palette_is_the_mean_of_those_that_it_replaces(bits: int, kind: str) -> None:
    numbers = getattr(np.random.default_rng(1), kind)(size=8_000).astype(np.float16)
    table = palette(numbers, bits).astype(np.float64)
    nearest = np.abs(numbers.astype(np.float64)[:, None] - table).argmin(1)
    means = np.bincount(nearest, numbers.astype(np.float64)) / np.bincount(nearest)
    # The table is rounded to half precision.
    assert (np.abs(means - table) < 0.02 * np.gradient(table)).all()


def test_few_distinct_numbers_are_kept() -> None:
    numbers = np.resize(np.array([-0.5, 0, 0.25, 3], np.float16), (8, 9))
    table = palette(numbers, 4)
    assert table.shape == (16,)
    assert set(np.unique(table)) == {-0.5, 0.0, 0.25, 3.0}


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_indices_lie_one_after_the_other_from_the_lowest_bit(bits: int) -> None:
    indices = np.random.default_rng(0).integers(0, 2**bits, (3, 5)).astype(np.uint8)
    packed = Palette(indices, np.arange(2**bits).astype(np.float16)).packed()
    number = int.from_bytes(packed.tobytes(), "little")
    assert [(number >> (bits * i)) & (2**bits - 1) for i in range(15)] == indices.ravel().tolist()
    assert len(packed) == -(-15 * bits // 8)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_that_mlx_packed_keeps_its_values(bits: int) -> None:
    layer = QuantizedLinear(nn.Linear(128, 32), Quantization(bits))
    compressor = Compressor(Model(quantization={"bits": bits, "group_size": 64, "mode": "affine"}), "mlx", bits)
    compressor.dense_paths = ()
    weight, expected = compressor.compress("layer", layer).dense(), weight_of(layer)
    # The offset is rounded to half precision, which weights have on a device anyway.
    assert np.linalg.norm(weight - expected) < 5e-4 * np.linalg.norm(expected)


def test_a_packing_that_core_ml_does_not_have_is_named() -> None:
    with pytest.raises(UserError, match="packed in 4 bits of mode mxfp4, which Core ML has not"):
        Compressor(Model(quantization={"bits": 4, "group_size": 32, "mode": "mxfp4"}), "mlx", 4)


def test_small_and_sensitive_layers_stay_dense() -> None:
    compressor = Compressor(Model(), "palettize", 4)
    compressor.dense_paths = ("conv_in.",)
    for path, layer in (("conv_in", nn.Linear(128, 128)), ("small", nn.Linear(16, 16))):
        weight = compressor.compress(path, layer).dense()
        assert np.array_equal(weight, np.asarray(layer.weight.astype(mx.float16)))
    assert isinstance(compressor.compress("large", nn.Linear(128, 128)), Palette)
    assert [path for path, _ in compressor.worst()] == ["large"]
