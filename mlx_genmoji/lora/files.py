"""Adapter files, read in three formats. `key_formats` has their keys, `save` writes them.

kohya       one `.safetensors`, for ComfyUI, A1111, Draw Things, diffusers
diffusers   one `.safetensors`
PEFT        a folder with a subfolder for each component: `unet/adapter_config.json`, `unet/adapter_model.safetensors`
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np

from ..checkpoint.weight_files import PICKLES, check_safetensors
from ..errors import UserError, first_few, quoted
from ..files import read_json
from .adapter import Adapter, Layer
from .key_formats import read_key, unsupported
from .layer_tree import COMPONENTS

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."

DIFFUSERS_CONFIG = "lora_adapter_metadata"

# The prefix of this project's own header fields in files.
OWN_PREFIX = "genmoji."


class Source(NamedTuple):
    """One safetensors file of an adapter."""

    path: Path
    prefix: str = ""
    """Replaces PEFT_PREFIX in its keys: "unet." for the file of that component."""
    config: Mapping[str, Any] = {}
    """PEFT's `adapter_config.json`; empty in other formats."""


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter's file, or PEFT's folder. Raises UserError if it is damaged or not an adapter."""
    path = Path(path)
    sources = list(_sources(path))
    digest = hashlib.sha256()
    layers: dict[str, Layer] = {}
    metadata: dict[str, str] = {}
    for source in sources:
        tensors, header = _read(source.path)
        digest.update(source.path.read_bytes())
        if source.config:
            digest.update(json.dumps(source.config, sort_keys=True).encode())
        configs = {"": source.config} if source.config else _diffusers_configs(header)
        layers |= _layers(tensors, source, configs)
        metadata |= {key.removeprefix(OWN_PREFIX): value for key, value in header.items() if key != DIFFUSERS_CONFIG}
    metadata.pop("format", None)
    return Adapter(layers, metadata, path.name, digest.hexdigest())


def peft_folders(path: Path) -> list[Path]:
    """The folders that PEFT wrote: `path` itself, or one for each component in it."""
    return [folder for folder in (path, *(path / name for name in COMPONENTS)) if (folder / PEFT_CONFIG).is_file()]


def _sources(path: Path) -> Iterator[Source]:
    """The files of an adapter."""
    if not path.exists():
        raise UserError(f"There is no adapter {path}.")
    if path.suffix in PICKLES:
        raise UserError(f"{path} is a pickle, which can run any code: only .safetensors files are read.")
    if path.is_file():
        config_file = path.with_name(PEFT_CONFIG)
        yield Source(path, config=read_json(config_file) if path.name == PEFT_WEIGHTS and config_file.is_file() else {})
        return
    folders = peft_folders(path)
    if not folders:
        raise UserError(f"{path} is not an adapter's folder: it has neither an index.json nor PEFT's {PEFT_CONFIG}.")
    for folder in folders:
        weights = folder / PEFT_WEIGHTS
        if not weights.is_file():
            pickled = next((file.name for file in folder.iterdir() if file.suffix in PICKLES), None)
            why = f", only {pickled}, a pickle, which can run any code" if pickled else ""
            raise UserError(f"{folder} holds no {PEFT_WEIGHTS}{why}.")
        prefix = "" if folder == path else f"{folder.name}."
        yield Source(weights, prefix, read_json(folder / PEFT_CONFIG))


def _read(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The tensors of a safetensors file, lazy, and its header's metadata."""
    check_safetensors(path)
    try:
        tensors, header = cast(Any, mx.load(str(path), return_metadata=True))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
    return tensors, header


def _layers(
    tensors: Mapping[str, mx.array], source: Source, configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Layer]:
    """The layers of one file by their names. configs: PEFT's, by component; the key "" is for all components."""
    layers = {}
    for name, parts in _parts_by_layer(tensors, source).items():
        component, _, path = name.partition(".")
        layers[name] = _layer(source.path, name, parts, configs.get(component, configs.get("")), path)
    return layers


