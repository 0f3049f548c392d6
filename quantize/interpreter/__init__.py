"""Runs a saved Core ML package with NumPy, anywhere: what Core ML computes, op by op, to compare a model with.

`program.py` plans and runs, `package.py` reads files, `ops.py` is the table of ops, the other files their arithmetic.
"""

from .program import Program

__all__ = ["Program"]
