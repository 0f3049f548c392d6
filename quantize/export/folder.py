"""Exports a model's folder to a folder of Core ML packages, with the files that an app needs beside them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.nn as nn

from mlx_genmoji.errors import UserError
from mlx_genmoji.files import whole_folder, write_json
from mlx_genmoji.quantization import Quantization
from mlx_genmoji.tokenizer import read_vocabulary, spaced

from ..coreml import import_coremltools
from ..export_options import DENSE_BITS, METHODS, Attention, Method, Verification
from ..model_folder import check_unused
from .apple_files import MERGES, UNET, UNET_CHUNKS, VOCABULARY
from .apple_schedule import APPLE_BETAS
from .companion_files import MAKEFILE, readme
from .exported_model import Source, Weighted, computing_on_cpu
from .graph import Graph, Var
from .mlpackage import Function, write_package
from .packages import Emit, PackageSpec, package_specs
from .unet import Flow, Stage
from .verify import verify
from .weight_formats import Compressor

# Pictures of models below it differ visibly; Apple's own converter requires as much.
MIN_PSNR = 35.0


@dataclass(frozen=True)
class Options:
    """How to export. Raises UserError for options that do not go together."""

    bits: int = 6
    """Of the UNet's weights. Text encoders get 8 or more, the autoencoder has half precision."""
    method: Method = "palettize"
    attention: Attention = "split-einsum"
    system: int | None = None
    """The oldest iOS version that has to read the packages; None for the first that can."""
    chunk: bool = False
    height: int | None = None
    width: int | None = None
    functions: bool = False
    verification: Verification = "quick"

    def __post_init__(self) -> None:
        offered = METHODS[self.method]
        if self.bits not in (*offered, DENSE_BITS):
            choices = ", ".join(map(str, offered))
            raise UserError(
                f"The method {self.method} has weights of {choices} bits, or 16 for none; not of {self.bits}."
            )
        if self.system is not None and self.system < self.first_system:
            feature = "functions" if self.functions else f"{self.bits} bits by the method {self.method}"
            raise UserError(f"iOS {self.system} cannot read {feature}: it takes --target ios{self.first_system}.")

    @property
    def first_system(self) -> int:
        """The first iOS version that reads the packages."""
        bits = (self.bits, self.text_bits)
        return max(18 if self.functions else 17, *(METHODS[self.method].get(count, 17) for count in bits))

    @property
    def text_bits(self) -> int:
        """Bits of the text encoders' weights."""
        return max(self.bits, 8)

    def compressor(self, spec: PackageSpec, model: nn.Module) -> Compressor:
        """What compresses the weights of a package."""
        bits = {"vae": DENSE_BITS, "unet": self.bits}.get(spec.component, self.text_bits)
        return Compressor(model, self.method, bits, half=spec.half)


Progress = Callable[[str], None]


