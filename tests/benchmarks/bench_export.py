"""Core ML packages: how exact they are, read back and run in numpy; their size; what writing them takes.

Small models of each family, the built-in model, and one of Stable Diffusion 1.5's size with random weights. In parts,
the cheap ones first, which can be run by themselves (`run.py export:chains`): coremltools' own palettization of the
large UNet, which the time is held against, takes a quarter of an hour on free cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from PIL import Image
from random_models import NOISE, SMALL, write_small_pipeline, write_unet
from row import Row

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import create_model, open_model, save_model
from mlx_genmoji.errors import quoted
from mlx_genmoji.files import write_json
from mlx_genmoji.lora import Adapter, Layer, adaptable, save_adapter
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.samplers import make_sampler
from quantize.export import Options, Source, export_coreml
from quantize.export.apple_schedule import APPLE_BETAS, AppleSchedule
from quantize.interpreter import Program

PROMPT = "red apple"
STEPS = 4
GUIDANCE = 2.0
SEED = 3

# The schedulers of Apple's package, as a scheduler_config.json.
APPLES_SCHEDULER = {
    **APPLE_BETAS,
    "_class_name": "DPMSolverMultistepScheduler",
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",
    "final_sigmas_type": "sigma_min",
}

TEXT_ENCODER = {
    # As in the files of Stable Diffusion 1.5: the end of a text has the largest id.
    "eos_token_id": 2,
    "architectures": ["CLIPTextModel"],
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}


class Cost(NamedTuple):
    seconds: float
    bytes_of_memory: int


def rows(parts: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of `parts`, or of all parts. Raises ExceptionGroup after the last part if parts failed."""
    with tempfile.TemporaryDirectory() as name:
        yield from each_of({part: PARTS[part](Path(name)) for part in parts or PARTS})


def each_of(measured: Mapping[str, Iterator[Row]]) -> Iterator[Row]:
    """The rows of each of `measured`. One that fails does not stop the next; the failures are raised at the end."""
    errors = []
    for what, rows_of_it in measured.items():
        try:
            yield from rows_of_it
        except Exception as error:
            error.add_note(f"This was measured: {what}")
            errors.append(error)
    if errors:
        raise ExceptionGroup("Not all was measured.", errors)


def _exactness(folder: Path) -> Iterator[Row]:
    yield from each_of({family: _exactness_of(family, folder) for family in (*SMALL, "built-in")})


def _exactness_of(family: str, folder: Path) -> Iterator[Row]:
    model = BUILTIN if family == "built-in" else write_small_pipeline(family, folder / family)
    options = Options(bits=16, verification="full")
    packages = export_coreml(Source(model), folder / f"{family}-export", options)["packages"]
    for kind, goal in (("exact", 100), ("half", 60)):
        by_part = {part: report["psnr"]["main"][kind] for part, report in packages.items()}
        worst = min(by_part, key=lambda part: by_part[part])
        what = "exact arithmetic" if kind == "exact" else "rounded to half precision"
        measured = f"{by_part[worst]:.1f} dB ({worst}), UNet {by_part['Unet']:.1f}"
        yield Row(
            f"{family}, fp16 packages against MLX at t = 1, 500, 999, {what}",
            f">= {goal} dB",
            measured,
            by_part[worst] >= goal,
        )


def _chains(folder: Path) -> Iterator[Row]:
    """A picture drawn by packages with Apple's schedule, against `Genmoji.generate` with the same schedule."""
    expected = draw_with_apples_schedule(Genmoji.load())
    for bits in (6, 4, 8, 16):
        target = folder / f"built-in-{bits}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_coreml(Source(None), target, Options(bits=bits, verification="off"))
        db = psnr_of_pictures(expected, draw_in_packages(target))
        yield Row(
            f"built-in model at {bits} bits, text to picture in packages, {STEPS} steps, against Genmoji.generate",
            ">= 35 dB" if bits == 6 else "",
            f"{db:.1f} dB",
            db >= 35 if bits == 6 else None,
        )


class _PredictsEpsilon:
    """The built-in UNet as an export converts it: epsilon at Apple's timesteps."""

    def __init__(self, genmoji: Genmoji):
        self.unet = genmoji.unet
        self.schedule = AppleSchedule.for_model(genmoji.scheduler)
        self.config, self.raw_config = genmoji.unet.config, genmoji.unet.raw_config
        self.conv_norm_out, self.named_modules = genmoji.unet.conv_norm_out, genmoji.unet.named_modules

    def __call__(self, sample: mx.array, timesteps: mx.array, text: mx.array, added: Any = None) -> mx.array:
        indices = np.asarray(timesteps).astype(np.int64)
        output = self.unet(sample, mx.array(self.schedule.timesteps[indices]), text, added)
        return mx.array(self.schedule.epsilon(np.asarray(output), np.asarray(sample), indices))


