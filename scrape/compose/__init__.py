"""Combinations of two emoji of a collected set, made by rule, with captions.

`Composer` draws them one by one, each from a seed and an index alone; `compose` writes a dataset of them.
"""

from .composer import Composer, Composition, compose
from .planner import Plan, held_out

__all__ = ["Composer", "Composition", "Plan", "compose", "held_out"]