@computing_on_cpu()
def export_coreml(
    source: Source, output: Path, options: Options, progress: Progress = lambda step: None
) -> dict[str, Any]:
    """Write Core ML packages and the files that an app needs to the new folder `output`; the contents of `export.json`.

    progress: called with the name of each step as it begins. Raises UserError where `output` is in use, the model is
    not supported, or a package does not compute what the model does; then there is no `output`. Warns of packages whose
    PSNR is below MIN_PSNR.
    """
    import_coremltools()
    downscale = source.vae.downscale
    height, width = (
        default if pixels is None else _latent_size(pixels, downscale)
        for default, pixels in zip(source.latents, (options.height, options.width), strict=True)
    )
    system = options.system or options.first_system
    specs = package_specs(source, height, width, options.chunk)
    facts = _facts(source, specs, options, height * downscale, width * downscale, system)
    if options.functions and not source.adapters:
        raise UserError("Functions are of adapters: give one or more with --adapter.")
    for adapter, _ in source.adapters if options.functions else ():
        adapter.low_rank_only("--functions")
    names = source.function_names
    output = output.resolve()
    check_unused(output, "the export")
    with whole_folder(output) as folder:
        packages = {
            spec.name: _Writer(source, spec, names, options, system, progress).write(folder, facts) for spec in specs
        }
        record = facts | {"packages": packages}
        write_vocabulary(source.folder / "tokenizer", folder)
        write_json(folder / "metadata.json", facts)
        write_json(folder / "export.json", record)
        (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
        changed = [spec.name for spec in specs if options.functions and source.changes(spec.component)]
        functions = {name: ["main", *names] for name in changed}
        (folder / "README.md").write_text(readme(facts, functions, options.chunk), encoding="utf-8")
    return record


def _latent_size(pixels: int, downscale: int) -> int:
    if pixels < downscale or pixels % downscale:
        raise UserError(f"A side of {pixels} pixels is no multiple of {downscale}, which the autoencoder needs.")
    return pixels // downscale


class _Writer:
    """Writes and verifies the packages of one PackageSpec."""

    def __init__(
        self,
        source: Source,
        spec: PackageSpec,
        names: Sequence[str],
        options: Options,
        system: int,
        progress: Progress,
    ):
        """names: of the adapters' functions."""
        self.source, self.spec, self.options, self.system, self.progress = source, spec, options, system, progress
        # Whether adapters are functions of this package, as layers beside those that they change.
        self.separate = options.functions and source.changes(spec.component)
        self.adapters: dict[str, Sequence[Weighted]] = {"main": [] if options.functions else source.adapters}
        if self.separate:
            self.adapters |= {name: [weighted] for name, weighted in zip(names, source.adapters, strict=True)}
        self.compressor = options.compressor(spec, source.open(spec.component))

    def write(self, folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write the packages to `folder`, with `facts` (but lists and mappings); their entry in export.json."""
        self.progress(self.spec.name)
        metadata = {key: str(value) for key, value in facts.items() if not isinstance(value, (dict, list))}
        if self.spec.hidden_size:
            metadata["hidden_size"] = str(self.spec.hidden_size)
        models = {name: self._open(name) for name in self.adapters}
        if self.spec.chunks is None:
            paths = [folder / f"{self.spec.name}.mlpackage"]
            self._write_package(paths[0], models, self.spec.inputs, self.spec.emit, metadata)
        else:
            paths = [folder / f"{name}.mlpackage" for name in UNET_CHUNKS]
            self._write_chunks(paths, models, metadata)
        models.clear()
        entry: dict[str, Any] = {"bytes": sum(_size(path) for path in paths)}
        if self.compressor.errors:
            entry["weights_that_lost_most"] = {path: round(error, 4) for path, error in self.compressor.worst()}
        if self.options.verification != "off":
            entry["psnr"] = {name: self._verify(name, paths) for name in self.adapters}
        return entry

    def _open(self, function: str) -> nn.Module:
        return self.source.open(self.spec.component, self.adapters[function])

    def _write_package(
        self,
        path: Path,
        models: Mapping[str, nn.Module],
        inputs: Mapping[str, tuple[int, ...]],
        emit: Emit,
        metadata: Mapping[str, str],
    ) -> dict[str, tuple[int, ...]]:
        """Write one package with a function for each of `models`; the shapes of its outputs."""
        weights: dict[str, Any] = {}

        def emit_function(name: str, variables: dict[str, Var]) -> list[Var]:
            adapter = name if self.separate else None
            graph = Graph(self.compressor, self.spec.half, self.options.attention, self.system, adapter, weights)
            return emit(models[name], graph, variables)

        functions = {name: Function(inputs, self.spec.half_inputs, partial(emit_function, name)) for name in models}
        description = f"{self.spec.name} of {self.source.name}, for stickers"
        return write_package(path, functions, self.system, description, metadata)

    def _write_chunks(
        self, paths: Sequence[Path], models: Mapping[str, nn.Module], metadata: Mapping[str, str]
    ) -> None:
        """Write two packages: the outputs of the first are inputs of the second, besides inputs that both have."""
        assert self.spec.chunks is not None
        chunks = {id(model): self.spec.chunks(model) for model in models.values()}
        skip_count = 0

        def emit_first(model: nn.Module, g: Graph, inputs: dict[str, Var]) -> list[Var]:
            nonlocal skip_count
            flow = _through(chunks[id(model)][0], g, Flow(), inputs)
            skip_count = len(flow.skips)
            outputs = {"hidden": flow.x, "time": flow.time} | {f"skip_{i}": skip for i, skip in enumerate(flow.skips)}
            return [g.mb.identity(x=x, name=name) for name, x in outputs.items()]

        def emit_second(model: nn.Module, g: Graph, inputs: dict[str, Var]) -> list[Var]:
            flow = Flow(inputs["hidden"], inputs["time"], [inputs[f"skip_{i}"] for i in range(skip_count)])
            return [_through(chunks[id(model)][1], g, flow, inputs).x]

        needs = [{name for stage in chunk for name in stage.needs} for chunk in next(iter(chunks.values()))]
        first, second = (
            {name: shape for name, shape in self.spec.inputs.items() if name in needed} for needed in needs
        )
        between = self._write_package(paths[0], models, first, emit_first, metadata)
        self._write_package(paths[1], models, {**second, **between}, emit_second, metadata)

    def _verify(self, function: str, paths: Sequence[Path]) -> dict[str, float]:
        """Compare a function of the packages with the model; its PSNRs. Warns of one that is too low."""
        name = self.spec.name
        self.progress(f"{name}: verifying" if function == "main" else f"{name}: verifying {function}")
        measured = verify(
            self.spec,
            paths,
            function,
            self.compressor,
            partial(self._open, function),
            self.separate,
            self.options.verification == "full",
        )
        if min(measured.values()) < MIN_PSNR:
            worst = ", ".join(path for path, _ in self.compressor.worst()) or "none by rounding"
            warnings.warn(
                f"{name} is {min(measured.values())} dB from the model, less than {MIN_PSNR:g}: export it with"
                f" more bits. The layers whose weights lost most: {worst}.",
                stacklevel=2,
            )
        return measured


def _through(stages: Sequence[Stage], g: Graph, flow: Flow, inputs: dict[str, Var]) -> Flow:
    for stage in stages:
        flow = stage.emit(g, flow, inputs)
    return flow


def _facts(
    source: Source, specs: Sequence[PackageSpec], options: Options, height: int, width: int, system: int
) -> dict[str, Any]:
    """The settings of an export, as `metadata.json` has them. height, width: of pictures, in pixels."""
    vae = source.vae.config
    # The method mlx keeps a model's own packing, whatever bits are requested.
    packed = Quantization.read(source.unet.raw_config) if options.method == "mlx" else None
    bits = packed.bits if packed is not None and options.bits < DENSE_BITS else options.bits
    return {
        "identifier": source.name,
        "converter_version": f"mlx-genmoji {version('mlx-genmoji')}",
        "attention_implementation": options.attention.replace("-", "_").upper(),
        "system": f"iOS {system}",
        "hidden_size": str(next(spec for spec in specs if spec.name == UNET).hidden_size),
        "prediction_type": "epsilon",
        "betas": dict(APPLE_BETAS),
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
    """A prompt template with the spaces that Apple's tokenizer needs.

    It splits a prompt at spaces only, CLIP's also at punctuation and between any two digits.
    """
    texts = [spaced(text) for text in template.split("{prompt}")]
    return " {prompt} ".join(texts).strip()


def write_vocabulary(tokenizer: Path, folder: Path) -> None:
    """Write the files that apps' tokenizers read, from any of the forms in which a model has its tokenizer."""
    vocabulary, merges = read_vocabulary(tokenizer)
    write_json(folder / VOCABULARY, vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / MERGES).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _size(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
