"""Kept for callers of version 0.1: use `mlx_genmoji.combinations.reading`."""

from ..combinations.reading import SOURCES, Combination, Joined, Part, read

__all__ = ["SOURCES", "Combination", "Joined", "Part", "read"]
