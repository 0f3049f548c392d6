"""Every op, in packages that coremltools wrote for each opset and precision, against torch."""

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
# Tested in test_compressed.py.
UNPACKING = {name for name in OPS if name.startswith("constexpr_")}
OUTCOMES: dict[tuple[int, bool], tuple[dict[str, np.ndarray], set[str]]] = {}


def arrays(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in case.inputs.items():
        values = [(f"{name}{i}", item) for i, item in enumerate(value)] if isinstance(value, list) else [(name, value)]
        yield from values


def typed(name: str, value: Any, half: bool) -> Any:
    """An attribute as the op takes it: floats in the precision of the op's input, except factors of sizes."""
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
                x = inputs[f"{label}_{name}"]
                given[name] = mb.equal(x=x, y=np.int32(1)) if value.dtype == np.bool_ else x
            if "values" in case.inputs:
                given = {"values": [given[f"values{i}"] for i in range(len(case.inputs["values"]))]}
            attributes = {name: typed(name, value, half) for name, value in case.attributes.items()}
            results = getattr(mb, case.op)(**given, **attributes)
            for i, result in enumerate(results if isinstance(results, (tuple, list)) else [results]):
                name = f"{label}_{i}"
                is_bool = types.builtin_to_string(result.dtype) == "bool"
                outputs.append(
                    mb.cast(x=result, dtype="int32", name=name) if is_bool else mb.identity(x=result, name=name)
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
            tensors = [torch.from_numpy(value) for _, value in arrays(case)]
            if half:
                tensors = [x.half().float() if x.dtype == torch.float32 else x for x in tensors]
            results = case.oracle(*tensors)
            for i, expected in enumerate(results if isinstance(results, tuple) else [results]):
                output = outputs[f"case{index}_{i}"]
                assert output.shape == tuple(expected.shape)
                if half and expected.dtype == torch.float32:
                    np.testing.assert_array_equal(output, output.astype(np.float16))
                    np.testing.assert_allclose(output, expected.numpy(), rtol=4e-3, atol=4e-3)
                else:
                    np.testing.assert_allclose(output, expected.numpy(), rtol=2e-5, atol=2e-6)


def test_no_op_of_the_table_is_without_a_case() -> None:
    assert {case.op for case in CASES} == OPS.keys() - UNPACKING


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("conv", {"x": np.ones((1, 2, 4, 4)), "weight": np.ones((2, 1, 3, 3)), "groups": 2}),
        ("conv", {"x": np.ones((1, 2, 4, 4)), "weight": np.ones((2, 2, 3, 3)), "dilations": np.array([2, 2])}),
        ("conv", {"x": np.ones((1, 2, 4, 4)), "weight": np.ones((2, 2, 3, 3)), "pad_type": "same"}),
        ("gelu", {"x": np.ones(3), "mode": "TANH_APPROXIMATION"}),
        ("einsum", {"values": [np.ones((2, 3)), np.ones((3, 4))], "equation": "ab,bc->ac"}),
        ("concat", {"values": [np.ones(2), np.ones(2)], "axis": 0, "interleave": True}),
        ("gather", {"x": np.ones((2, 3)), "indices": np.zeros((2, 1), np.int32), "batch_dims": 1}),
        ("upsample_nearest_neighbor", {"x": np.ones((1, 1, 4, 4)), "scale_factor_height": 1.5}),
    ],
)
def test_an_option_that_the_export_never_uses_is_refused(op: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not supported"):
        OPS[op](**inputs)


def test_a_picture_as_large_as_a_decoders_is_doubled() -> None:
    x = np.zeros((1, 64, 512, 256), np.float32)
    assert OPS["upsample_nearest_neighbor"](x, 1, 2).shape == (1, 64, 512, 512)
    with pytest.raises(ValueError, match="out of bounds"):
        OPS["upsample_nearest_neighbor"](x, 1, 1000)
