"""Files of adapters, read in each of three spellings (`spelling`) and written in one of them.

kohya: one `.safetensors`, for ComfyUI, A1111, Draw Things, diffusers. diffusers: one `.safetensors`. PEFT: a folder
with one of PEFT's own for each component, `unet/adapter_config.json` beside `unet/adapter_model.safetensors`.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import mlx.core as mx
import numpy as np
from safetensors.numpy import save

from ..checkpoint.weight_files import PICKLES, check_safetensors
from ..errors import UserError, quoted
from ..files import read_json
from .adapter import Adapter, Layer
from .key_formats import kohya_keys, read_key, unsupported
from .layer_tree import COMPONENTS

Format = Literal["kohya", "diffusers", "peft"]

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."

# sd-scripts' word for the family of the base.
VERSION = "ss_base_model_version"

DIFFUSERS_CONFIG = "lora_adapter_metadata"

# Our own facts in a header, beside those of others.
OURS = "genmoji."
FACTS = (
    *("base_model", "base_sha256", "base_bits", "skin_tone", "person_type", "template"),
    *("init", "dataset_sha256", "step", "seed"),
)


class Source(NamedTuple):
    """One safetensors file of an adapter."""

    path: Path
    prefix: str = ""
    """What stands before its keys' paths, in place of PEFT_PREFIX."""
    config: Mapping[str, Any] = {}
    """PEFT's `adapter_config.json`."""


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter's file, or PEFT's folder. Raises UserError in one sentence where it is damaged, or none."""
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
        metadata |= {key.removeprefix(OURS): value for key, value in header.items() if key != DIFFUSERS_CONFIG}
    metadata.pop("format", None)
    return Adapter(layers, metadata, path.name, digest.hexdigest())


def save_adapter(adapter: Adapter, path: str | Path, format: Format = "kohya", dtype: mx.Dtype = mx.float16) -> None:
    """Write an adapter, moved into place when whole: one file, or of PEFT a folder. dtype: float16 or float32.

    diffusers' spelling has no alpha: it is multiplied in. Raises UserError where the adapter is not of finite numbers
    in this precision, or its paths are kohya's and another spelling is asked for (`Adapter.resolve` first).
    """
    path = Path(path)
    layers = {name: _numbers(name, layer, dtype, format == "diffusers") for name, layer in adapter.layers.items()}
    if format != "kohya" and any("." not in name for name in layers):
        raise UserError(
            f"{adapter.name} spells the paths of layers as kohya does: another spelling needs the model beside it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:40]}.{os.getpid()}.partial")
    try:
        if format == "peft":
            if path.exists() and _peft_folders(path) == []:
                raise UserError(f"{path} exists and is no folder of an adapter: choose another place.")
            _write_peft(adapter, layers, partial)
            if path.exists():
                shutil.rmtree(path)
        elif path.is_dir():
            raise UserError(f"{path} is a folder; give the name of a file.")
        else:
            tensors = _kohya(adapter, layers) if format == "kohya" else _diffusers(layers)
            partial.write_bytes(save(tensors, _header(adapter, layers)))
        os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def _peft_folders(path: Path) -> list[Path]:
    """The folders of PEFT's in a folder: itself, or one for each component."""
    return [folder for folder in (path, *(path / name for name in COMPONENTS)) if (folder / PEFT_CONFIG).is_file()]


def _sources(path: Path) -> Iterator[Source]:
    """The files of an adapter."""
    if not path.exists():
        raise UserError(f"There is no adapter {path}.")
    if path.suffix in PICKLES:
        raise UserError(f"{path} is a pickle, which can run any code: only .safetensors files are read.")
    if path.is_file():
        own = path.name == PEFT_WEIGHTS and path.with_name(PEFT_CONFIG).is_file()
        yield Source(path, config=read_json(path.with_name(PEFT_CONFIG)) if own else {})
        return
    folders = _peft_folders(path)
    if not folders:
        raise UserError(f"{path} is a folder without an index.json of adapters, or an {PEFT_CONFIG} as PEFT writes it.")
    for folder in folders:
        weights = folder / PEFT_WEIGHTS
        pickled = next((file.name for file in folder.iterdir() if file.suffix in PICKLES), None)
        if not weights.is_file():
            why = f", only {pickled}, a pickle, which can run any code" if pickled else ""
            raise UserError(f"{folder} holds no {PEFT_WEIGHTS}{why}.")
        prefix = "" if folder == path else f"{folder.name}."
        yield Source(weights, prefix, read_json(folder / PEFT_CONFIG))


