"""What apps rely on: the packages' inputs and outputs, the files beside them, and the tokenizer's rules."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from exporting import export

from mlx_genmoji.checkpoint.components import open_model
from mlx_genmoji.files import read_json, write_json
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.tokenizer import CLIPTokenizer
from quantize.export import Source
from quantize.export.folder import spaced_template, write_vocabulary
from quantize.interpreter import Program
from quantize.interpreter.package import Package

pytestmark = pytest.mark.usefixtures("cpu")

Small = Callable[[str], Path]


def interface(package: Path) -> tuple[dict[str, tuple[Any, str]], dict[str, tuple[Any, str]]]:
    program = Program.open(package)
    both = program.inputs(), program.outputs()
    return tuple({name: (shape, str(dtype)) for name, (shape, dtype) in each.items()} for each in both)  # type: ignore[return-value]


def test_inputs_and_outputs_are_those_of_apples_package(tiny: Path, tmp_path: Path) -> None:
    export(tiny, tmp_path / "sd", bits=16, verification="off")
    assert interface(tmp_path / "sd" / "TextEncoder.mlpackage") == (
        {"input_ids": ((1, 24), "float32")},
        {"last_hidden_state": ((1, 24, 64), "float32"), "pooled_outputs": ((1, 64), "float32")},
    )
    assert interface(tmp_path / "sd" / "Unet.mlpackage") == (
        {
            "sample": ((2, 4, 16, 16), "float16"),
            "timestep": ((2,), "float16"),
            "encoder_hidden_states": ((2, 64, 1, 24), "float16"),
        },
        {"noise_pred": ((2, 4, 16, 16), "float32")},
    )
    assert interface(tmp_path / "sd" / "VAEDecoder.mlpackage") == (
        {"z": ((1, 4, 16, 16), "float16")},
        {"image": ((1, 3, 32, 32), "float32")},
    )
    assert interface(tmp_path / "sd" / "VAEEncoder.mlpackage") == (
        {"z": ((1, 3, 32, 32), "float16")},
        {"latent": ((1, 8, 16, 16), "float32")},
    )


def test_xl_has_two_text_encoders_and_an_input_for_sizes(small: Small, tmp_path: Path) -> None:
    export(small("SDXL"), tmp_path / "xl", bits=16, verification="off", height=48, width=32)
    assert "request.originalSize = 48\nrequest.targetSize = 48\n" in (tmp_path / "xl" / "README.md").read_text()
    inputs, _ = interface(tmp_path / "xl" / "Unet.mlpackage")
    assert inputs["sample"] == ((2, 4, 24, 16), "float16")
    assert inputs["time_ids"] == ((2, 6), "float16")
    assert inputs["text_embeds"] == ((2, 32), "float16")
    _, outputs = interface(tmp_path / "xl" / "TextEncoder2.mlpackage")
    states = ((1, 24, 64), "float32")
    # Apple's package reads hidden_embeds, Guernika last_hidden_state.
    assert outputs == {"hidden_embeds": states, "last_hidden_state": states, "pooled_outputs": ((1, 32), "float32")}
    widths = {
        name: Package(tmp_path / "xl" / f"{name}.mlpackage").spec.description.metadata.userDefined["hidden_size"]
        for name in ("TextEncoder", "TextEncoder2", "Unet")
    }
    assert widths == {"TextEncoder": "64", "TextEncoder2": "64", "Unet": "128"}


def test_what_an_app_needs_lies_beside_the_packages(small: Small, tmp_path: Path) -> None:
    output = tmp_path / "export"
    export(small("SD 2.1"), output, bits=16, verification="off")
    assert {path.name for path in output.iterdir()} == {
        *(f"{name}.mlpackage" for name in ("TextEncoder", "Unet", "VAEDecoder", "VAEEncoder")),
        *("vocab.json", "merges.txt", "Makefile", "README.md", "metadata.json", "export.json"),
    }
    readme = (output / "README.md").read_text()
    assert "import CoreML\nimport StableDiffusion\n\nlet resources = " in readme
    assert "originalSize" not in readme
    assert 'Configuration(prompt: "pig face")' in readme
    assert "request.decoderScaleFactor = 0.18215\n" in readme
    assert "\txcrun coremlcompiler compile $< Resources\n" in (output / "Makefile").read_text()
    assert json.loads((output / "metadata.json").read_text())["prediction_type"] == "epsilon"
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((output / name).read_bytes())
    shutil.copyfile(BUILTIN / "tokenizer" / "tokenizer_config.json", tmp_path / "tokenizer_config.json")
    theirs = CLIPTokenizer.load(tmp_path)(["a red apple, 3d"])[0]
    ours = CLIPTokenizer.load(BUILTIN / "tokenizer")(["a red apple, 3d"])[0]
    length = int((ours == ours[-1]).argmax()) + 1
    assert theirs[:length].tolist() == ours[:length].tolist()


def ids_of_apples_tokenizer(folder: Path, prompt: str) -> list[int]:
    """What BPETokenizer.swift of Apple's package makes of a prompt with the files of an export: words are what is
    between spaces, and of a word the pair that comes first in merges.txt is joined until there is none."""
    ids = json.loads((folder / "vocab.json").read_text())
    lines = (folder / "merges.txt").read_text().splitlines()
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(lines)}
    pieces = ["<|startoftext|>"]
    for word in prompt.strip().lower().split():
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
            first = min(pairs, key=ranks.__getitem__)
            joined: list[str] = []
            for piece in parts:
                whole = bool(joined) and (joined[-1], piece) == first
                joined[-1:] = [joined[-1] + piece] if whole else [*joined[-1:], piece]
            parts = joined
        pieces += parts
    unknown = ids["<|endoftext|>"]
    return [ids.get(piece, unknown) for piece in (*pieces, "<|endoftext|>")]


@pytest.mark.parametrize("prompt", ["flying pig", "a cat 's hat", "red apple , 1 2 3", "wow !!! pig"])
def test_the_prompt_that_is_printed_gives_apples_tokenizer_the_ids_of_the_models(prompt: str, tmp_path: Path) -> None:
    source = Source(None)
    write_vocabulary(BUILTIN / "tokenizer", tmp_path)
    tokenizer = CLIPTokenizer.load(BUILTIN / "tokenizer")
    template = spaced_template(source.defaults.template)
    assert template == "{prompt} , 3 d"
    theirs = ids_of_apples_tokenizer(tmp_path, template.replace("{prompt}", prompt))
    ours = tokenizer([source.defaults.template.replace("{prompt}", prompt)])[0].tolist()
    assert theirs == ours[: len(theirs)]
    assert set(ours[len(theirs) :]) == {tokenizer.pad_token_id}
    # As the template stands, it would not.
    assert ids_of_apples_tokenizer(tmp_path, f"{prompt}, 3d") != theirs


@pytest.mark.parametrize(
    ("attention", "compute_units"), [("split-einsum", ".cpuAndNeuralEngine"), ("original", ".cpuAndGPU")]
)
def test_the_readme_runs_each_attention_where_it_is_fast(
    attention: str, compute_units: str, tiny: Path, tmp_path: Path
) -> None:
    export(tiny, tmp_path / "export", bits=16, attention=attention, verification="off")
    readme = (tmp_path / "export" / "README.md").read_text()
    assert re.findall(r"configuration\.computeUnits = (\S+)", readme) == [compute_units]


def test_the_shift_of_an_autoencoder_is_added_before_decoding_and_subtracted_after_encoding(
    tiny: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny, tmp_path / "model")
    config = read_json(model / "vae" / "config.json")
    write_json(model / "vae" / "config.json", config | {"shift_factor": 0.5})
    # Verified too: the export's own comparison has to agree about the shift.
    export(model, tmp_path / "export", bits=16)
    vae = open_model(model / "vae")
    random = np.random.default_rng(0)
    z = random.standard_normal((1, 4, 16, 16)).astype(np.float16).astype(np.float32)
    decoded = Program.open(tmp_path / "export" / "VAEDecoder.mlpackage").run({"z": z})["image"]
    expected = np.asarray(vae.decode(mx.array(z.transpose(0, 2, 3, 1)) + 0.5)).transpose(0, 3, 1, 2)
    assert np.abs(decoded - expected).max() < 1e-2 * np.abs(expected).max()
    picture = random.uniform(-1, 1, (1, 3, 32, 32)).astype(np.float16).astype(np.float32)
    mean = Program.open(tmp_path / "export" / "VAEEncoder.mlpackage").run({"z": picture})["latent"][:, :4]
    moments = vae.quant_conv(vae.encoder(mx.array(picture.transpose(0, 2, 3, 1))))
    expected = np.asarray(moments).transpose(0, 3, 1, 2)[:, :4] - 0.5
    assert np.abs(mean - expected).max() < 1e-2 * np.abs(expected).max()
