"""Imported before any test module, and so before `mlx.core`."""

import os
from collections.abc import Iterator

import pytest

import mlx_genmoji

mlx_genmoji.use_fast_cpu()

if os.environ.get("GENMOJI_TEST_DEVICE") == "cpu":
    # Where there is a GPU, the whole suite on the CPU: its figures are the CPU's. `test_gpu.py` chooses for itself.
    import mlx.core

    mlx.core.set_default_device(mlx.core.cpu)


@pytest.fixture
def cpu() -> Iterator[None]:
    """Run on the CPU even where there is a GPU, whose products keep fewer digits and whose sums may change order."""
    import mlx.core as mx

    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(device)
