"""Quantizes the UNet and the text encoders of a diffusers folder; everything else is copied as it is."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import mlx.core as mx

from mlx_genmoji.checkpoint.components import open_model, save_model
from mlx_genmoji.checkpoint.weight_files import PICKLES, find_weights, weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.files import read_json, whole_folder
from mlx_genmoji.quantization import DENSE_KEY, LayerReport, Quantization, quantize_model

from .model_folder import TEXT_ENCODERS, check_unused

# Endings of files with weights, in whatever format. Pickles are never copied, the others not for quantized components.
WEIGHTS = (".safetensors", ".msgpack", ".h5", ".onnx", ".onnx_data", ".index.json", *PICKLES)

# Called after each layer with the component's name, the number of its layers that are done, and the number of all.
Progress = Callable[[str, int, int], None]


class PartReport(NamedTuple):
    """How one component was quantized; the bytes are those of its weight files."""

    part: str
    quantization: Quantization
    layers: list[LayerReport]
    bytes_before: int
    bytes_after: int


def quantize_folder(
    source: Path, output: Path, quantization: Quantization, progress: Progress | None = None
) -> list[PartReport]:
    """Write the model in the folder `source`, quantized, to the new folder `output`; a report of each component.

    The UNet gets `quantization`, text encoders get `quantization.for_text`. Their other weights become half precision.
    `output` appears when it is complete. Raises UserError where `source` is no diffusers folder or is quantized
    already, and where `output` is in use.
    """
    read_json(source / "model_index.json")
    check_unused(output, "the packed model")
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} is inside {source}: name a folder outside of the model.")
    components = ["unet", *(name for name in TEXT_ENCODERS if (source / name).is_dir())]
    for name in components:
        if Quantization.read(read_json(source / name / "config.json")) is not None:
            raise UserError(f"{source / name} is packed already: start from the dense model.")
    with whole_folder(output.resolve()) as folder:
        copytree(source, folder, ignore=_ignored(source, components), dirs_exist_ok=True)
        return [_quantize_component(source, folder, name, quantization, progress) for name in components]


def _quantize_component(
    source: Path, output: Path, name: str, quantization: Quantization, progress: Progress | None
) -> PartReport:
    if name in TEXT_ENCODERS:
        quantization = quantization.for_text
    model = open_model(source / name)
    layers = quantize_model(model, quantization, done=progress and partial(progress, name))
    if name == "unet" and (source / "vae").is_dir():
        # Adapters record the hash of the dense weights that they were trained with.
        encoders = [source / encoder for encoder in TEXT_ENCODERS if (source / encoder).is_dir()]
        model.raw_config[DENSE_KEY] = weights_sha256(source / name, *encoders, source / "vae")
    save_model(model, output / name, mx.float16)
    sizes = [sum(path.stat().st_size for path in find_weights(folder / name)) for folder in (source, output)]
    return PartReport(name, quantization, layers, *sizes)


def _ignored(source: Path, quantized: list[str]) -> Callable[[str, list[str]], list[str]]:
    """For `copytree`: the names in a folder that are not copied.

    These are pickles, hidden files, and the weights of quantized components and of single-file models beside them.
    """
    without_weights = {source, *(source / name for name in quantized)}

    def ignored(folder: str, names: list[str]) -> list[str]:
        endings = WEIGHTS if Path(folder) in without_weights else PICKLES
        return [name for name in names if name.startswith(".") or name.endswith(endings)]

    return ignored
