"""Prepares the process as the `genmoji` command does. Benchmarks that compute with MLX import it first."""

import mlx_genmoji

mlx_genmoji.use_fast_cpu()
