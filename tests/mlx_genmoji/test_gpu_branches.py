"""What only a GPU executes, executed here: the GPU's branch of every decision, computed by MLX's CPU device.

Only Python sees a GPU (`mx.default_device`, `mx.metal.is_available`): models are loaded in half precision, steps are
compiled, heads are padded, memory is "wired". The last test lists the places that decide by the device and fails for
one of which a side was not taken here.
"""

import ast
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from diffusers import DDIMScheduler, StableDiffusionPipeline
from mlx.utils import tree_flatten
from PIL import Image

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import save_model
from mlx_genmoji.hub import resolve
from mlx_genmoji.models import ops
from mlx_genmoji.models.ops import packed as packed_weights
from mlx_genmoji.models.tiny_vae import AutoencoderTiny
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.prompt import Rewriter

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "scrape", "train", "quantize", "mlx_genmoji")

# These have tests of their own, beside those of what they belong to.
ELSEWHERE = ("app/commands/bench.py", "app/commands/doctor.py", "train/", "quantize/")

# The names by which a place asks for the device.
QUESTIONS = ("on_cpu", "on_metal", "default_device", "is_available")
# Those whose callers ask.
ASKED_FOR_OTHERS = ("on_cpu", "on_metal")


class Place(NamedTuple):
    """A call that asks for the device."""

    file: str
    first_line: int
    last_line: int


