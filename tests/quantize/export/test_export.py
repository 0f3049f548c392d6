"""Exports of small models: their packages compute what MLX does, a fault is noticed, and an app gets what it needs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from bench_export import draw_in_packages, draw_with_apples_schedule, psnr_of_pictures
from exporting import export
from mlx.utils import tree_map

from app import cli
from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import load_model, open_model, save_model
from mlx_genmoji.errors import UserError
from quantize.export import Options, Source, export_coreml, text_encoder
from quantize.export.graph import Graph
from quantize.export.mlpackage import Function, write_package
from quantize.export.text_encoder import Padding
from quantize.export.weight_formats import Compressor
from quantize.interpreter import Program

pytestmark = pytest.mark.usefixtures("cpu")

Small = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL", "built-in"])
def test_packages_in_half_precision_compute_what_the_model_does(family: str, small: Small, tmp_path: Path) -> None:
    model = None if family == "built-in" else small(family)
    record = export(model, tmp_path / "export", bits=16, verification="full")
    for part, report in record["packages"].items():
        assert report["psnr"]["main"]["exact"] >= 100, part
        assert report["psnr"]["main"]["half"] >= 60, part
    assert set(record["packages"]) >= {"TextEncoder", "Unet", "VAEDecoder", "VAEEncoder"}
    assert ("TextEncoder2" in record["packages"]) == (family == "SDXL")


@pytest.mark.parametrize(
    ("options", "decibels"),
    [
        ({"bits": 6}, 25),
        ({"bits": 8, "method": "linear"}, 35),
        ({"bits": 4, "method": "mlx"}, 17),
        ({"bits": 8, "method": "mlx", "attention": "original"}, 38),
    ],
)
def test_weights_in_few_bits_are_unpacked_to_what_they_stand_for(
    options: dict[str, Any], decibels: float, tiny: Path, tmp_path: Path
) -> None:
    # The export compares every layer with the model of the same rounded weights; only the price is left to see.
    packages = export(tiny, tmp_path / "export", **options)["packages"]
    assert decibels < packages["Unet"]["psnr"]["main"]["exact"] < decibels + 20
    assert packages["TextEncoder"]["psnr"]["main"]["exact"] > 40


def test_a_model_that_is_packed_is_exported_as_it_is(tiny: Path, tmp_path: Path) -> None:
    assert cli.main(["quantize", str(tiny), "-o", str(tmp_path / "packed"), "--bits", "8", "--group-size", "32"]) == 0
    packages = export(tmp_path / "packed", tmp_path / "export", bits=4, method="mlx")["packages"]
    assert packages["Unet"]["psnr"]["main"]["exact"] > 60
    # With 4 bits requested, it keeps its 8, and export.json has them.
    assert json.loads((tmp_path / "export" / "export.json").read_text())["bits"] == 8
    assert packages["Unet"]["bytes"] < 0.75 * export_size(tiny, tmp_path / "dense")


def export_size(model: Path, output: Path, **options: Any) -> int:
    return int(export(model, output, bits=16, verification="off", **options)["packages"]["Unet"]["bytes"])


def test_two_chunks_are_the_whole(small: Small, tmp_path: Path) -> None:
    whole = export_size(small("SD 2.1"), tmp_path / "whole")
    record = export(small("SD 2.1"), tmp_path / "chunks", bits=16, chunk=True)
    assert record["packages"]["Unet"]["psnr"]["main"]["exact"] >= 100
    sizes = [
        sum(file.stat().st_size for file in (tmp_path / "chunks" / f"UnetChunk{i}.mlpackage").rglob("*.bin"))
        for i in (1, 2)
    ]
    assert not (tmp_path / "chunks" / "Unet.mlpackage").exists()
    assert max(sizes) < 0.7 * whole
    assert "`UnetChunk1` and `UnetChunk2`" in (tmp_path / "chunks" / "README.md").read_text()


def test_an_adapter_is_fused_or_a_function(tiny: Path, adapter: MakeAdapter, tmp_path: Path) -> None:
    files = [
        adapter("tone-dark", ("to_q", "to_v", "conv1", "q_proj"), ("unet", "text_encoder")),
        adapter("2nd style", ("proj_in", "conv_shortcut", "ff.net.2"), seed=1),
    ]
    fused = export(tiny, tmp_path / "fused", files[0], bits=16)
    assert fused["packages"]["Unet"]["psnr"]["main"]["exact"] > 60
    together = export(tiny, tmp_path / "functions", *files, bits=4, functions=True)
    unet_package, text_package = (
        Program.open(tmp_path / "functions" / f"{name}.mlpackage") for name in ("Unet", "TextEncoder")
    )
    names = {"main", "tone_dark", "adapter_2nd_style"}
    assert set(unet_package.functions) == set(text_package.functions) == names
    assert set(together["packages"]["Unet"]["psnr"]) == names
    readme = (tmp_path / "functions" / "README.md").read_text()
    assert re.search(r'let unet = Unet\(\n    modelAt: .*"Unet\.mlmodelc"\),\n    configuration: chosen\)', readme)
    assert 'chosen.functionName = "adapter_2nd_style"\n' in readme
    example = {
        name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # type: ignore[arg-type]
        for name, (shape, _) in unet_package.inputs().items()
    } | {"timestep": np.array([999, 999], np.float32)}
    predictions = {name: unet_package.run(example, name)["noise_pred"] for name in names}
    export(tiny, tmp_path / "alone", bits=4, system=18, verification="off")
    alone = Program.open(tmp_path / "alone" / "Unet.mlpackage").run(example)["noise_pred"]
    assert np.array_equal(predictions["main"], alone)
    assert not np.allclose(predictions["tone_dark"], alone, atol=0.1)
    size = sum(path.stat().st_size for path in (tmp_path / "alone" / "Unet.mlpackage").rglob("*.bin"))
    shared = sum(path.stat().st_size for path in (tmp_path / "functions" / "Unet.mlpackage").rglob("*.bin"))
    assert size < shared < 1.8 * size


@pytest.mark.parametrize(("pad", "behind"), [(0, "the end"), (2047, "'!'"), (0, "nothing, cut off")])
def test_a_text_is_padded_as_the_model_was_trained_whatever_the_app_pads_with(
    pad: int, behind: str, small: Small, tmp_path: Path
) -> None:
    folder = small("SD 2.1") / "text_encoder"
    program = emitted_text_encoder(open_model(folder), Padding(2047, pad), tmp_path / "TextEncoder.mlpackage")
    ids = np.random.default_rng(1).integers(1, 2046, (1, 24))
    length = 24 if behind == "nothing, cut off" else 9
    ids[:, length:] = {"the end": 2047, "'!'": 0}.get(behind, 0)
    if length < 24:
        ids[:, length - 1] = 2047
    outputs = program.run({"input_ids": ids.astype(np.float32)})
    ids[:, min(length, 24) - 1] = 2047
    ids[:, length:] = pad
    expected = open_model(folder)(mx.array(ids))
    assert np.allclose(outputs["last_hidden_state"], expected.last_hidden_state, atol=2e-3)
    assert np.allclose(outputs["pooled_outputs"], expected.pooled, atol=2e-3)


def emitted_text_encoder(model: Any, padding: Padding, path: Path) -> Program:
    graph = Graph(Compressor(model, "palettize", 16), True, "split-einsum", 17)
    emit = partial(text_encoder.emit_text_encoder, model, padding, False, graph)
    write_package(path, {"main": Function({"input_ids": (1, 24)}, False, emit)}, 17, "", {})
    return Program.open(path)


def test_an_export_where_models_are_in_half_precision_is_that_of_float32(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[Any] = [mx.Device(mx.gpu)]
    monkeypatch.setattr(mx, "default_device", lambda: devices[-1])
    monkeypatch.setattr(
        mx, "set_default_device", lambda device: devices.append(mx.Device(getattr(device, "type", device)))
    )
    model = shutil.copytree(tiny, tmp_path / "model")
    unet = load_model(model / "unet")
    assert unet.conv_in.weight.dtype == mx.float16
    unet.update(tree_map(lambda weight: weight.astype(mx.float32) * 1.0003, unet.parameters()))
    shutil.rmtree(model / "unet")
    save_model(unet, model / "unet", mx.float32)
    export(model, tmp_path / "export", bits=8, method="linear")
    assert devices[-1] == mx.Device(mx.gpu)


def test_a_full_disk_ends_in_a_sentence(tiny: Path, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY));"
        " from app.cli import main;"
        " sys.exit(main(['export', sys.argv[1], '-o', sys.argv[2], '--bits', '16', '--verify', 'off']))"
    )
    arguments = [sys.executable, "-c", script, str(tiny), str(tmp_path / "export")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.match(r"genmoji: TextEncoder\.mlpackage cannot be written to .*", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_folder_one_is_in_is_an_output_like_any(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="exists already: name a new folder"):
        export(tiny, Path(), bits=16)


def test_less_than_apples_floor_is_warned_of(tiny: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"^Unet is \d+\.\d dB .*: \w+_blocks?[\w.]+, .*, [\w.]+\.$"):
        export_coreml(Source(tiny), tmp_path / "export", Options(bits=4))


def test_a_picture_from_packages_is_mlx_s_by_apples_schedule(tmp_path: Path) -> None:
    export(None, tmp_path / "export", bits=6, verification="off")
    expected = draw_with_apples_schedule(Genmoji.load(), steps=2)
    assert psnr_of_pictures(expected, draw_in_packages(tmp_path / "export", steps=2)) >= 35
    # By a schedule that is not the model's own, the same picture as by its own, nearly.
    assert psnr_of_pictures(Genmoji.load().generate("red apple", seed=3, steps=2, variety=0)[0].image, expected) > 20


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML predicts on a Mac only")
def test_core_ml_says_the_same(tmp_path: Path) -> None:
    import coremltools

    export(None, tmp_path / "export", bits=6, verification="off")
    package = tmp_path / "export" / "Unet.mlpackage"
    given = {
        name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # type: ignore[arg-type]
        for name, (shape, _) in Program.open(package).inputs().items()
    } | {"timestep": np.array([500, 500], np.float32)}
    model = coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    theirs, ours = model.predict(given)["noise_pred"], Program.open(package).run(given, half=True)["noise_pred"]
    assert np.linalg.norm(theirs - ours) < 1e-2 * np.linalg.norm(ours)


@pytest.mark.parametrize(
    ("options", "clue"),
    [
        ({"bits": 5}, "The method palettize has weights of 4, 6, 8 bits, or 16 for none; not of 5."),
        ({"bits": 6, "method": "mlx"}, "The method mlx has weights of 4, 8 bits"),
        ({"bits": 4, "method": "linear", "system": 17}, "iOS 17 cannot read 4 bits by the method linear"),
        ({"functions": True, "system": 17}, "iOS 17 cannot read functions: it takes --target ios18."),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], clue: str) -> None:
    with pytest.raises(UserError, match=re.escape(clue)):
        Options(**options)
