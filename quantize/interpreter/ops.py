"""The table of ops: MIL's name -> a function of MIL's parameters, as arrays of float32, integers, bools and strings.

What a package leaves out has MIL's default. A function returns the op's result, or a tuple where an op has several.
"""

from collections.abc import Callable
from typing import Any

from . import (
    activations,
    compressed,
    convolutions,
    elementwise,
    indexing,
    normalizations,
    products,
    reductions,
    resizing,
    shapes,
)

OPS: dict[str, Callable[..., Any]] = {
    **activations.OPS,
    **compressed.OPS,
    **convolutions.OPS,
    **elementwise.OPS,
    **indexing.OPS,
    **normalizations.OPS,
    **products.OPS,
    **reductions.OPS,
    **resizing.OPS,
    **shapes.OPS,
}