def draw_with_apples_schedule(genmoji: Genmoji, steps: int = STEPS) -> Image.Image:
    """The picture that MLX draws with Apple's scheduler."""
    family: Any = genmoji.family
    family.unet, family.scheduler = _PredictsEpsilon(genmoji), APPLES_SCHEDULER
    return genmoji.generate(PROMPT, steps=steps, guidance=GUIDANCE, seed=SEED, variety=0)[0].image


def draw_in_packages(folder: Path, half: bool = False, steps: int = STEPS) -> Image.Image:
    """The picture of an export, its packages run in NumPy as Apple's pipeline runs them."""
    genmoji = Genmoji.load()
    text, unet, decoder = (Program.open(folder / f"{name}.mlpackage") for name in ("TextEncoder", "Unet", "VAEDecoder"))
    prompt = genmoji.defaults.template.replace("{prompt}", PROMPT)
    ids = genmoji.text.tokenize(["", prompt])[0]
    states = [
        text.run({"input_ids": np.asarray(row)[None].astype(np.float32)}, half=half)["last_hidden_state"] for row in ids
    ]
    hidden_states = np.concatenate(states).transpose(0, 2, 1)[:, :, None]
    schedule = make_sampler(APPLES_SCHEDULER).schedule(steps)
    noise = mx.random.normal((1, *genmoji.latents_shape), key=mx.random.key(SEED))
    x, history = noise * schedule.init_noise_sigma, ()
    for step, timestep in enumerate(schedule.timesteps):
        sample = np.asarray(x).transpose(0, 3, 1, 2).repeat(2, axis=0)
        inputs = {
            "sample": sample,
            "timestep": np.full(2, timestep, np.float32),
            "encoder_hidden_states": hidden_states,
        }
        without, with_prompt = unet.run(inputs, half=half)["noise_pred"]
        guided = without + GUIDANCE * (with_prompt - without)
        x, history = schedule.step(mx.array(guided.transpose(1, 2, 0)[None]), step, x, history)
    z = np.asarray(x).transpose(0, 3, 1, 2) / genmoji.vae.config.scaling_factor
    pixels = decoder.run({"z": z}, half=half)["image"][0].transpose(1, 2, 0)
    return Image.fromarray(np.round(np.clip(pixels / 2 + 0.5, 0, 1) * 255).astype(np.uint8))


def psnr_of_pictures(expected: Image.Image, picture: Image.Image) -> float:
    ours, theirs = (np.asarray(image, np.float64) for image in (expected, picture))
    return float(20 * np.log10(255 / max(np.sqrt(np.square(ours - theirs).mean()), 1e-9)))


def write_full_pipeline(folder: Path) -> Path:
    """A model of Stable Diffusion 1.5's size."""
    write_unet("SD 1.5", folder / "unet")
    for name, config in (("text_encoder", TEXT_ENCODER), ("vae", VAE)):
        save_model(create_model(config), folder / name, mx.float16)
    (folder / "tokenizer").symlink_to(BUILTIN / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", NOISE)
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    return folder


def write_attention_adapter(model: Path, path: Path, seed: int, rank: int = 16) -> Path:
    """A LoRA of the UNet's attention."""
    models = {"unet": open_model(model / "unet")}
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> mx.array:
        return mx.array(0.01 * random.standard_normal(shape, np.float32))

    layers = {
        name: Layer(drawn(rank, layer.weight.shape[1]), drawn(layer.weight.shape[0], rank), float(rank))
        for name, layer in adaptable(models).items()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }
    save_adapter(Adapter(layers), path)
    return path


def _full_model(folder: Path) -> Path:
    return folder / "full" if (folder / "full").exists() else write_full_pipeline(folder / "full")


def _full_export(folder: Path, name: str, *options: str) -> Path:
    """An export of the large model, made once for all parts of a run; unverified, which takes minutes."""
    if not (folder / name).exists():
        _export(_full_model(folder), folder / name, *options, "--verify", "off")
    return folder / name


EXPORT_OF_FULL_SIZE = "genmoji export of SD 1.5's size, 6 bits, verified"


def _cost(folder: Path) -> Iterator[Row]:
    cost = _export(_full_model(folder), folder / "six-verified", "--bits", "6")
    packages = json.loads((folder / "six-verified" / "export.json").read_text())["packages"]
    exact = ", ".join(f"{name} {report['psnr']['main']['exact']:.0f} dB" for name, report in packages.items())
    yield Row(EXPORT_OF_FULL_SIZE, "", f"{cost.seconds:.0f} s", None, f"random weights: {exact}")
    memory = cost.bytes_of_memory / 1e9
    yield Row(f"{EXPORT_OF_FULL_SIZE}, peak memory", "<= 4 GB", f"{memory:.2f} GB", memory <= 4)


def _sizes(folder: Path) -> Iterator[Row]:
    four, whole = (size_of(_full_export(folder, name, *options)) for name, options in (FOUR_BITS, HALF))
    yield _size_row("SD 1.5-size UNet at 4 bits / fp16", 0.27, four / whole)
    six = size_of(_full_export(folder, "six", "--bits", "6"))
    yield Row("SD 1.5-size UNet at 6 bits / fp16", "", f"{six / whole:.3f}", None)
    packed = size_of(_full_export(folder, "packed", "--bits", "4", "--method", "mlx"))
    yield _size_row("SD 1.5-size UNet at 4 bits, --method mlx / fp16", 0.29, packed / whole)


def _functions(folder: Path) -> Iterator[Row]:
    name, options = FOUR_BITS
    alone = size_of(_full_export(folder, name, *options))
    adapters = [write_attention_adapter(_full_model(folder), folder / f"adapter-{i}.safetensors", i) for i in range(8)]
    options_of_adapters = [option for path in adapters for option in ("--adapter", str(path))]
    cost = _export(
        _full_model(folder), folder / "eight", "--bits", "4", "--functions", *options_of_adapters, "--verify", "off"
    )
    eight = size_of(folder / "eight") / alone
    note = f"written in {cost.seconds:.0f} s with {cost.bytes_of_memory / 1e9:.1f} GB"
    row = _size_row("4 bits with 8 rank-16 attention adapters as functions / the base alone", 1.2, eight)
    yield row._replace(note=note)


def _coremltools(folder: Path) -> Iterator[Row]:
    ours = _export(_full_model(folder), folder / "six-timed", "--bits", "6")
    theirs, ended = palettize_by_coremltools(_full_export(folder, HALF[0], *HALF[1]) / "Unet.mlpackage")
    yield Row(
        f"{EXPORT_OF_FULL_SIZE}, by coremltools' palettization of the UNet alone",
        "<= 1.2 x",
        f"{ours.seconds / theirs.seconds:.2f} x ({ours.seconds:.0f} s by {theirs.seconds:.0f} s)",
        ours.seconds <= 1.2 * theirs.seconds,
        ended,
    )


FOUR_BITS = ("four", ("--bits", "4", "--target", "ios18"))
HALF = ("fp16", ("--bits", "16"))

PARTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "exactness": _exactness,
    "chains": _chains,
    "cost": _cost,
    "sizes": _sizes,
    "functions": _functions,
    "coremltools": _coremltools,
}


