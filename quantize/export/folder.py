"""A model's folder to one of Core ML packages and what an app needs beside them, moved into place when whole."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import mlx.nn as nn

from mlx_genmoji.errors import UserError
from mlx_genmoji.files import write_json
from mlx_genmoji.quantization import Quantization
from mlx_genmoji.tokenizer import read_vocabulary, spaced

from ..coreml import import_coremltools
from .apple_schedule import APPLES
from .companion_files import MAKEFILE, readme
from .exported_model import Source, Weighted, computing_on_cpu
from .graph import Attention, Graph, Var
from .mlpackage import Function, write_package
from .packages import Part, parts_of
from .unet import Flow, Stage
from .verify import verify
from .weight_formats import METHODS, Method, Storage

Verification = Literal["full", "quick", "off"]

# Below, pictures differ visibly; Apple's own converter asks for as much.
FLOOR = 35.0

DENSE_BITS = 16


@dataclass(frozen=True)
class Options:
    """How to export. Raises UserError for what does not go together."""

    bits: int = 6
    """Of the UNet's weights; text encoders get 8 or more, the autoencoder half precision."""
    method: Method = "palettize"
    attention: Attention = "split-einsum"
    system: int | None = None
    """The iOS version to be read by; None for the first that can."""
    chunk: bool = False
    height: int | None = None
    width: int | None = None
    functions: bool = False
    verification: Verification = "quick"

    def __post_init__(self) -> None:
        offered = METHODS[self.method]
        if self.bits not in (*offered, DENSE_BITS):
            some = ", ".join(map(str, offered))
            raise UserError(f"The method {self.method} has weights of {some} bits, or 16 for none; not of {self.bits}.")
        if self.system is not None and self.system < self.first_system:
            why = "functions" if self.functions else f"{self.bits} bits by the method {self.method}"
            raise UserError(f"iOS {self.system} cannot read {why}: it takes --target ios{self.first_system}.")

    @property
    def first_system(self) -> int:
        """The first iOS that reads the packages."""
        return max(18 if self.functions else 17, *(METHODS[self.method].get(bits, 17) for bits in self.all_bits))

    @property
    def all_bits(self) -> tuple[int, int]:
        """Of the UNet and of the text encoders."""
        return self.bits, max(self.bits, 8)

    def storage(self, part: Part, model: nn.Module) -> Storage:
        """How the weights of a part are kept."""
        bits = DENSE_BITS if part.component == "vae" else self.all_bits[part.component != "unet"]
        return Storage(model, self.method, bits, half=part.half)


Done = Callable[[str], None]


