"""Every op, in packages that coremltools has written for each opset and precision, against torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from op_cases import CASES, Case

from quantize.coreml import import_coremltools
from quantize.interpreter import Program
from quantize.interpreter.ops import OPS

ct: Any = import_coremltools()
mb: Any = import_coremltools("coremltools.converters.mil").Builder
types: Any = import_coremltools("coremltools.converters.mil.mil").types

TARGETS = {opset: getattr(ct.target, f"iOS{opset}") for opset in (15, 16, 17, 18)}
ELSEWHERE = {name for name in OPS if name.startswith("constexpr_")} | {"range_1d"}
OUTCOMES: dict[tuple[int, bool], tuple[dict[str, np.ndarray], set[str]]] = {}


def arrays(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in case.inputs.items():
        yield from ((f"{name}{i}", one) for i, one in enumerate(value)) if isinstance(value, list) else [(name, value)]


def typed(name: str, value: Any, half: bool) -> Any:
    """Floats of an op's attributes have the type of its input, but for factors of sizes."""
    half = half and not name.startswith("scale_factor")
    if isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype == np.float32):
        return np.asarray(value, np.float16 if half else np.float32)[()]
    return value


def build(cases: dict[str, Case], opset: int, half: bool, path: Path) -> None:
    """One package of all cases, their inputs and outputs named after them; nothing is optimized away."""
    specs = {
        f"{label}_{name}": mb.TensorSpec(
            value.shape,
            types.int32 if value.dtype.kind in "bi" else types.fp16 if half else types.fp32,
        )
        for label, case in cases.items()
        for name, value in arrays(case)
    }

    def program(**inputs: Any) -> Any:
        outputs: list[Any] = []
        for label, case in cases.items():
            given = {}
            for name, value in arrays(case):
                one = inputs[f"{label}_{name}"]
                given[name] = mb.cast(x=one, dtype="bool") if value.dtype == np.bool_ else one
            if "values" in case.inputs:
                given = {"values": [given[f"values{i}"] for i in range(len(case.inputs["values"]))]}
            made = getattr(mb, case.op)(**given, **{name: typed(name, v, half) for name, v in case.attributes.items()})
            for i, one in enumerate(made if isinstance(made, (tuple, list)) else [made]):
                number = {"bool": "int32"}.get(types.builtin_to_string(one.dtype))
                outputs.append(
                    mb.cast(x=one, dtype=number, name=f"{label}_{i}")
                    if number
                    else mb.identity(x=one, name=f"{label}_{i}")
                )
        return tuple(outputs)

    build_program(list(specs.values()), list(specs), program, opset, path)


def build_program(specs: list[Any], names: list[str], program: Callable[..., Any], opset: int, path: Path) -> None:
    arguments = ", ".join(names)
    together = ", ".join(f"{name}={name}" for name in names)
    function = eval(f"lambda {arguments}: program({together})", {"program": program})
    mil = mb.program(input_specs=specs, opset_version=TARGETS[opset])(function)
    ct.convert(
        mil,
        convert_to="mlprogram",
        minimum_deployment_target=TARGETS[opset],
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    ).save(str(path))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, bool], tuple[dict[str, np.ndarray], set[str]]]:
    logging.getLogger("coremltools").setLevel(logging.ERROR)

    def run(opset: int, half: bool) -> tuple[dict[str, np.ndarray], set[str]]:
        if (opset, half) not in OUTCOMES:
            path = tmp_path_factory.mktemp("package") / "Ops.mlpackage"
            cases = {f"case{i}": case for i, case in enumerate(CASES) if opset in case.opsets}
            build(cases, opset, half, path)
            inputs = {f"{label}_{name}": value for label, case in cases.items() for name, value in arrays(case)}
            seen: set[str] = set()
            outputs = Program.open(path).run(inputs, half=half, watch=lambda _, op, *rest: seen.add(op))
            OUTCOMES[opset, half] = (outputs, seen)
        return OUTCOMES[opset, half]

    return run


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{case.op}{i}" for i, case in enumerate(CASES)])
def test_an_op_computes_what_torch_computes(
    index: int, outcome: Callable[[int, bool], tuple[dict[str, np.ndarray], set[str]]]
) -> None:
    case = CASES[index]
    for opset in case.opsets:
        for half in (False, True):
            outputs, seen = outcome(opset, half)
            assert case.op in seen
            given = [torch.from_numpy(value) for _, value in arrays(case)]
            if half:
                given = [one.half().float() if one.dtype == torch.float32 else one for one in given]
            expected = case.oracle(*given)
            for i, one in enumerate(expected if isinstance(expected, tuple) else [expected]):
                found = outputs[f"case{index}_{i}"]
                assert found.shape == tuple(one.shape) or one.numel() == found.size == 1
                if half and one.dtype == torch.float32:
                    np.testing.assert_array_equal(found, found.astype(np.float16))
                    np.testing.assert_allclose(found, one.numpy(), rtol=4e-3, atol=4e-3)
                else:
                    np.testing.assert_allclose(found, one.numpy(), rtol=2e-5, atol=2e-6)


def test_no_op_of_the_table_is_without_a_case() -> None:
    assert {case.op for case in CASES} == OPS.keys() - ELSEWHERE


def test_a_range_starts_and_steps(tmp_path: Path) -> None:
    def program(end: Any) -> Any:
        return mb.range_1d(end=mb.squeeze(x=end), start=2, step=3, name="out")

    build_program([mb.TensorSpec((1,), types.int32)], ["end"], program, 17, tmp_path / "Range.mlpackage")
    found = Program.open(tmp_path / "Range.mlpackage").run({"end": np.array([12], np.int32)})["out"]
    np.testing.assert_array_equal(found, [2, 5, 8, 11])


def test_a_picture_as_large_as_a_decoders_is_doubled() -> None:
    x = np.zeros((1, 64, 512, 256), np.float32)
    assert OPS["upsample_nearest_neighbor"](x, 1, 2).shape == (1, 64, 512, 512)
    with pytest.raises(ValueError, match="out of bounds"):
        OPS["upsample_nearest_neighbor"](x, 1, 1000)