def _size_row(what: str, most: float, measured: float) -> Row:
    return Row(what, f"<= {most}", f"{measured:.3f}", measured <= most)


def size_of(folder: Path) -> int:
    """Bytes of an export's UNet."""
    return json.loads((folder / "export.json").read_text())["packages"]["Unet"]["bytes"]


def _export(model: Path, output: Path, *options: str) -> Cost:
    return _run("-m", "mlx_genmoji", "export", str(model), "-o", str(output), *options)[0]


def palettize_by_coremltools(package: Path, bits: int = 6) -> tuple[Cost, str]:
    """The cost of coremltools' own k-means in a process of its own, the seconds of the call alone; and how it ended.

    Constants of fewer than 10,000 numbers are left out, since coremltools needs scikit-learn for them.
    """
    script = f"""
import time, coremltools as ct, coremltools.optimize as cto
model = ct.models.MLModel({str(package)!r}, skip_model_load=True)
how = cto.coreml.OpPalettizerConfig(mode="kmeans", nbits={bits}, weight_threshold=10_000)
begun = time.perf_counter()
try:
    cto.coreml.palettize_weights(model, cto.coreml.OptimizationConfig(global_config=how))
except ValueError as error:
    # When all is palettized, a pass that would fuse what norms end with stumbles over half precision.
    if "batch_norm" not in str(error):
        raise
    print("ENDED in its own error, all palettized:", " ".join(str(error).split())[:120])
print("SECONDS", time.perf_counter() - begun)
"""
    cost, lines = _run("-c", script)
    return cost, next((line.removeprefix("ENDED ") for line in lines if line.startswith("ENDED")), "")


def _run(*arguments: str) -> tuple[Cost, list[str]]:
    """Run Python; its cost and the lines that it printed. A line `SECONDS x` among them counts as the time."""
    script = (
        "import json, resource, subprocess, sys, time; begun = time.perf_counter();"
        " done = subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True, text=True);"
        " took = time.perf_counter() - begun;"
        " peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss;"
        " print(json.dumps([done.returncode, took, peak, done.stdout, done.stderr]))"
    )
    answer = subprocess.run([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    code, seconds, peak, output, complaint = json.loads(answer.stdout)
    if code != 0:
        last = (complaint.splitlines() or [""])[-1]
        raise RuntimeError(f"python {quoted(' '.join(arguments), 80)} exited with {code}: {last}")
    lines = output.splitlines()
    printed = [float(line.split()[1]) for line in lines if line.startswith("SECONDS")]
    # Bytes on a Mac, KiB elsewhere.
    return Cost(printed[0] if printed else seconds, peak * (1 if sys.platform == "darwin" else 1024)), lines