def _read(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    check_safetensors(path)
    try:
        tensors, header = cast(Any, mx.load(str(path), return_metadata=True))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
    return tensors, header


def _layers(
    tensors: Mapping[str, mx.array], source: Source, configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Layer]:
    """The layers of one file. `configs`: PEFT's, by component; "" is for all."""
    path = source.path
    found: dict[str, dict[str, mx.array]] = {}
    unknown = []
    prefix = source.prefix or ("text_encoder." if any(".self_attn." in key for key in tensors) else "unet.")
    for key, tensor in tensors.items():
        spelled = read_key(prefix + key.removeprefix(PEFT_PREFIX) if key.startswith(PEFT_PREFIX) else key)
        parts = found.setdefault(spelled.path, {}) if spelled else {}
        # The alphas of some files are whole numbers.
        number = mx.floating if spelled and spelled.tensor != "alpha" else mx.number
        if spelled is None or spelled.tensor in parts or not mx.issubdtype(tensor.dtype, number):
            unknown.append(key)
        else:
            parts[spelled.tensor] = tensor
    for key in unknown:
        if kind := unsupported(key):
            raise UserError(f"{path} holds {kind} ({quoted(key)}), which is not supported: LoRA and DoRA are.")
    if unknown:
        shown = ", ".join(map(quoted, unknown[:3])) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        raise UserError(f"{path} holds what is no part of an adapter of Stable Diffusion: {shown}.")
    if not found:
        raise UserError(f"{path} holds no adapter: no tensors are in it.")
    layers = {}
    for name, parts in found.items():
        component, _, own = name.partition(".")
        layers[name] = _layer(path, name, parts, configs.get(component, configs.get("")), own)
    return layers


def _layer(path: Path, name: str, parts: dict[str, mx.array], config: Mapping[str, Any] | None, own: str) -> Layer:
    """A layer in the shapes of here, of the tensors that a file has of it."""
    for half in ("down", "up"):
        if half not in parts:
            raise UserError(f"{path} is not whole: of {quoted(name)} it lacks the way {half}.")
    down, up = parts["down"], parts["up"]
    if down.ndim == 4:
        down = down.transpose(0, 2, 3, 1)
    if up.ndim == 4 and up.shape[2:] == (1, 1):
        up = up.squeeze((2, 3))
    if down.ndim not in (2, 4) or up.ndim != 2 or up.shape[1] != len(down) or 0 in down.shape:
        shapes = f"{parts['down'].shape} and {parts['up'].shape}"
        raise UserError(f"{path} is damaged: the two halves of {quoted(name)}, {shapes}, do not fit each other.")
    alpha = _alpha(path, config, own, len(down))
    if "alpha" in parts:
        if parts["alpha"].size != 1:
            raise UserError(f"{path} is damaged: the alpha of {quoted(name)} is not a number.")
        # As in sd-scripts, none and zero are the rank.
        alpha = float(np.asarray(parts["alpha"].astype(mx.float32)).item()) or float(len(down))
    if not math.isfinite(alpha):
        raise UserError(f"{path} is damaged: the alpha of {quoted(name)} is {alpha}.")
    magnitude = parts.get("dora_scale")
    if magnitude is not None:
        # Of PEFT (out,) or (1, out, 1, 1); of LyCORIS (out, 1, ...), and of its older files (1, in, ...).
        if magnitude.size != len(up) or (magnitude.ndim == 2 and magnitude.shape != (len(up), 1)):
            raise UserError(f"{path} holds a DoRA over the inputs of layers, which is not supported: over outputs is.")
        magnitude = magnitude.flatten()
    return Layer(down, up, alpha, magnitude)


def _diffusers_configs(header: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """PEFT's configurations by component, as diffusers keeps them in a file's header."""
    try:
        flat = json.loads(header.get(DIFFUSERS_CONFIG, "{}"))
        configs: dict[str, dict[str, Any]] = {}
        for key, value in flat.items():
            component, _, name = key.partition(".")
            configs.setdefault(component, {})[name] = value
    except (AttributeError, RecursionError, ValueError):
        raise UserError(f"The adapter's header has a {DIFFUSERS_CONFIG} that is damaged.") from None
    return configs


def _alpha(path: Path, config: Mapping[str, Any] | None, own: str, rank: int) -> float:
    """The alpha of a layer that a configuration of PEFT's says, in place of any rsLoRA; without one, the rank."""
    if not config:
        return float(rank)
    if config.get("peft_type", "LORA") != "LORA" or config.get("bias", "none") != "none":
        kind = f"peft_type {config.get('peft_type')!r} with bias {config.get('bias')!r}"
        raise UserError(f"{path.parent / PEFT_CONFIG} is of {quoted(kind)}; supported is LORA without.")
    try:
        alpha = config.get("lora_alpha", 8)
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", own):
                alpha = value
                break
        return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1)
    except (AttributeError, TypeError, ValueError, re.error):
        raise UserError(f"The configuration of {path} is damaged: its alpha or alpha_pattern makes no sense.") from None


class Numbers(NamedTuple):
    """A layer as files hold it: NCHW, in the precision of the file."""

    down: np.ndarray[Any, Any]
    up: np.ndarray[Any, Any]
    alpha: float
    dora_scale: np.ndarray[Any, Any] | None


def _numbers(name: str, layer: Layer, dtype: mx.Dtype, fold: bool) -> Numbers:
    """`fold`: multiply alpha / rank in."""
    up = layer.up.astype(mx.float32) * layer.scale if fold and layer.scale != 1 else layer.up
    down = layer.down.transpose(0, 3, 1, 2) if layer.down.ndim == 4 else layer.down
    parts = [down, up] if layer.dora_scale is None else [down, up, layer.dora_scale]
    arrays = [np.ascontiguousarray(np.asarray(part.astype(dtype))) for part in parts]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"The adapter's change of {name} is not of finite numbers in {dtype}.")
    if down.ndim == 4:
        arrays[1] = arrays[1][:, :, None, None]
    return Numbers(arrays[0], arrays[1], layer.rank if fold else layer.alpha, arrays[2] if arrays[2:] else None)


