"""Imported first by whatever computes with MLX here: as fast as the `genmoji` command is."""

import mlx_genmoji

mlx_genmoji.use_fast_cpu()
