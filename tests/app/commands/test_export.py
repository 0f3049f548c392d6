"""`genmoji export`: what it writes and says, and what it refuses."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import write_small_pipeline

import quantize.export.folder
from app import cli
from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import open_model
from mlx_genmoji.extras import install_command
from mlx_genmoji.files import write_json
from mlx_genmoji.lora import Adapter, Layer, adaptable, save_adapter
from mlx_genmoji.tokenizer import read_vocabulary
from quantize.export import Source, export_diffusers

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["export", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"(genmoji: [^\n]+\n)+", output.err)
    return output.err


def test_the_built_in_model_is_exported_and_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "builtin", "-o", "apple", "--bits", "8"]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert re.fullmatch(r"Unet: 15\.\d MB, 5\d dB from the model in exact arithmetic", lines[1])
    assert lines[-1] == "apple"
    assert "genmoji: Unet: verifying\n" in output.err
    assert {path.name for path in Path().iterdir()} == {"apple"}


def adapter_of_the_built_in(file: str) -> None:
    import mlx.core as mx

    models = {"unet": Genmoji.load().unet}
    random = np.random.default_rng(0)
    layers: dict[str, Layer] = {}
    for path, layer in adaptable(models).items():
        if path.endswith("conv2"):
            out, *inner = layer.weight.shape
            down = random.standard_normal((4, *inner), np.float32) / np.prod(inner) ** 0.5
            layers[path] = Layer(mx.array(down), mx.array(0.5 * random.standard_normal((out, 4), np.float32)), 4.0)
    save_adapter(Adapter(layers), file)


def test_a_diffusers_folder_has_the_adapter_in_it_and_beside_it() -> None:
    adapter_of_the_built_in("style.safetensors")
    arguments = ["builtin", "-o", "fused", "--adapter", "style.safetensors:0.5", "--format", "diffusers"]
    assert cli.main(["export", *arguments]) == 0

    def drawn(genmoji: Genmoji) -> np.ndarray[Any, Any]:
        return np.asarray(genmoji.generate("red apple", seed=3, steps=2)[0].image, np.float64)

    fused, plain = drawn(Genmoji.load("fused")), drawn(Genmoji.load())
    adapted = drawn(Genmoji.load(adapters=[("fused/adapters/style.safetensors", 0.5)]))
    assert np.abs(fused - adapted).mean() < 0.5
    assert np.abs(fused - plain).mean() > 2
    assert not list(Path("fused").rglob("*.bin"))


def test_a_packed_model_s_diffusers_folder_is_dense() -> None:
    assert cli.main(["quantize", "builtin", "-o", "packed"]) == 0
    assert cli.main(["export", "packed", "-o", "dense", "--format", "diffusers"]) == 0
    unet = open_model(Path("dense/unet"))
    assert "quantization" not in unet.raw_config
    packed, dense = (Genmoji.load(name).generate("red apple", seed=3, steps=2)[0].image for name in ("packed", "dense"))
    assert np.abs(np.asarray(packed, np.float64) - np.asarray(dense, np.float64)).mean() < 0.5


def test_options_of_core_ml_packages_are_refused_for_a_diffusers_folder(capsys: pytest.CaptureFixture[str]) -> None:
    output = refused(
        capsys, "builtin", "-o", "swift", "--format", "diffusers", "--bits", "6", "--chunk", "--verify", "off"
    )
    assert "--bits, --chunk, --verify: only for Core ML packages" in output
    assert not Path("swift").exists()


def test_a_model_that_mlx_swift_samples_otherwise_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="without beta_start, .*the beta_schedule squaredcos.*type v_prediction: it"):
        export_diffusers(Source(None), tmp_path / "builtin")
    model = write_small_pipeline("SD 1.5", tmp_path / "model")
    vocabulary, merges = read_vocabulary(model / "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        (model / "tokenizer" / name).unlink()
    write_json(model / "tokenizer" / "tokenizer.json", {"model": {"vocab": vocabulary, "merges": merges}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_diffusers(Source(model), tmp_path / "swift")
    (tmp_path / "swift" / "tokenizer" / "tokenizer.json").unlink()
    assert read_vocabulary(tmp_path / "swift" / "tokenizer") == (vocabulary, merges)


@pytest.mark.parametrize(
    ("fields", "clue"),
    [
        ({"in_channels": 9}, "config field 'in_channels' is 9, but inpainting models are not supported there"),
        ({"time_cond_proj_dim": 32}, "config field 'time_cond_proj_dim' is 32"),
        ({"sample_size": 18}, "multiples of 8 pixels"),
    ],
)
def test_models_that_apps_cannot_serve_are_refused(
    fields: dict[str, Any], clue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_pipeline("SD 1.5", Path("model"), **fields)
    assert clue in refused(capsys, "model", "-o", "apple")
    assert not Path("apple").exists()


@pytest.mark.parametrize(
    ("options", "clue"),
    [
        (["--bits", "5"], "The method palettize has weights of 4, 6, 8 bits, or 16 for none; not of 5."),
        (["--method", "mlx"], "The method mlx has weights of 4, 8 bits, or 16 for none; not of 6."),
        (["--bits", "4", "--method", "linear", "--target", "ios17"], "takes --target ios18"),
        (["--functions", "--target", "ios17"], "iOS 17 cannot read functions: it takes --target ios18."),
        (["--functions"], "Functions are of adapters"),
        (["--height", "100"], "A side of 100 pixels is no multiple of 16"),
        (["--adapter", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], clue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clue in refused(capsys, "builtin", "-o", "apple", *options)
    assert not Path("apple").exists()


def test_without_coremltools_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert install_command("export") in refused(capsys, "builtin", "-o", "apple")


def test_a_run_that_is_stopped_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(path: Path, *_: object) -> None:
        path.mkdir()
        raise KeyboardInterrupt

    def fill(path: Path, *_: object) -> None:
        path.mkdir()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(quantize.export.folder, "write_package", stop)
    assert cli.main(["export", "builtin", "-o", "apple"]) == 130
    monkeypatch.setattr(quantize.export.folder, "write_package", fill)
    capsys.readouterr()
    assert "No space left on device" in refused(capsys, "builtin", "-o", "apple")
    Path("used").mkdir()
    Path("used/mine.txt").write_text("mine")
    assert "used exists already: name a new folder" in refused(capsys, "builtin", "-o", "used")
    assert {path.name for path in Path().iterdir()} == {"used"}
