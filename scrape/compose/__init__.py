"""Compositions: pictures of two emoji put together by rule, with captions, drawn as they are needed.

`Composer` makes them one by one, each from a seed and a number alone; `compose` writes a dataset of them.
"""

from .composer import Composer, Composition, compose
from .plans import Plan, held_out

__all__ = ["Composer", "Composition", "Plan", "compose", "held_out"]