def places(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> list[Place]:
    """Every call by one of the names of QUESTIONS in the packages, those within on_cpu and on_metal aside."""
    gpu_places = []
    for path in sorted(file for package in packages for file in (root / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = [
            range(node.lineno, (node.end_lineno or 0) + 1)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name in ASKED_FOR_OTHERS
        ]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if name in QUESTIONS and not any(node.lineno in lines for lines in inside):
                gpu_places.append(Place(path.relative_to(root).as_posix(), node.lineno, node.end_lineno or node.lineno))
    return gpu_places


class Recorder:
    """Which line asked for the device, and what it was told."""

    def __init__(self) -> None:
        self.answers: set[tuple[str, int, bool]] = set()
        self.wired: list[int] = []

    def answer(self, value: Any, is_gpu: bool) -> Any:
        frame = sys._getframe(2)
        while frame.f_code.co_name in ASKED_FOR_OTHERS and frame.f_back is not None:
            frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            self.answers.add((path.relative_to(ROOT).as_posix(), frame.f_lineno, is_gpu))
        return value

    def missing(self, wanted: list[Place]) -> list[str]:
        """The sides that were not taken, a line each."""
        return [
            f"{place.file}:{place.first_line}: never on {'a GPU' if is_gpu else 'the CPU'}"
            for place in wanted
            for is_gpu in (False, True)
            if not any(
                file == place.file and place.first_line <= line <= place.last_line and side == is_gpu
                for file, line, side in self.answers
            )
        ]


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


On = Callable[[bool], Any]


@pytest.fixture(scope="module")
def on(recorder: Recorder) -> On:
    """`with on(gpu):` the device is, as far as Python sees, a Mac's GPU or the CPU; it is MLX's CPU that computes."""
    default = mx.default_device()

    @contextmanager
    def on(gpu: bool) -> Iterator[None]:
        device = mx.Device(mx.gpu) if gpu else mx.Device(mx.cpu)

        def device_info(device: mx.Device) -> dict[str, Any]:
            return {"max_recommended_working_set_size": 12e9} if device.type == mx.DeviceType.gpu else {}

        mx.set_default_device(mx.cpu)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mx, "default_device", lambda: recorder.answer(device, gpu))
            patch.setattr(mx.metal, "is_available", lambda: recorder.answer(gpu, gpu))
            patch.setattr(mx, "device_info", device_info)
            patch.setattr(mx, "set_wired_limit", lambda limit: recorder.wired.append(limit) or 7)
            try:
                yield
            finally:
                mx.set_default_device(default)

    return on


def psnr(a: Image.Image, b: Image.Image) -> float:
    ours, theirs = (np.asarray(picture, np.float64) for picture in (a, b))
    assert ours.shape == theirs.shape
    return float(10 * np.log10(255**2 / max(((ours - theirs) ** 2).mean(), 1e-10)))


class Drawing(NamedTuple):
    picture: Image.Image
    previews: list[Image.Image]
    genmoji: Genmoji


def draw(on: On, prompt: str, model: str | Path, steps: int = 4, **options: Any) -> tuple[Drawing, Drawing]:
    """On the CPU, and by the branches of a GPU."""
    drawings = []
    for gpu in (False, True):
        with on(gpu):
            genmoji = Genmoji.load(model, **options)
            previews: list[Image.Image] = []

            def preview(step: int, steps: int, latents: mx.array, genmoji: Any = genmoji, to: Any = previews) -> None:
                to.append(genmoji.preview(latents))

            sticker = genmoji.generate(prompt, seed=7, steps=steps, callback=preview)[0]
            drawings.append(Drawing(sticker.image, previews, genmoji))
    return drawings[0], drawings[1]


@pytest.fixture(scope="module")
def stable_diffusion(write_pipeline: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    folder = tmp_path_factory.mktemp("gpu") / "sd"
    return write_pipeline(folder, StableDiffusionPipeline, DDIMScheduler(**noise))


@pytest.fixture(scope="module")
def tiny_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AutoencoderTiny with random weights for the built-in model's latents, which is computed in half precision."""
    folder = tmp_path_factory.mktemp("tiny")
    mx.random.seed(0)
    channels = json.loads((BUILTIN / "vae" / "config.json").read_text())["latent_channels"]
    fields: dict[str, Any] = {"_class_name": "AutoencoderTiny", "latent_channels": channels}
    for half, blocks in (("encoder", [1, 1, 1, 1]), ("decoder", [1, 1, 1, 1])):
        fields |= {f"{half}_block_out_channels": [16] * 4, f"num_{half}_blocks": blocks}
    save_model(AutoencoderTiny.from_config(fields), folder)
    return folder


Drawings = dict[str, tuple[Drawing, Drawing]]


@pytest.fixture(scope="module")
def drawings(on: On, stable_diffusion: Path, tiny_vae: Path) -> Drawings:
    return {
        "whole": draw(on, "red apple", BUILTIN, preview=tiny_vae),
        "by parts": draw(on, "flying pig", BUILTIN, steps=3),
        "packed": draw(on, "red apple", BUILTIN, bits=8),
        "stable diffusion": draw(on, "a flying pig", stable_diffusion),
    }


@pytest.mark.parametrize("kind", ["whole", "by parts", "packed", "stable diffusion"])
def test_a_gpu_s_branches_draw_the_cpu_s_picture(kind: str, drawings: Drawings) -> None:
    on_cpu, on_gpu = drawings[kind]
    assert psnr(on_gpu.picture, on_cpu.picture) >= 35
    dtypes = [drawing.genmoji.unet.conv_norm_out.weight.dtype for drawing in (on_cpu, on_gpu)]
    assert dtypes == [mx.float32, mx.float16]


def test_previews_are_those_of_the_cpu_in_half_precision_too(drawings: Drawings) -> None:
    on_cpu, on_gpu = drawings["whole"]
    assert len(on_gpu.previews) == len(on_cpu.previews) == 4
    assert all(psnr(ours, theirs) >= 35 for ours, theirs in zip(on_gpu.previews, on_cpu.previews, strict=True))
    weights = [dict(tree_flatten(drawing.genmoji.family.preview_vae.parameters())) for drawing in (on_cpu, on_gpu)]
    assert [{array.dtype for array in arrays.values()} for arrays in weights] == [{mx.float32}, {mx.float16}]


@pytest.mark.usefixtures("drawings")
def test_memory_is_wired_and_given_back_around_each_drawing_on_the_gpu_alone(recorder: Recorder) -> None:
    assert recorder.wired[:2] == [12_000_000_000, 7]
    assert len(recorder.wired) % 2 == 0 and recorder.wired == recorder.wired[:2] * (len(recorder.wired) // 2)


def test_on_a_gpu_steps_are_compiled_and_heads_padded(
    on: On, stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilations, heads = [], []
    compile, attend = mx.compile, mx.fast.scaled_dot_product_attention
    monkeypatch.setattr(mx, "compile", lambda *a, **options: compilations.append(a) or compile(*a, **options))
    spy = lambda q, k, v, **options: heads.append(q.shape[-1]) or attend(q, k, v, **options)  # noqa: E731
    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", spy)
    draw(on, "a flying pig", stable_diffusion, steps=2)
    assert len(compilations) == 1
    assert 64 in heads


@pytest.fixture(scope="module")
def operations(on: On) -> list[list[mx.array]]:
    """Every operation that asks for the device, on the CPU and by the branches of a GPU, differentiated and not."""
    keys = mx.random.split(mx.random.key(0), 4)
    x, gate = mx.random.normal((2, 8, 8, 64), key=keys[0]), mx.random.normal((2, 8, 8, 64), key=keys[1])
    rows, weight = x.reshape(2, 64, 64), mx.random.normal((32, 3, 3, 64), key=keys[2])
    matrix = mx.random.normal((32, 64), key=keys[3])
    layout = {"bits": 4, "group_size": 64, "mode": "affine"}
    packed = mx.quantize(matrix, **layout)
    functions: list[Callable[[mx.array], mx.array]] = [
        ops.silu,
        ops.gelu,
        ops.quick_gelu,
        lambda x: ops.gated_gelu(x, gate),
        lambda x: ops.group_norm(x, 8, mx.ones(64), mx.zeros(64), 1e-5),
        lambda x: ops.conv2d(x, weight, 1, 1),
        lambda x: ops.downsampled_conv2d(x, weight, 1),
        lambda x: ops.upsampled_conv2d(x, weight),
        lambda x: ops.attention(x.reshape(2, 64, 64), rows, rows, 4, 0.25),
        lambda x: packed_weights.packed_matmul(x, packed, layout),
        lambda x: x @ packed_weights.dequantize(packed, layout, mx.float32).T,
    ]
    results = []
    for gpu in (False, True):
        with on(gpu):
            values = [function(x) for function in functions]
            cotangents = [mx.random.normal(value.shape, key=mx.random.key(4)) for value in values]
            gradients = [
                mx.vjp(function, [x], [cotangent])[1][0]
                for function, cotangent in zip(functions, cotangents, strict=True)
            ]
            with ops.inference():
                inferred = [function(x) for function in functions]
            results.append(values + gradients + inferred)
            mx.eval(results)
    return results


def test_every_operation_is_the_same_by_both_branches(
    operations: list[list[mx.array]], error: Callable[..., float]
) -> None:
    assert max(error(ours, theirs) for ours, theirs in zip(*operations, strict=True)) <= 1e-5


@pytest.fixture(scope="module")
def rewriters(on: On, language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The language models of the rewriter with an adapter, on the CPU and by the branches of a GPU."""
    import mlx_lm
    from mlx_lm.tuner.utils import linear_to_lora_layers

    folder = tmp_path_factory.mktemp("adapter")
    half = folder / "half"
    shutil.copytree(language_model, half)
    arrays: Any = mx.load(str(half / "model.safetensors"))
    mx.save_safetensors(
        str(half / "model.safetensors"), {name: array.astype(mx.float16) for name, array in arrays.items()}
    )
    model = mlx_lm.load(str(language_model))[0]
    options = {"rank": 4, "scale": 10.0, "dropout": 0.0}
    linear_to_lora_layers(model, 1, options)
    trained = {
        name: 0.1 * mx.random.normal(array.shape, key=mx.random.key(1))
        for name, array in tree_flatten(model.parameters())
        if "lora" in name
    }
    mx.save_safetensors(str(folder / "adapters.safetensors"), trained)
    config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": options}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    models = []
    for gpu in (False, True):
        with on(gpu):
            models.append(Rewriter.load(half, adapter=folder).model)
    return models


def test_on_a_gpu_a_language_model_keeps_its_precision_and_its_adapter_beside_the_weights(rewriters: list[Any]) -> None:
    on_cpu, on_gpu = (dict(tree_flatten(model.parameters())) for model in rewriters)
    assert {array.dtype for array in on_cpu.values()} == {mx.float32}
    assert on_gpu["model.embed_tokens.weight"].dtype == mx.float16
    assert any("lora" in name for name in on_gpu) and not any("lora" in name for name in on_cpu)
    ours, theirs = (np.asarray(model(mx.array([[5, 6, 7]])), np.float64) for model in rewriters[::-1])
    assert np.linalg.norm(ours - theirs) <= 1e-2 * np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def from_the_hub(on: On, stable_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, Drawing]]:
    """A model of the hub's cache with files of both precisions: where it was found, and what it draws."""
    home = tmp_path_factory.mktemp("hub")
    repository = home / "hub" / "models--someone--pig"
    snapshot = repository / "snapshots" / ("0123456789" * 4)
    shutil.copytree(stable_diffusion, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    for path in sorted(snapshot.glob("*/*.safetensors")):
        arrays: Any = mx.load(str(path))
        # Told apart from the full precision by a little more than rounding.
        halves = {name: (array * 1.002).astype(mx.float16) for name, array in arrays.items()}
        mx.save_safetensors(str(path.with_suffix(".fp16.safetensors")), halves)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", "1")
        gpu_places = []
        for gpu in (False, True):
            with on(gpu):
                gpu_places.append(resolve("someone/pig"))
        return list(zip(gpu_places, draw(on, "a flying pig", "someone/pig", steps=2), strict=True))


def test_of_the_hub_a_gpu_loads_half_precision(from_the_hub: list[tuple[Any, Drawing]], stable_diffusion: Path) -> None:
    weights = [drawing.genmoji.unet.conv_in.weight for _, drawing in from_the_hub]
    assert [weight.dtype for weight in weights] == [mx.float32, mx.float16]
    difference = (weights[1].astype(mx.float32) / weights[0]).mean().item()
    assert 1.001 < difference < 1.003
    assert psnr(from_the_hub[0][1].picture, from_the_hub[1][1].picture) >= 35


@pytest.mark.usefixtures("drawings", "operations", "rewriters", "from_the_hub")
def test_both_sides_of_every_decision_by_the_device_are_taken(recorder: Recorder) -> None:
    wanted = [place for place in places() if not place.file.startswith(ELSEWHERE)]
    assert len(wanted) >= 15
    assert recorder.missing(wanted) == []


def test_a_side_that_is_not_taken_is_missed(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    source = "x = (\n    1 if on_cpu() else 2\n)\ny = mx.metal.is_available()\n"
    (tmp_path / "package" / "file.py").write_text(source)
    wanted = places(tmp_path, ("package",))
    assert sorted(wanted) == [("package/file.py", 2, 2), ("package/file.py", 4, 4)]
    recorder = Recorder()
    recorder.answers |= {("package/file.py", 2, False), ("package/file.py", 4, False), ("package/file.py", 4, True)}
    assert recorder.missing(wanted) == ["package/file.py:2: never on a GPU"]
