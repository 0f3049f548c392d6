"""An autoencoder that is not in the model's folder: another folder, one file in either layout, or a hub id.

Checkpoints are often shared without one, or look better with another (`--vae`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import UserError
from ..files import read_json
from ..hub import resolve_component
from .components import Model, assign, compute_dtype, create_model, is_kind, load_model
from .file_kinds import kind_of
from .original_keys import Tensors, autoencoder
from .tensor_files import read_tensors
from .weight_files import find_weights

AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")

SCALING_FACTOR = 0.18215
"""Of Stable Diffusion 1.x and 2.x."""

PREFIXES = ("first_stage_model.", "vae.")
"""Of an autoencoder's keys in a whole checkpoint."""


def load_autoencoder(source: str | Path, scaling_factor: float, allow_pickle: bool = False) -> Model:
    """The autoencoder of a folder (that of a whole model included), a file or a hub id, its weights evaluated.

    scaling_factor: of a file, which does not tell it. Raises UserError if it is missing, damaged or something else.
    """
    path = _located(source)
    if path.is_dir():
        return load_model(path, AUTOENCODERS, allow_pickle=allow_pickle)
    config, tensors = _read_file(path, scaling_factor, allow_pickle)
    model = create_model(config)
    assign(model, tensors.items(), compute_dtype(model), f"{path} is not a whole autoencoder")
    object.__setattr__(model, "weight_paths", (path,))
    model.eval()
    mx.eval(model.parameters())
    return model


def load_other(source: str | Path, config_file: Path, allow_pickle: bool = False) -> Model:
    """`load_autoencoder` in place of the one whose config.json is given, if there is such a file."""
    scaling = read_json(config_file).get("scaling_factor") if config_file.exists() else None
    return load_autoencoder(source, scaling if isinstance(scaling, float) else SCALING_FACTOR, allow_pickle)


def read_autoencoder(
    source: str | Path, scaling_factor: float, allow_pickle: bool = False
) -> tuple[dict[str, Any], Tensors]:
    """Like `load_autoencoder`, but its config.json and its tensors."""
    path = _located(source)
    if path.is_file():
        return _read_file(path, scaling_factor, allow_pickle)
    config = read_json(path / "config.json")
    if not is_kind(create_model(config), *AUTOENCODERS):
        raise UserError(f"{path}: config.json describes another kind of model than {AUTOENCODERS[0]}.")
    tensors: Tensors = {}
    for file in find_weights(path, allow_pickle=allow_pickle):
        tensors |= read_tensors(file, allow_pickle)[0]
    return config, tensors


def _located(source: str | Path) -> Path:
    """The file, or the folder with the autoencoder's config.json."""
    path = resolve_component(source)
    if path.is_dir() and not (path / "config.json").exists() and (path / "vae" / "config.json").exists():
        return path / "vae"
    return path


def _read_file(path: Path, scaling_factor: float, allow_pickle: bool) -> tuple[dict[str, Any], Tensors]:
    tensors, _ = read_tensors(path, allow_pickle)
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if "encoder.layers.0.weight" in tensors and "decoder.layers.0.weight" in tensors:
        return _tiny_config(tensors), tensors
    if "encoder.conv_in.weight" in tensors and "decoder.conv_in.weight" in tensors:
        config, renamed = autoencoder(tensors)
        return config | {"scaling_factor": scaling_factor}, renamed
    kind = kind_of(tensors)
    if kind is not None and "autoencoder" in kind.name:
        raise UserError(f"{path} holds one half of {kind.name}: --vae needs a file with the encoder and the decoder.")
    raise UserError(f"{path} is not an autoencoder{f' but {kind.name}' if kind else ''}, which --vae needs.")


def _tiny_config(tensors: Tensors) -> dict[str, Any]:
    """The config of an AutoencoderTiny from its tensors' shapes. A stage begins or ends with a layer without a bias."""
    channels = tensors["encoder.layers.0.weight"].shape[0]
    blocks = {}
    for half in ("encoder", "decoder"):
        stages = [0]
        last = max(int(match[1]) for key in tensors if (match := re.match(rf"{half}\.layers\.(\d+)\.", key)))
        for i in range(last):
            if f"{half}.layers.{i}.conv.0.weight" in tensors:
                stages[-1] += 1
            elif f"{half}.layers.{i}.weight" in tensors and f"{half}.layers.{i}.bias" not in tensors:
                stages.append(0)
        blocks[half] = stages
    return {
        "_class_name": "AutoencoderTiny",
        "latent_channels": tensors["decoder.layers.0.weight"].shape[1],
        "encoder_block_out_channels": [channels] * len(blocks["encoder"]),
        "decoder_block_out_channels": [channels] * len(blocks["decoder"]),
        "num_encoder_blocks": blocks["encoder"],
        "num_decoder_blocks": blocks["decoder"],
        "scaling_factor": 1.0,
    }
