"""A diffusers folder to one whose UNet and text encoders are packed; everything else is carried over as it is."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from mlx_genmoji.checkpoint.components import open_model, save_model
from mlx_genmoji.checkpoint.weight_files import PICKLES, find_weights, weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.files import read_json
from mlx_genmoji.quantization import DENSE_KEY, LayerReport, Quantization, quantize_model

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")

# Files that hold weights, in whatever form; those of the parts that are packed are not carried over, pickles never.
WEIGHTS = (".safetensors", ".msgpack", ".h5", ".onnx", ".onnx_data", ".index.json", *PICKLES)


class PartReport(NamedTuple):
    """What became of one part."""

    part: str
    quantization: Quantization
    layers: list[LayerReport]
    bytes_before: int
    bytes_after: int
    """Of its weights in files."""


def quantize_folder(
    source: Path,
    output: Path,
    quantization: Quantization,
    done: Callable[[str, int, int], None] | None = None,
) -> list[PartReport]:
    """Write `source` as the new folder `output`, packed, moved into place when whole; what became of each part.

    The UNet gets `quantization`, text encoders `quantization.for_text`. What stays dense in them is in half precision.
    done: called after each layer with its part, the number of the part's layers that are done, and of all. Raises
    UserError in one sentence where `source` is no diffusers folder or is packed already, or `output` is in use.
    """
    read_json(source / "model_index.json")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: name a new folder for the packed model.")
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} is inside {source}: name a folder outside of the model.")
    parts = ["unet", *(part for part in TEXT_ENCODERS if (source / part).is_dir())]
    for part in parts:
        if Quantization.read(read_json(source / part / "config.json")) is not None:
            raise UserError(f"{source / part} is packed already: start from the dense model.")
    unfinished = output.with_name(f"{output.name}.partial-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        shutil.copytree(source, unfinished, ignore=_left_out(source, parts), dirs_exist_ok=True)
        reports = [_quantize_part(source, unfinished, part, quantization, done) for part in parts]
        if output.exists():
            output.rmdir()
        os.replace(unfinished, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return reports


def _quantize_part(
    source: Path,
    output: Path,
    part: str,
    quantization: Quantization,
    done: Callable[[str, int, int], None] | None,
) -> PartReport:
    own = quantization if part not in TEXT_ENCODERS else quantization.for_text
    model = open_model(source / part)
    layers = quantize_model(model, own, done=done and partial(done, part))
    if part == "unet" and (source / "vae").is_dir():
        encoders = [source / name for name in TEXT_ENCODERS if (source / name).is_dir()]
        model.raw_config[DENSE_KEY] = weights_sha256(source / part, *encoders, source / "vae")
    save_model(model, output / part, mx.float16)
    sizes = [sum(path.stat().st_size for path in find_weights(folder / part)) for folder in (source, output)]
    return PartReport(part, own, layers, *sizes)


def _left_out(source: Path, parts: list[str]) -> Callable[[str, list[str]], list[str]]:
    """For `shutil.copytree`: pickles, hidden files, and weights of packed parts or of the whole model in one file."""
    without_weights = {source, *(source / part for part in parts)}

    def left_out(folder: str, names: list[str]) -> list[str]:
        endings = WEIGHTS if Path(folder) in without_weights else PICKLES
        return [name for name in names if name.startswith(".") or name.endswith(endings)]

    return left_out
