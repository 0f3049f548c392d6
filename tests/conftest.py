"""Imported before any test module: MLX finds OpenBLAS only if `mlx_genmoji` comes before `mlx.core`."""

import mlx_genmoji  # noqa: F401