@computing_on_cpu()
def export_coreml(source: Source, output: Path, options: Options, done: Done = lambda what: None) -> dict[str, Any]:
    """Write `output`, a folder of Core ML packages and what an app needs beside them; what `export.json` says of them.

    done: called with what is done next. Raises UserError where `output` is in use, the model is not supported, or a
    package turns out not to compute what the model does; then there is no `output`. Warns of packages that are less
    exact than Apple's floor.
    """
    import_coremltools()
    f = source.vae.downscale
    height, width = (
        side if asked is None else _latents(asked, f)
        for side, asked in zip(source.latents, (options.height, options.width), strict=True)
    )
    system = options.system or options.first_system
    parts = parts_of(source, height, width, options.chunk)
    facts = _facts(source, parts, options, height * f, width * f, system)
    if options.functions and not source.adapters:
        raise UserError("Functions are of adapters: give one or more with --adapter.")
    names = source.function_names
    with new_folder(output) as folder:
        reports = {part.name: _export_part(source, part, names, options, system, facts, folder, done) for part in parts}
        write_vocabulary(source.folder / "tokenizer", folder)
        record = facts | {"packages": reports}
        write_json(folder / "metadata.json", facts)
        write_json(folder / "export.json", record)
        (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
        functions = (
            {part.name: ["main", *names] for part in parts if source.changes(part.component)}
            if options.functions
            else {}
        )
        (folder / "README.md").write_text(readme(facts, functions, options.chunk), encoding="utf-8")
    return record


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """An unfinished folder that becomes `output` when all went well. Raises UserError where that is in use."""
    output = output.resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: name a new folder for the export.")
    unfinished = output.with_name(f"{output.name}.partial-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if output.exists():
            output.rmdir()
        os.replace(unfinished, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _latents(pixels: int, downscale: int) -> int:
    if pixels < downscale or pixels % downscale:
        raise UserError(f"A side of {pixels} pixels is no multiple of {downscale}, which the autoencoder needs.")
    return pixels // downscale


def _export_part(
    source: Source,
    part: Part,
    names: Sequence[str],
    options: Options,
    system: int,
    facts: Mapping[str, Any],
    folder: Path,
    done: Done,
) -> dict[str, Any]:
    """Write a part's packages and verify them."""
    done(part.name)
    beside = options.functions and source.changes(part.component)
    adapters: dict[str, list[Weighted]] = {"main": [] if options.functions else source.adapters}
    if beside:
        adapters |= {name: [weighted] for name, weighted in zip(names, source.adapters, strict=True)}
    storage = options.storage(part, source.open(part.component))
    models = {name: source.open(part.component, own) for name, own in adapters.items()}
    said = {key: str(value) for key, value in facts.items() if not isinstance(value, (dict, list))}
    if part.hidden_size:
        said["hidden_size"] = str(part.hidden_size)

    def write(path: Path, shapes: Any, emit: Callable[[nn.Module, Graph, dict[str, Var]], list[Var]]) -> Any:
        weights: dict[str, Any] = {}

        def emit_one(name: str, given: dict[str, Var]) -> list[Var]:
            adapter = name if beside else None
            graph = Graph(storage, part.half, options.attention, system, adapter, weights)
            return emit(models[name], graph, given)

        functions = {name: Function(shapes, part.half_inputs, partial(emit_one, name)) for name in models}
        return write_package(path, functions, system, f"{part.name} of {source.name}, for stickers", said)

    packages = [folder / f"{part.name}.mlpackage"]
    if part.chunks is None:
        write(packages[0], part.inputs, part.emit)
    else:
        packages = [folder / f"{part.name}Chunk{i}.mlpackage" for i in (1, 2)]
        _write_chunks(part, packages, models, write)
    models.clear()
    report: dict[str, Any] = {"bytes": sum(_size(package) for package in packages)}
    if storage.errors:
        report["weights_that_lost_most"] = {path: round(error, 4) for path, error in storage.worst()}
    if options.verification != "off":
        report["psnr"] = {}
        for name, own in adapters.items():
            done(f"{part.name}: verifying" if name == "main" else f"{part.name}: verifying {name}")
            opened = partial(source.open, part.component, own)
            full = options.verification == "full"
            measured = verify(part, packages, name, storage, opened, beside, full)
            report["psnr"][name] = measured
            if min(measured.values()) < FLOOR:
                worst = ", ".join(path for path, _ in storage.worst()) or "none by rounding"
                warnings.warn(
                    f"{part.name} is {min(measured.values())} dB from the model, less than {FLOOR:g}: export it with"
                    f" more bits. The layers whose weights lost most: {worst}.",
                    stacklevel=2,
                )
    return report


def _write_chunks(part: Part, packages: Sequence[Path], models: Mapping[str, nn.Module], write: Any) -> None:
    """The first chunk gives what the second begins with, beside the inputs of both."""
    assert part.chunks is not None
    split = {id(model): part.chunks(model) for model in models.values()}
    count = 0

    def first(model: nn.Module, g: Graph, given: dict[str, Var]) -> list[Var]:
        nonlocal count
        flow = _through(split[id(model)][0], g, Flow(), given)
        count = len(flow.skips)
        parts = {"hidden": flow.x, "time": flow.time} | {f"skip_{i}": skip for i, skip in enumerate(flow.skips)}
        return [g.mb.identity(x=x, name=name) for name, x in parts.items()]

    def second(model: nn.Module, g: Graph, given: dict[str, Var]) -> list[Var]:
        flow = Flow(given["hidden"], given["time"], [given[f"skip_{i}"] for i in range(count)])
        return [_through(split[id(model)][1], g, flow, given).x]

    halves = next(iter(split.values()))
    needs = [{name for stage in half for name in stage.needs} for half in halves]
    shapes = [{name: shape for name, shape in part.inputs.items() if name in own} for own in needs]
    between = write(packages[0], shapes[0], first)
    write(packages[1], {**shapes[1], **between}, second)


def _through(stages: Sequence[Stage], g: Graph, flow: Flow, given: dict[str, Var]) -> Flow:
    for stage in stages:
        flow = stage.emit(g, flow, given)
    return flow


def _facts(
    source: Source, parts: Sequence[Part], options: Options, height: int, width: int, system: int
) -> dict[str, Any]:
    """What apps and people want to know of an export."""
    vae = source.vae.config
    # A model that is packed is exported as it is.
    packed = Quantization.read(source.unet.raw_config) if options.method == "mlx" else None
    bits = packed.bits if packed is not None and options.bits < DENSE_BITS else options.bits
    return {
        "identifier": source.name,
        "converter_version": f"mlx-genmoji {version('mlx-genmoji')}",
        "attention_implementation": options.attention.replace("-", "_").upper(),
        "system": f"iOS {system}",
        "hidden_size": str(next(part for part in parts if part.name == "Unet").inputs["encoder_hidden_states"][1]),
        "prediction_type": "epsilon",
        "betas": dict(APPLES),
        "scaling_factor": vae.scaling_factor,
        "height": height,
        "width": width,
        "bits": bits,
        "method": options.method if bits < DENSE_BITS else "none",
        "template": spaced_template(source.defaults.template),
        "steps": source.defaults.steps,
        "guidance": source.defaults.guidance,
        "xl": len(source.text_encoders) == 2,
        "adapters": [
            {"name": adapter.name, "sha256": adapter.sha256, "weight": weight} for adapter, weight in source.adapters
        ],
    }


def spaced_template(template: str) -> str:
    """A template as an app has to write it: Apple's tokenizer splits at spaces only, CLIP's at punctuation too and
    between any two digits."""
    around = [spaced(text) for text in template.split("{prompt}")]
    return " {prompt} ".join(around).strip()


def write_vocabulary(tokenizer: Path, folder: Path) -> None:
    """`vocab.json` and `merges.txt`, which apps' tokenizers read, from whatever the model's tokenizer is in."""
    vocabulary, merges = read_vocabulary(tokenizer)
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _size(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
