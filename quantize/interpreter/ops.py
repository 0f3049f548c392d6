"""The table of ops: from MIL's name to a function with MIL's parameters (arrays of float32, integers, bools, strings).

A parameter that a package leaves out has MIL's default. A function returns the op's result, or a tuple of results where
the op has several. A value of a parameter that the export never writes raises ValueError.
"""

from collections.abc import Callable
from typing import Any

from . import compressed, convolutions, elementwise, products, reductions, shapes

OPS: dict[str, Callable[..., Any]] = {
    **compressed.OPS,
    **convolutions.OPS,
    **elementwise.OPS,
    **products.OPS,
    **reductions.OPS,
    **shapes.OPS,
}
