"""A package as it is opened and run: precision, order, memory, several functions, and files that are broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_genmoji.errors import UserError
from mlx_genmoji.extras import install_command
from quantize.coreml import import_coremltools
from quantize.interpreter import Program

ct: Any = import_coremltools()
mb: Any = import_coremltools("coremltools.converters.mil").Builder
types: Any = import_coremltools("coremltools.converters.mil.mil").types
WEIGHT = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float16)


def save(path: Path, body: Any, shape: tuple[int, ...] = (2, 32)) -> Path:
    spec = mb.TensorSpec(shape, types.fp16)
    mil = mb.program(input_specs=[spec], opset_version=ct.target.iOS18)(lambda x: body(x))
    ct.convert(
        mil,
        minimum_deployment_target=ct.target.iOS18,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    ).save(str(path))
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return save(tmp_path / "Linear.mlpackage", lambda x: mb.linear(x=x, weight=WEIGHT, name="out"))


def spec_of(path: Path) -> Path:
    return path / "Data" / "com.apple.CoreML" / "model.mlmodel"


def edit(path: Path, change: Any) -> None:
    model = import_coremltools("coremltools.proto.Model_pb2").Model()
    model.ParseFromString(spec_of(path).read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    change(block)
    spec_of(path).write_bytes(model.SerializeToString())


def test_inputs_and_outputs_have_the_packages_types(linear: Path) -> None:
    program = Program.open(linear)
    assert program.functions == ["main"]
    assert program.inputs() == {"x": ((2, 32), np.float16)}
    assert program.outputs() == {"out": ((2, 6), np.float16)}


def test_half_precision_overflows_and_loses_digits_as_a_device_does(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mlpackage", lambda x: mb.sin(x=mb.mul(x=x, y=np.float16(300)), name="out"), (1,))
    exact, rounded = (Program.open(path).run({"x": np.array([3.333])}, half=half)["out"] for half in (False, True))
    np.testing.assert_allclose(exact, np.sin(np.float32(3.333) * 300), atol=1e-4)
    assert abs(exact - rounded) > 1e-2
    large = save(tmp_path / "b.mlpackage", lambda x: mb.mul(x=x, y=np.float16(300), name="out"), (1,))
    assert np.isinf(Program.open(large).run({"x": np.array([300.0])}, half=True)["out"])
    assert Program.open(large).run({"x": np.array([300.0])})["out"] == 90000


def test_watching_can_end_the_run(linear: Path) -> None:
    def watch(operation: str, op_type: str, name: str, value: np.ndarray) -> None:
        raise StopIteration(op_type, name, value.shape)

    with pytest.raises(StopIteration) as stopped:
        Program.open(linear).run({"x": np.ones((2, 32))}, watch=watch)
    assert stopped.value.args == ("linear", "out", (2, 6))


def test_functions_of_one_package_share_weights(linear: Path, tmp_path: Path) -> None:
    descriptor = ct.utils.MultiFunctionDescriptor()
    descriptor.add_function(str(linear), "main", "base")
    descriptor.add_function(str(linear), "main", "dark-woman")
    descriptor.default_function_name = "base"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "Both.mlpackage"))
    program = Program.open(tmp_path / "Both.mlpackage")
    assert program.functions == ["base", "dark-woman"]
    x = np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)
    for function in program.functions:
        np.testing.assert_allclose(program.run({"x": x}, function)["out"], x @ WEIGHT.astype(np.float32).T, rtol=1e-5)
    with pytest.raises(UserError, match="no function is named main; its functions: base, dark-woman"):
        program.run({"x": x})


def test_what_does_not_fit_is_refused_in_a_sentence(linear: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"input x has shape \(2, 32\), given is \(3, 32\)"):
        Program.open(linear).run({"x": np.ones((3, 32))})
    with pytest.raises(UserError, match="its inputs are x, given are y"):
        Program.open(linear).run({"y": np.ones((2, 32))})
    with pytest.raises(UserError, match="no Core ML package"):
        Program.open(tmp_path / "nowhere")


def unknown_op(block: Any) -> None:
    block.operations[-1].type = "frobnicate"


def unknown_name(block: Any) -> None:
    block.operations[-1].inputs["x"].arguments[0].name = "nobody"


def cycle(block: Any) -> None:
    block.operations[-1].inputs["x"].arguments[0].name = "out"


def far_offset(block: Any) -> None:
    (weight,) = (op for op in block.operations if op.attributes["val"].HasField("blobFileValue"))
    weight.attributes["val"].blobFileValue.offset = 2**62


def huge_shape(block: Any) -> None:
    (weight,) = (op for op in block.operations if op.attributes["val"].HasField("blobFileValue"))
    weight.attributes["val"].type.tensorType.dimensions[0].constant.size = 2**50


def elsewhere(block: Any) -> None:
    (weight,) = (op for op in block.operations if op.attributes["val"].HasField("blobFileValue"))
    weight.attributes["val"].blobFileValue.fileName = "@model_path/../../../../secret"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (unknown_op, "out in main is the op frobnicate, which is not supported"),
        (unknown_name, "uses nobody, which nothing before it makes"),
        (cycle, "uses out, which nothing before it makes"),
        (far_offset, "past the end of the file"),
        (huge_shape, "does not hold the float16"),
        (elsewhere, "secret, which it does not hold"),
    ],
)
def test_a_broken_program_is_refused_in_one_line(linear: Path, change: Any, complaint: str) -> None:
    edit(linear, change)
    with pytest.raises(UserError, match=complaint) as refused:
        Program.open(linear)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kept", [0, 100, 200])
def test_a_cut_short_blob_file_is_refused_in_one_line(linear: Path, kept: int) -> None:
    blob = spec_of(linear).parent / "weights" / "weight.bin"
    blob.write_bytes(blob.read_bytes()[:kept])
    with pytest.raises(UserError, match="cut short"):
        Program.open(linear)
    blob.unlink()
    with pytest.raises(UserError, match=r"weight.bin, which it does not hold"):
        Program.open(linear)


def test_without_coremltools_only_core_ml_is_missing() -> None:
    script = (
        "import sys; sys.modules['coremltools'] = None\n"
        "import quantize\nfrom quantize.coreml import import_coremltools\n"
        "try: import_coremltools()\nexcept Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UserError") and install_command("export") in done.stdout
