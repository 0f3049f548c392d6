"""The commands where MLX computes on a GPU: code takes the GPU's branches, the CPU does the arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from random_models import write_small_pipeline
from safetensors.numpy import load_file

from app import cli
from mlx_genmoji.checkpoint.components import load_model, open_model
from mlx_genmoji.lora import Adapter, Layer, adaptable, save_adapter
from mlx_genmoji.models.ops import on_cpu
from mlx_genmoji.quantization import QuantizedLayer
from quantize.interpreter import Program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small model and an adapter of it, and in `cpu` what the commands write on a CPU."""
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    folder = tmp_path_factory.mktemp("gpu")
    model = write_small_pipeline("SD 1.5", folder / "model")
    random = np.random.default_rng(0)
    layers = {}
    for path, layer in adaptable({"unet": open_model(model / "unet")}).items():
        if path.endswith(("to_q", "ff.net.2")):
            out, inner = layer.weight.shape
            down = random.standard_normal((4, inner), np.float32) / inner**0.5
            layers[path] = Layer(mx.array(down), mx.array(0.3 * random.standard_normal((out, 4), np.float32)), 4.0)
    save_adapter(Adapter(layers), folder / "style.safetensors")
    run_commands(folder, folder / "cpu")
    yield folder
    mx.set_default_device(device)


def run_commands(folder: Path, output: Path) -> None:
    model, adapter = str(folder / "model"), str(folder / "style.safetensors")
    commands = [
        ["quantize", model, "-o", f"{output}/quantized", "--bits", "8", "--group-size", "32"],
        ["fuse", f"{output}/quantized", "--adapter", adapter, "-o", f"{output}/fused"],
        ["fuse", model, "--adapter", adapter, "-o", f"{output}/fused-8", "--bits", "8", "--group-size", "32"],
        ["export", model, "--adapter", adapter, "-o", f"{output}/coreml", "--bits", "8"],
        ["export", model, "--adapter", adapter, "-o", f"{output}/diffusers", "--format", "diffusers"],
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for command in commands:
            assert cli.main(command) == 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[mx.Device]:
    """MLX says that a GPU is the default device, until it is given another one. The list of the devices that it had."""
    devices = [mx.Device(mx.gpu)]
    monkeypatch.setattr(mx, "default_device", lambda: devices[-1])
    monkeypatch.setattr(
        mx, "set_default_device", lambda device: devices.append(mx.Device(getattr(device, "type", device)))
    )
    return devices


def test_the_commands_write_on_a_gpu_what_they_write_on_a_cpu(
    folder: Path, gpu: list[mx.Device], tmp_path: Path
) -> None:
    assert not on_cpu()
    assert load_model(folder / "model" / "unet").conv_in.weight.dtype == mx.float16
    run_commands(folder, tmp_path)
    # An export computes on the CPU and gives the GPU back.
    assert mx.Device(mx.cpu) in gpu and gpu[-1] == mx.Device(mx.gpu)
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        for name in ("quantized", "fused", "fused-8", "diffusers"):
            expected = load_file(folder / "cpu" / name / f"{part}.safetensors")
            written = load_file(tmp_path / name / f"{part}.safetensors")
            assert expected.keys() == written.keys()
            for key, tensor in expected.items():
                assert tensor.dtype == written[key].dtype
                # Packed integers move by one where a number lies between two: their scales are compared here,
                # and the weights that they make below.
                if tensor.dtype != np.uint32:
                    difference = np.abs(tensor.astype(np.float32) - written[key])
                    assert difference.max() <= 2e-3 * np.abs(tensor).max(), key
    for name in ("quantized", "fused-8"):
        pairs = zip(*(weights(root / name / "unet") for root in (folder / "cpu", tmp_path)), strict=True)
        for expected_weight, weight in pairs:
            assert np.linalg.norm(weight - expected_weight) <= 2e-3 * np.linalg.norm(expected_weight)
    for package in ("TextEncoder", "Unet", "VAEDecoder", "VAEEncoder"):
        path = Path("coreml") / f"{package}.mlpackage"
        bins = [next((root / path).rglob("*.bin")).read_bytes() for root in (folder / "cpu", tmp_path)]
        assert bins[0] == bins[1]
        assert Program.open(tmp_path / path).functions == ["main"]


def weights(folder: Path) -> list[np.ndarray]:
    """The dense weights of a model's quantized layers."""
    layers = [layer for _, layer in sorted(open_model(folder).named_modules(), key=lambda item: item[0])]
    return [np.asarray(layer.dequantized().astype(mx.float32)) for layer in layers if isinstance(layer, QuantizedLayer)]
