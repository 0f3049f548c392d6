"""Writes Core ML packages (`.mlpackage`, folders that Xcode compiles) from functions that emit ops."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlx_genmoji.errors import UserError, quoted

from ..coreml import import_coremltools

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Function:
    """One function of a package."""

    inputs: Shapes
    """The shapes of its inputs by their names."""
    half: bool
    """Whether its inputs are in half precision, else in full."""
    emit: Callable[[dict[str, Any]], list[Any]]
    """Emits the ops for these inputs and returns the outputs, each named after the op that makes it."""


def write_package(
    path: Path, functions: Mapping[str, Function], system: int, description: str, metadata: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """Write a package for the iOS version `system`; the shapes of its first function's outputs by their names.

    functions: by their names; several need iOS 18, and the first of them is the default. metadata: facts that Xcode's
    compiler copies into the `metadata.json` that apps read. Raises UserError where the files cannot be written.
    """
    ct = import_coremltools()
    mil = import_coremltools("coremltools.converters.mil.mil")
    backend = import_coremltools("coremltools.converters.mil.backend.mil.load")
    target = ct.target[f"iOS{system}"]
    program = mil.Program()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, function in functions.items():
        # coremltools numbers repeated names over all functions: start again, so that each has the same names.
        mil.Builder.name_count.clear()
        dtype = mil.types.fp16 if function.half else mil.types.fp32
        placeholders = {key: mil.Builder.placeholder(shape, dtype=dtype) for key, shape in function.inputs.items()}
        with mil.Function(placeholders, opset_version=target) as emitted:
            outputs = function.emit(dict(emitted.inputs))
            emitted.set_outputs(outputs)
        program.add_function(name, emitted)
        shapes = shapes or {output.name: tuple(output.shape) for output in outputs}
    program.export_as_multifunction = len(functions) > 1
    program.default_function_name = next(iter(functions))
    # Without the passes of coremltools' `convert`, which would change the ops, and take minutes.
    with TemporaryDirectory(dir=path.parent) as weights, _file_errors(path):
        model = backend.load(program, weights, specification_version=target.value)
        model.description.metadata.shortDescription = description
        model.description.metadata.userDefined.update(metadata)
        ct.utils.save_spec(model, str(path), weights_dir=weights)
    return shapes


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Turn the RuntimeErrors that coremltools' C++ code raises for files that it cannot write into UserErrors."""
    try:
        yield
    except RuntimeError as error:
        if not re.search(r"filesystem error|FileWriter|BlobWriter|StorageWriter|serializ", str(error), re.IGNORECASE):
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path.name} cannot be written to {path.parent.parent} ({quoted(error)}; {free / 1e6:.0f} MB are free)."
        ) from None
