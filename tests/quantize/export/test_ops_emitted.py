"""The interpreter has the ops that exports emit, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from exporting import export

from quantize.export_options import METHODS, Method
from quantize.interpreter.ops import OPS
from quantize.interpreter.package import Package

pytestmark = pytest.mark.usefixtures("cpu")


def ops_of(folder: Path) -> set[str]:
    """The types of all ops in the packages of an export."""
    packages = [Package(path) for path in folder.glob("*.mlpackage")]
    functions = [function for package in packages for function in package.spec.mlProgram.functions.values()]
    blocks = [block for function in functions for block in function.block_specializations.values()]
    return {operation.type for block in blocks for operation in block.operations}


def test_the_interpreter_has_the_ops_that_exports_emit_and_no_others(
    small: Callable[[str], Path], tiny: Path, tmp_path: Path
) -> None:
    # Configurations that emit all ops; every other export of the tests is run by the interpreter.
    export(small("SD 2.1"), tmp_path / "chunks", bits=16, attention="original", chunk=True, verification="off")
    export(tiny, tmp_path / "palettes", bits=6, verification="off")
    export(tiny, tmp_path / "linear", bits=8, method="linear", verification="off")
    export(tiny, tmp_path / "mlx", bits=4, method="mlx", verification="off")
    emitted = set().union(*(ops_of(folder) for folder in tmp_path.iterdir())) - {"const"}
    assert sorted(OPS.keys() - emitted) == []
    assert sorted(emitted - OPS.keys()) == []


def test_every_method_has_its_bits() -> None:
    assert tuple(METHODS) == get_args(Method)
