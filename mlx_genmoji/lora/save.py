"""Adapters written to files, in any of the formats that `files` reads."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import mlx.core as mx
import numpy as np
from safetensors.numpy import save

from ..errors import UserError
from ..files import whole_folder, write_bytes
from .adapter import Adapter, Layer
from .adapter_folder import PEFT_CONFIG, PEFT_WEIGHTS
from .files import OWN_PREFIX, PEFT_PREFIX, peft_folders
from .key_formats import kohya_keys
from .layer_tree import COMPONENTS

Format = Literal["kohya", "diffusers", "peft"]

# sd-scripts' header field for the family of the base model.
VERSION = "ss_base_model_version"

# This project's own metadata, which gets OWN_PREFIX in a header.
OWN_FIELDS = (
    *("base_model", "base_sha256", "base_bits", "skin_tone", "person_type", "template"),
    *("init", "dataset_sha256", "step", "seed"),
)


def save_adapter(adapter: Adapter, path: str | Path, format: Format = "kohya", dtype: mx.Dtype = mx.float16) -> None:
    """Write an adapter, whole or not at all: one file, or for PEFT a folder. dtype: float16 or float32.

    diffusers' format has no alpha, so alpha / rank is multiplied into the up matrix. Raises UserError if a number is
    not finite in this dtype, if a change is no pair of matrices, or if the layers have kohya's names and another format
    needs paths: call `Adapter.resolve` first.
    """
    path = Path(path)
    folds_alpha = format == "diffusers"
    low_rank = adapter.low_rank_only("writing an adapter file")
    layers = {name: _file_tensors(name, layer, dtype, folds_alpha) for name, layer in low_rank.items()}
    if format != "kohya" and any("." not in name for name in layers):
        raise UserError(
            f"{adapter.name} names layers as kohya does: writing it in another format needs the model that it is for."
        )
    if format == "peft":
        if path.exists() and not peft_folders(path):
            raise UserError(f"{path} exists and is not an adapter's folder: choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path) as partial:
            _write_peft(adapter, layers, partial)
            if path.exists():
                shutil.rmtree(path)
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file.")
    tensors = _kohya(adapter, layers) if format == "kohya" else _diffusers(layers)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, _header(adapter, layers)))


class FileTensors(NamedTuple):
    """A layer as files hold it: channels first, in the file's dtype."""

    down: np.ndarray[Any, Any]
    up: np.ndarray[Any, Any]
    alpha: float
    dora_scale: np.ndarray[Any, Any] | None


def _file_tensors(name: str, layer: Layer, dtype: mx.Dtype, folds_alpha: bool) -> FileTensors:
    """folds_alpha: multiply alpha / rank into the up matrix. Raises UserError if a number is not finite in `dtype`."""
    up = layer.up.astype(mx.float32) * layer.scale if folds_alpha and layer.scale != 1 else layer.up
    down = layer.down.transpose(0, 3, 1, 2) if layer.down.ndim == 4 else layer.down
    parts = [down, up] if layer.dora_scale is None else [down, up, layer.dora_scale]
    arrays = [np.ascontiguousarray(np.asarray(part.astype(dtype))) for part in parts]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"The adapter's weights for {name} are not finite numbers in {dtype}.")
    if down.ndim == 4:
        arrays[1] = arrays[1][:, :, None, None]
    return FileTensors(
        arrays[0], arrays[1], layer.rank if folds_alpha else layer.alpha, arrays[2] if arrays[2:] else None
    )


def _header(adapter: Adapter, layers: Mapping[str, FileTensors]) -> dict[str, str]:
    """A file's header: sd-scripts' fields for rank and alpha, and the adapter's metadata."""
    header = {"format": "pt", "ss_network_module": "networks.lora"}
    header |= {OWN_PREFIX + key if key in OWN_FIELDS else key: value for key, value in adapter.metadata.items()}
    header["ss_network_dim"] = str(_most_common([len(layer.down) for layer in layers.values()]))
    header["ss_network_alpha"] = str(_most_common([layer.alpha for layer in layers.values()]))
    return header


def _kohya(adapter: Adapter, layers: Mapping[str, FileTensors]) -> dict[str, Any]:
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


def _diffusers(layers: Mapping[str, FileTensors]) -> dict[str, Any]:
    return {f"{path}.{name}": array for path, layer in layers.items() for name, array in _as_peft(layer)}


def _as_peft(layer: FileTensors) -> Iterator[tuple[str, Any]]:
    """The tensors of a layer, each with PEFT's end of its key."""
    yield "lora_A.weight", layer.down
    yield "lora_B.weight", layer.up
    if layer.dora_scale is not None:
        conv = layer.down.ndim == 4
        yield "lora_magnitude_vector", layer.dora_scale.reshape(1, -1, 1, 1) if conv else layer.dora_scale


def _write_peft(adapter: Adapter, layers: Mapping[str, FileTensors], folder: Path) -> None:
    """Write a folder with a subfolder for each component that the adapter changes."""
    for component in COMPONENTS:
        start = f"{component}."
        local = {path.removeprefix(start): layer for path, layer in layers.items() if path.startswith(start)}
        if component == "text_encoder":
            # transformers names the layers of a CLIPTextModel so since 5.6; those of the second encoder as before.
            local = {path.removeprefix("text_model."): layer for path, layer in local.items()}
        if not local:
            continue
        (folder / component).mkdir(parents=True)
        config = json.dumps(_peft_config(adapter, local), indent=2) + "\n"
        (folder / component / PEFT_CONFIG).write_text(config, encoding="utf-8")
        tensors = {
            f"{PEFT_PREFIX}{path}.{name}": array for path, layer in local.items() for name, array in _as_peft(layer)
        }
        (folder / component / PEFT_WEIGHTS).write_bytes(save(tensors, _header(adapter, local)))


def _peft_config(adapter: Adapter, layers: Mapping[str, FileTensors]) -> dict[str, Any]:
    """PEFT's `adapter_config.json` for the layers of one component. Raises UserError if only some are DoRA."""
    rank = _most_common([len(layer.down) for layer in layers.values()])
    alpha = _most_common([layer.alpha for layer in layers.values()])
    uses_dora = {layer.dora_scale is not None for layer in layers.values()}
    if len(uses_dora) > 1:
        raise UserError(f"{adapter.name} is a DoRA in some layers only, which PEFT's format cannot hold: use kohya's.")
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": adapter.metadata.get("base_model"),
        "r": rank,
        "lora_alpha": _integer_if_whole(alpha),
        "target_modules": list(layers),
        "rank_pattern": {path: len(layer.down) for path, layer in layers.items() if len(layer.down) != rank},
        "alpha_pattern": {
            path: _integer_if_whole(layer.alpha) for path, layer in layers.items() if layer.alpha != alpha
        },
        "use_dora": uses_dora == {True},
        "inference_mode": True,
    }


def _most_common(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _integer_if_whole(number: float) -> float:
    """PEFT writes a whole alpha as an integer."""
    return int(number) if number == int(number) else number
