"""Writes Core ML packages (`.mlpackage`): functions that emit ops in, a folder that Xcode compiles out."""

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
    """Their shapes by their names."""
    half: bool
    """Whether they are in half precision, else in full."""
    emit: Callable[[dict[str, Any]], list[Any]]
    """From the inputs to the outputs, which are called as the ops are that make them."""


def write_package(
    path: Path, functions: Mapping[str, Function], system: int, description: str, facts: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """Write a package for the iOS version `system`; the shapes of its first function's outputs by their names.

    functions: by their names; several need iOS 18, and the first of them is the default. facts: the package's own
    metadata, which the compiler copies into the `metadata.json` that apps read.
    """
    ct = import_coremltools()
    mil = import_coremltools("coremltools.converters.mil.mil")
    backend = import_coremltools("coremltools.converters.mil.backend.mil.load")
    target = ct.target[f"iOS{system}"]
    program = mil.Program()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, function in functions.items():
        # Each function has its names for itself.
        mil.Builder.name_count.clear()
        dtype = mil.types.fp16 if function.half else mil.types.fp32
        given = {key: mil.Builder.placeholder(shape, dtype=dtype) for key, shape in function.inputs.items()}
        with mil.Function(given, opset_version=target) as emitted:
            outputs = function.emit(dict(emitted.inputs))
            emitted.set_outputs(outputs)
        program.add_function(name, emitted)
        shapes = shapes or {output.name: tuple(output.shape) for output in outputs}
    program.export_as_multifunction = len(functions) > 1
    program.default_function_name = next(iter(functions))
    # Past the passes of `convert`, which would change what was emitted, and take minutes.
    with TemporaryDirectory(dir=path.parent) as weights, _files_of(path):
        model = backend.load(program, weights, specification_version=target.value)
        model.description.metadata.shortDescription = description
        model.description.metadata.userDefined.update(facts)
        ct.utils.save_spec(model, str(path), weights_dir=weights)
    return shapes


@contextmanager
def _files_of(path: Path) -> Iterator[None]:
    """coremltools' C++ has a RuntimeError for whatever becomes of a file; UserError instead."""
    try:
        yield
    except RuntimeError as error:
        if not re.search(r"filesystem error|FileWriter|BlobWriter|StorageWriter|serializ", str(error), re.IGNORECASE):
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path.name} cannot be written to {path.parent.parent} ({quoted(error)}; {free / 1e6:.0f} MB are free)."
        ) from None
