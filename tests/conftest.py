"""Imported before any test module, and so before `mlx.core`."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

import mlx_genmoji

mlx_genmoji.use_fast_cpu()

if os.environ.get("GENMOJI_TEST_DEVICE") == "cpu":
    # Where there is a GPU, the whole suite on the CPU: its figures are the CPU's. `test_gpu.py` chooses for itself.
    import mlx.core

    mlx.core.set_default_device(mlx.core.cpu)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pretend-metal",
        action="store_true",
        help="act as on a Mac that computes on its CPU: Metal is there, and only the GPU says how much memory it wires",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--pretend-metal"):
        return
    import mlx.core as mx

    def device_info(device: mx.Device | None = None) -> dict[str, Any]:
        device = mx.default_device() if device is None else mx.Device(getattr(device, "type", device))
        if device.type == mx.DeviceType.cpu:
            return {"architecture": "arm64", "device_name": "Apple M4"}
        return {"architecture": "applegpu_g16g", "max_recommended_working_set_size": 12 * 10**9, "memory_size": 2**34}

    mx.metal.is_available = lambda: True
    mx.set_wired_limit = lambda limit: 0
    mx.device_info = device_info


@pytest.fixture
def cpu() -> Iterator[None]:
    """Run on the CPU even where there is a GPU, whose products keep fewer digits and whose sums may change order."""
    import mlx.core as mx

    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(device)
