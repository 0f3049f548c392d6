"""`genmoji quantize`: the folder it writes, what it says of it, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import quantize.folder
from app import cli
from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.pipeline import BUILTIN

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the built-in model, with what other folders hold beside."""
    folder = shutil.copytree(BUILTIN, tmp_path / "model")
    (folder / "README.md").write_text("A model.\n")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"weights again")
    (folder / "v1-5-pruned.safetensors").write_bytes(b"and again")
    (folder / ".cache").mkdir()
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["quantize", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"genmoji: [^\n]+\n", output.err)
    return output.err


def test_a_folder_is_packed_and_draws(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(model)
    assert cli.main(["quantize", str(model), "-o", "packed", "--group-size", "32"]) == 0
    output = capsys.readouterr()
    assert re.fullmatch(
        r"packed: unet in 4 bits, 28\.6 MB -> 9\.\d MB, text_encoder in 8 bits, 4\.2 MB -> 2\.\d MB\n", output.out
    )
    assert files(model) == before
    assert files(Path("packed")) == files(BUILTIN) | {"README.md"}
    for name in sorted(files(BUILTIN)):
        if not name.startswith(("unet", "text_encoder")):
            assert (Path("packed") / name).read_bytes() == (BUILTIN / name).read_bytes()
    config = json.loads(Path("packed/unet/config.json").read_text())
    assert config.pop("quantization") == {"bits": 4, "group_size": 32, "mode": "affine"}
    # What adapters of the dense model name.
    parts = ("unet", "text_encoder", "vae")
    assert config.pop("_dense_sha256") == weights_sha256(*(BUILTIN / part for part in parts))
    assert config == json.loads((BUILTIN / "unet" / "config.json").read_text())
    assert json.loads(Path("packed/text_encoder/config.json").read_text())["quantization"]["bits"] == 8
    assert cli.main(["generate", "red apple", "--model", "packed", "--seed", "3", "-o", "apple.png"]) == 0
    picture = Image.open("apple.png").convert("RGB")
    assert picture.getextrema()[0][1] - picture.getextrema()[0][0] > 100


def test_the_folder_is_what_loading_in_few_bits_makes(model: Path) -> None:
    assert cli.main(["quantize", str(model), "-o", "packed", "--bits", "8"]) == 0
    pictures = [
        genmoji.generate("red apple", seed=3, steps=2)[0].image
        for genmoji in (Genmoji.load("packed"), Genmoji.load(bits=8))
    ]
    # But for what stays dense, which the file has in half precision, as the built-in model's own.
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_the_report_has_a_line_for_every_layer(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quantize", str(model), "-o", "packed", "--report"]) == 0
    *table, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("packed: unet in 4 bits (15 of 57 layers left dense), ")
    assert table[:2] == ["| layer | bits | error |", "|---|---|---|"]
    assert len(table) == 2 + 57 + 13
    assert sum("| dense |  |" in line for line in table) == 15
    assert any(
        re.fullmatch(r"\| unet\.down_blocks\.0\.resnets\.0\.conv1 \| 4 \| \d+\.\d\d% \|", line) for line in table
    )
    assert any(re.match(r"\| text_encoder\.text_model\..*\| 8 \| 0\.\d\d% \|", line) for line in table)


@pytest.mark.parametrize(
    ("options", "clue"),
    [
        (["--bits", "7"], "bits is 7; in mode affine it is 2, 3, 4, 5, 6 or 8"),
        (["--bits", "0"], "bits is 0"),
        (["--group-size", "48"], "group_size is 48; in mode affine it is 32, 64 or 128"),
        (["--mode", "mxfp4", "--bits", "8"], "bits is 8; in mode mxfp4 it is 4"),
        (["--mode", "foo"], "foo"),
    ],
)
def test_what_there_is_not_is_refused(
    options: list[str], clue: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clue in refused(capsys, str(model), "-o", "packed", *options)
    assert not Path("packed").exists()


def test_a_packed_folder_is_not_packed_again(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quantize", str(model), "-o", "packed"]) == 0
    capsys.readouterr()
    assert "is packed already: start from the dense model" in refused(capsys, "packed", "-o", "again")
    assert not Path("again").exists()


def test_a_folder_in_use_is_left_alone(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("packed").mkdir()
    Path("packed/mine.txt").write_text("mine")
    assert "packed exists already: name a new folder" in refused(capsys, str(model), "-o", "packed")
    assert "name a folder outside of the model" in refused(capsys, str(model), "-o", str(model / "packed"))
    assert files(Path("packed")) == {"mine.txt"}


def test_what_is_no_model_s_folder_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("one.safetensors").write_bytes(b"")
    assert "model_index.json is missing" in refused(capsys, "empty", "-o", "packed")
    assert "genmoji convert one.safetensors" in refused(capsys, "one.safetensors", "-o", "packed")
    assert "There is no model folder ./nowhere" in refused(capsys, "./nowhere", "-o", "packed")
    shutil.rmtree(model / "unet")
    assert "config.json is missing" in refused(capsys, str(model), "-o", "packed")


def test_a_run_that_is_stopped_leaves_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device", "packed/unet")

    monkeypatch.setattr(quantize.folder, "save_model", stop)
    assert cli.main(["quantize", str(model), "-o", "packed"]) == 130
    monkeypatch.setattr(quantize.folder, "save_model", fill)
    capsys.readouterr()
    assert "No space left on device" in refused(capsys, str(model), "-o", "packed")
    assert {path.name for path in Path().iterdir()} == {"model"}


def test_the_built_in_model_is_quantized_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources: list[Path] = []
    monkeypatch.setattr(quantize, "quantize_folder", lambda source, *others: sources.append(source) or [])
    assert cli.main(["quantize", "builtin", "-o", str(tmp_path / "packed")]) == 0
    assert sources == [BUILTIN]