def _header(adapter: Adapter, layers: Mapping[str, Numbers]) -> dict[str, str]:
    """The header of a file: what sd-scripts write of ranks, our own facts, what the adapter came with."""
    header = {"format": "pt", "ss_network_module": "networks.lora"}
    header |= {OURS + key if key in FACTS else key: value for key, value in adapter.metadata.items()}
    header["ss_network_dim"] = str(_most([len(layer.down) for layer in layers.values()]))
    header["ss_network_alpha"] = str(_most([layer.alpha for layer in layers.values()]))
    return header


def _kohya(adapter: Adapter, layers: Mapping[str, Numbers]) -> dict[str, Any]:
    xl = any(path.startswith("text_encoder_2.") for path in layers) or "xl" in adapter.metadata.get(VERSION, "")
    tensors = {}
    for path, layer in layers.items():
        key = path if "." not in path else kohya_keys(path)[0 if xl else -1]
        tensors[f"{key}.lora_down.weight"] = layer.down
        tensors[f"{key}.lora_up.weight"] = layer.up
        tensors[f"{key}.alpha"] = np.array(layer.alpha, np.float32)
        if layer.dora_scale is not None:
            tensors[f"{key}.dora_scale"] = layer.dora_scale.reshape(-1, *[1] * (layer.down.ndim - 1))
    return tensors


def _diffusers(layers: Mapping[str, Numbers]) -> dict[str, Any]:
    return {f"{path}.{name}": array for path, layer in layers.items() for name, array in _as_peft(layer)}


def _as_peft(layer: Numbers) -> Iterator[tuple[str, Any]]:
    yield "lora_A.weight", layer.down
    yield "lora_B.weight", layer.up
    if layer.dora_scale is not None:
        conv = layer.down.ndim == 4
        yield "lora_magnitude_vector", layer.dora_scale.reshape(1, -1, 1, 1) if conv else layer.dora_scale


def _write_peft(adapter: Adapter, layers: Mapping[str, Numbers], folder: Path) -> None:
    for component in COMPONENTS:
        start = f"{component}."
        own = {path.removeprefix(start): layer for path, layer in layers.items() if path.startswith(start)}
        if component == "text_encoder":
            # As transformers names the layers of a CLIPTextModel since 5.6; those of the other one keep their names.
            own = {path.removeprefix("text_model."): layer for path, layer in own.items()}
        if not own:
            continue
        rank, alpha = (
            _most(values) for values in zip(*((len(one.down), one.alpha) for one in own.values()), strict=True)
        )
        doras = {layer.dora_scale is not None for layer in own.values()}
        if len(doras) > 1:
            raise UserError(f"{adapter.name} is a DoRA in part, which PEFT's files cannot say: save it as kohya's.")
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": adapter.metadata.get("base_model"),
            "r": rank,
            "lora_alpha": _plain(alpha),
            "target_modules": list(own),
            "rank_pattern": {path: len(layer.down) for path, layer in own.items() if len(layer.down) != rank},
            "alpha_pattern": {path: _plain(layer.alpha) for path, layer in own.items() if layer.alpha != alpha},
            "use_dora": doras == {True},
            "inference_mode": True,
        }
        (folder / component).mkdir(parents=True)
        (folder / component / PEFT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tensors = {
            f"{PEFT_PREFIX}{path}.{name}": array for path, layer in own.items() for name, array in _as_peft(layer)
        }
        (folder / component / PEFT_WEIGHTS).write_bytes(save(tensors, _header(adapter, own)))


def _most(values: Sequence[Any]) -> Any:
    """The most frequent."""
    return Counter(values).most_common(1)[0][0]


def _plain(number: float) -> float:
    """A whole number without a point, which PEFT expects of an alpha."""
    return int(number) if number == int(number) else number
