"""Packed weights, saved by coremltools and unpacked by the interpreter, against coremltools' own unpacking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.coreml import import_coremltools
from quantize.interpreter import Program
from quantize.interpreter.compressed import OPS
from quantize.interpreter.package import unpack

ct: Any = import_coremltools()
mb: Any = import_coremltools("coremltools.converters.mil").Builder
types: Any = import_coremltools("coremltools.converters.mil.mil").types
RNG = np.random.default_rng(3)


def integers(bits: int, *shape: int, signed: bool = False) -> np.ndarray:
    name = f"{'' if signed else 'u'}int{bits}"
    low = -(2 ** (bits - 1)) if signed else 0
    values = RNG.integers(low, low + 2**bits, shape)
    return values.astype(types.nptype_from_builtin(types.string_to_builtin(name)))


def half(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float16)


def check(path: Path, target: str, make: Callable[[], Any]) -> None:
    """A package that adds the unpacked weights to its input, against coremltools' own unpacking."""
    expected: list[np.ndarray] = []

    def program(x: Any) -> Any:
        weights = make()
        unpacked = weights.op.materialized_val_inference()
        expected.append(unpacked.astype(np.float32))
        return mb.add(x=mb.cast(x=x, dtype="fp16"), y=weights, name="out")

    opset = getattr(ct.target, target)
    mil = mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=opset)(program)
    ct.convert(
        mil,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    ).save(str(path))
    for rounded in (False, True):
        output = Program.open(path).run({"x": np.zeros(1, np.float32)}, half=rounded)["out"]
        np.testing.assert_allclose(output, expected[0], rtol=2e-3 if not rounded else 0, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_ios16_palettes(bits: int, tmp_path: Path) -> None:
    packed = RNG.integers(0, 256, -(-bits * 120 // 8)).astype(np.uint8)
    check(
        tmp_path / "a.mlpackage",
        "iOS16",
        lambda: mb.constexpr_lut_to_dense(indices=packed, lut=half(2**bits), shape=np.array([4, 6, 5], np.uint32)),
    )


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_ios18_palettes(bits: int, tmp_path: Path) -> None:
    check(
        tmp_path / "a.mlpackage",
        "iOS18",
        lambda: mb.constexpr_lut_to_dense(indices=integers(bits, 6, 9), lut=half(1, 1, 2**bits, 1)),
    )


def test_several_palettes_of_one_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="not supported, only one for the whole weight"):
        OPS["constexpr_lut_to_dense"](np.zeros((6, 9), np.uint8), np.ones((3, 1, 16, 1), np.float32))


@pytest.mark.parametrize(("bits", "signed"), [(4, False), (4, True), (8, False), (8, True)])
@pytest.mark.parametrize("groups", [(1, 1), (6, 1), (6, 2), (2, 4)])
def test_blocks_with_scales_and_offsets(bits: int, signed: bool, groups: tuple[int, ...], tmp_path: Path) -> None:
    check(
        tmp_path / "a.mlpackage",
        "iOS18",
        lambda: mb.constexpr_blockwise_shift_scale(
            data=integers(bits, 6, 8, signed=signed),
            scale=half(*groups),
            offset=integers(bits, *groups, signed=signed),
        ),
    )


def test_affine_weights(tmp_path: Path) -> None:
    check(
        tmp_path / "a.mlpackage",
        "iOS16",
        lambda: mb.constexpr_affine_dequantize(
            quantized_data=integers(8, 6, 8), zero_point=integers(8, 8), scale=half(8), axis=np.int32(1)
        ),
    )


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_numbers_narrower_than_a_byte_run_across_bytes(bits: int) -> None:
    values = RNG.integers(0, 2**bits, 37)
    stream = sum(int(value) << (bits * place) for place, value in enumerate(values))
    packed = np.frombuffer(stream.to_bytes(-(-37 * bits // 8), "little"), np.uint8)
    np.testing.assert_array_equal(unpack(packed, bits, 37), values)
