"""Kept for callers of version 0.1: use `mlx_genmoji.combinations.reading`."""

from ..combinations.combination import Combination, Joined, Part
from ..combinations.reading import SOURCES, read

__all__ = ["SOURCES", "Combination", "Joined", "Part", "read"]
