"""Runs a saved Core ML package in NumPy, on any machine, so that it can be compared with the model in MLX.

It knows the ops that `quantize.export` emits and no others. `package.py` reads the files of a package, `program.py`
runs its ops in order, `ops.py` lists the ops, and the other files compute them.
"""

from .program import Program

__all__ = ["Program"]