def _parts_by_layer(tensors: Mapping[str, mx.array], source: Source) -> dict[str, dict[str, mx.array]]:
    """The tensors of one file by layer, then by what they are: "down", "up", "alpha", "dora_scale".

    Raises UserError if a key or dtype is not that of a LoRA or DoRA, or the file is empty.
    """
    path = source.path
    layers: dict[str, dict[str, mx.array]] = {}
    unknown = []
    prefix = source.prefix or ("text_encoder." if any(".self_attn." in key for key in tensors) else "unet.")
    for key, tensor in tensors.items():
        parsed = read_key(prefix + key.removeprefix(PEFT_PREFIX) if key.startswith(PEFT_PREFIX) else key)
        parts = layers.setdefault(parsed.path, {}) if parsed else {}
        # The alphas of some files are integers.
        number = mx.floating if parsed and parsed.tensor != "alpha" else mx.number
        if parsed is None or parsed.tensor in parts or not mx.issubdtype(tensor.dtype, number):
            unknown.append(key)
        else:
            parts[parsed.tensor] = tensor
    for key in unknown:
        if kind := unsupported(key):
            raise UserError(f"{path} holds {kind} ({quoted(key)}), which is not supported: LoRA and DoRA are.")
    if unknown:
        raise UserError(
            f"{path} holds tensors that no Stable Diffusion adapter has: {first_few([*map(quoted, unknown)])}."
        )
    if not layers:
        raise UserError(f"{path} holds no adapter: it has no tensors.")
    return layers


def _layer(file: Path, name: str, parts: Mapping[str, mx.array], config: Mapping[str, Any] | None, path: str) -> Layer:
    """A layer from the tensors that `file` has for it. path: its path within the component, for PEFT's `config`."""
    down, up = _down_and_up(file, name, parts)
    alpha = _config_alpha(file, config, path, len(down))
    if "alpha" in parts:
        if parts["alpha"].size != 1:
            raise UserError(f"{file} is damaged: the alpha of {quoted(name)} is not a number.")
        # As in sd-scripts, an alpha of 0 stands for the rank.
        alpha = float(np.asarray(parts["alpha"].astype(mx.float32)).item()) or float(len(down))
    if not math.isfinite(alpha):
        raise UserError(f"{file} is damaged: the alpha of {quoted(name)} is {alpha}.")
    magnitude = parts.get("dora_scale")
    if magnitude is not None:
        # PEFT writes (out,) or (1, out, 1, 1); LyCORIS (out, 1, ...), but (1, in, ...) in older versions.
        if magnitude.size != len(up) or (magnitude.ndim == 2 and magnitude.shape != (len(up), 1)):
            raise UserError(
                f"{file} is a DoRA with magnitudes of inputs, which is not supported: only magnitudes of outputs are."
            )
        magnitude = magnitude.flatten()
    return Layer(down, up, alpha, magnitude)


def _down_and_up(file: Path, name: str, parts: Mapping[str, mx.array]) -> tuple[mx.array, mx.array]:
    """The two matrices of a layer, channels last: (rank, in) or (rank, kh, kw, in), and (out, rank)."""
    for matrix in ("down", "up"):
        if matrix not in parts:
            raise UserError(f"{file} is not whole: {quoted(name)} has no {matrix} matrix.")
    down, up = parts["down"], parts["up"]
    if down.ndim == 4:
        down = down.transpose(0, 2, 3, 1)
    if up.ndim == 4 and up.shape[2:] == (1, 1):
        up = up.squeeze((2, 3))
    if down.ndim not in (2, 4) or up.ndim != 2 or up.shape[1] != len(down) or 0 in down.shape:
        shapes = f"{parts['down'].shape} and {parts['up'].shape}"
        raise UserError(f"{file} is damaged: the matrices of {quoted(name)}, {shapes}, do not fit each other.")
    return down, up


def _diffusers_configs(header: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """PEFT's configs by component, which diffusers keeps in a file's header as one flat JSON object."""
    try:
        flat = json.loads(header.get(DIFFUSERS_CONFIG, "{}"))
        configs: dict[str, dict[str, Any]] = {}
        for key, value in flat.items():
            component, _, name = key.partition(".")
            configs.setdefault(component, {})[name] = value
    except (AttributeError, RecursionError, ValueError):
        raise UserError(f"The adapter's header has a {DIFFUSERS_CONFIG} that is damaged.") from None
    return configs


def _config_alpha(file: Path, config: Mapping[str, Any] | None, path: str, rank: int) -> float:
    """The alpha that PEFT's config gives the layer `path`; the rank if there is no config.

    With rsLoRA it is multiplied by sqrt(rank), so that alpha / rank is the layer's scale in either case.
    """
    if not config:
        return float(rank)
    if config.get("peft_type", "LORA") != "LORA" or config.get("bias", "none") != "none":
        kind = f"peft_type {config.get('peft_type')!r} with bias {config.get('bias')!r}"
        raise UserError(f"{file.parent / PEFT_CONFIG} has {quoted(kind)}; only LORA without biases is supported.")
    try:
        alpha = config.get("lora_alpha", 8)
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", path):
                alpha = value
                break
        return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1)
    except (AttributeError, TypeError, ValueError, re.error):
        raise UserError(f"The config of {file} is damaged: its lora_alpha or alpha_pattern is not valid.") from None
