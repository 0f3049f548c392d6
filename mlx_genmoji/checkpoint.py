"""A component of a diffusers folder (`config.json` + safetensors) <-> a module tree.

A module's parameter path is the checkpoint's key, so loading is: read, move convolutions OIHW -> OHWI, squeeze where a
1x1 convolution is a linear layer here, rename the few legacy keys, load strictly.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten
from safetensors import SafetensorError, safe_open

from .errors import UserError
from .models.blocks import PointwiseConv
from .models.clip import CLIPTextModel
from .models.functions import on_cpu
from .models.unet import UNet2DConditionModel
from .models.vae import AutoencoderKL

Model = AutoencoderKL | CLIPTextModel | UNet2DConditionModel

MODELS: dict[str, Callable[[Mapping[str, Any]], Model]] = {
    "AutoencoderKL": AutoencoderKL.from_config,
    "CLIPTextModel": CLIPTextModel.from_config,
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
}

# Where a component keeps its weights: diffusers' name, transformers' name.
WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
PICKLES = (".bin", ".ckpt", ".pt", ".pth")

# (pattern, replacement) for keys as older files spell them; None drops the key.
LEGACY_KEYS: dict[type, tuple[tuple[str, str | None], ...]] = {
    AutoencoderKL: (
        (r"(attentions\.\d+)\.query\.", r"\1.to_q."),
        (r"(attentions\.\d+)\.key\.", r"\1.to_k."),
        (r"(attentions\.\d+)\.value\.", r"\1.to_v."),
        (r"(attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
    ),
    CLIPTextModel: (
        (r"embeddings\.position_ids$", None),
        (r"^(embeddings|encoder|final_layer_norm)\.", r"text_model.\1."),
    ),
    UNet2DConditionModel: (),
}


def load_model(folder: str | Path) -> Model:
    """Build one component from its folder and load its weights, evaluated.

    float32 on a CPU; on a GPU half precision, except for the autoencoder. Raises UserError in one sentence where a file
    is missing or damaged, the config asks for what is not supported, or tensors do not fit.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    model = create_model(config)
    dtype = mx.float32 if on_cpu() or isinstance(model, AutoencoderKL) else mx.float16
    load_weights(model, find_weights(folder), dtype)
    model.eval()
    return model


def create_model(config: Mapping[str, Any]) -> Model:
    """The module that a `config.json` describes, with random weights."""
    named = config.get("_class_name") or config.get("architectures")
    names = named if isinstance(named, list) else [named]
    for name, create in MODELS.items():
        if name in names:
            return create(config)
    raise UserError(f"config.json asks for {named!r}, supported are {', '.join(MODELS)}.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object.")
    return value


def find_weights(folder: Path) -> Path:
    """The safetensors file of a component. Raises UserError; pickles are refused by name."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
    if pickles:
        raise UserError(
            f"{folder} holds {pickles[0]}, a pickle, which can run any code: only .safetensors files are read."
        )
    raise UserError(f"{folder} holds no weights: {' or '.join(WEIGHTS)} is missing.")


def load_weights(model: Model, path: Path, dtype: mx.Dtype = mx.float32) -> None:
    """Load a safetensors file into `model`, every parameter exactly once. Raises UserError naming what does not fit."""
    check_safetensors(path)
    try:
        tensors = mx.load(str(path))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    assert isinstance(tensors, dict)
    expected: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    loaded: dict[str, mx.array] = {}
    unexpected, misshaped = [], []
    for key, tensor in sorted(tensors.items()):
        name = _rename(key, LEGACY_KEYS[type(model)])
        if name is None:
            continue
        if name not in expected or name in loaded:
            unexpected.append(key)
            continue
        tensor = _to_here(tensor, expected[name].ndim)
        if tensor.shape != expected[name].shape:
            misshaped.append(f"{key} {tensor.shape} instead of {expected[name].shape}")
        if not mx.issubdtype(tensor.dtype, mx.floating):
            unexpected.append(f"{key} of type {tensor.dtype}")
        loaded[name] = tensor.astype(dtype)
    problems = {
        "missing": [name for name in expected if name not in loaded],
        "unexpected": unexpected,
        "misshaped": misshaped,
    }
    found = [f"{kind}: {_list(names)}" for kind, names in problems.items() if names]
    if found:
        raise UserError(f"{path} does not fit its config.json; {'; '.join(found)}.")
    model.update(tree_unflatten(list(loaded.items())))
    mx.eval(model.parameters())


def save_model(model: Model, folder: Path, dtype: mx.Dtype = mx.float32) -> None:
    """Write `config.json` and weights as diffusers and transformers read them, each moved into place when whole."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    pointwise = {name for name, module in model.named_modules() if isinstance(module, PointwiseConv)}
    tensors = {}
    for name, tensor in parameters.items():
        owner, _, kind = name.rpartition(".")
        if kind == "weight" and owner in pointwise:
            tensor = tensor[:, None, None]
        if tensor.ndim == 4:
            tensor = tensor.transpose(0, 3, 1, 2)
        tensors[name] = mx.contiguous(tensor.astype(dtype))
    target = folder / WEIGHTS[isinstance(model, CLIPTextModel)]
    partial = target.with_suffix(".partial.safetensors")
    mx.save_safetensors(str(partial), tensors, {"format": "pt"})
    os.replace(partial, target)
    write_json(folder / "config.json", model.raw_config)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, moved into place when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(dict(value), indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def check_safetensors(path: Path) -> None:
    """Raises UserError where the header is damaged, or describes more or less than the file holds: MLX reads on."""
    try:
        with safe_open(path, "numpy"):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or was not downloaded whole: {error}.") from None


def _rename(key: str, table: tuple[tuple[str, str | None], ...]) -> str | None:
    for pattern, replacement in table:
        if re.search(pattern, key):
            return None if replacement is None else re.sub(pattern, replacement, key)
    return key


def _to_here(tensor: mx.array, ndim: int) -> mx.array:
    if tensor.ndim == 4 and ndim == 4:
        return tensor.transpose(0, 2, 3, 1)
    if tensor.ndim == 4 and ndim == 2 and tensor.shape[2:] == (1, 1):
        return tensor.squeeze((2, 3))
    return tensor


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
