"""Adapter files, read in three formats. `key_formats` has their keys, `layer_parts` their tensors; `save` writes them.

kohya       one `.safetensors`, for ComfyUI, A1111, Draw Things, diffusers; LyCORIS and OneTrainer write likewise
diffusers   one `.safetensors`
PEFT        a folder with a subfolder for each component: `unet/adapter_config.json`, `unet/adapter_model.safetensors`
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from ..checkpoint.weight_files import PICKLES
from ..errors import UserError, first_few, quoted
from ..files import read_json
from .adapter import Adapter, Layer
from .key_formats import read_key, unsupported
from .layer_parts import PeftLayer, read_layer
from .layer_tree import COMPONENTS
from .other_files import what_it_is
from .tensor_files import read_tensors
from .whole import WholeChange

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
    initial: Path | None = None
    """The adapter's weights before training, which PEFT's documentation has users of PiSSA save."""


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter's file, or PEFT's folder. Raises UserError if it is damaged or not an adapter."""
    path = Path(path)
    sources = list(_sources(path))
    digest = hashlib.sha256()
    layers: dict[str, Layer] = {}
    whole: dict[str, WholeChange] = {}
    metadata: dict[str, str] = {}
    for source in sources:
        tensors, header = read_tensors(source.path)
        digest.update(source.path.read_bytes())
        if source.config:
            digest.update(json.dumps(source.config, sort_keys=True).encode())
        configs = {"": source.config} if source.config else _diffusers_configs(header)
        pairs, others = _read_layers(tensors, source, configs)
        layers, whole = layers | pairs, whole | others
        metadata |= {key.removeprefix(OWN_PREFIX): value for key, value in header.items() if key != DIFFUSERS_CONFIG}
    metadata.pop("format", None)
    return Adapter(layers, metadata, path.name, digest.hexdigest(), whole)


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
        yield Source(weights, prefix, read_json(folder / PEFT_CONFIG), _initial_weights(folder))


def _initial_weights(folder: Path) -> Path | None:
    """The weights before training: those in a folder such as `pissa_init` within PEFT's own."""
    return next((path for path in sorted(folder.glob(f"*init*/{PEFT_WEIGHTS}")) if path.is_file()), None)


def _read_layers(
    tensors: Mapping[str, mx.array], source: Source, configs: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Layer], dict[str, WholeChange]]:
    """The changes of the layers in one file, by their names: pairs of matrices, and all others.

    configs: PEFT's, by component; the key "" is for all components.
    """
    layers: dict[str, Layer] = {}
    whole: dict[str, WholeChange] = {}
    initial = {} if source.initial is None else _parts_by_layer(source.initial, read_tensors(source.initial)[0], source)
    for name, parts in _parts_by_layer(source.path, tensors, source).items():
        component, _, path = name.partition(".")
        config = configs.get(component, configs.get(""))
        peft = PeftLayer(config, path, initial.get(name, {})) if config else None
        pair, change = read_layer(source.path, name, parts, peft)
        layers |= {} if pair is None else {name: pair}
        whole |= {} if change is None else {name: change}
    return layers, whole


def _parts_by_layer(path: Path, tensors: Mapping[str, mx.array], source: Source) -> dict[str, dict[str, mx.array]]:
    """The tensors of one file by layer, then by the names of `key_formats.TENSORS`.

    Raises UserError if a key or dtype is not that of an adapter, or the file is empty.
    """
    layers: dict[str, dict[str, mx.array]] = {}
    names: set[str] = set()
    unknown = []
    component = source.prefix or ("text_encoder." if any(".self_attn." in key for key in tensors) else "unet.")
    for key, tensor in tensors.items():
        parsed = read_key(key, component if key.startswith(PEFT_PREFIX) else source.prefix)
        parts = layers.setdefault(parsed.path, {}) if parsed else {}
        # The alphas of some files are integers.
        number = mx.floating if parsed and parsed.tensor != "alpha" else mx.number
        if parsed is not None:
            names |= {parsed.adapter} - {""}
        if parsed is None or parsed.tensor in parts or not mx.issubdtype(tensor.dtype, number):
            unknown.append(key)
        else:
            parts[parsed.tensor] = tensor
    if len(names) > 1:
        raise UserError(f"{path} holds several adapters, {first_few(sorted(names))}: save each in a file of its own.")
    for key in unknown:
        if kind := unsupported(key):
            raise UserError(
                f"{path} holds {kind} ({quoted(key)}), which is not supported: LoRA, DoRA, LoHa, LoKr and whole"
                " differences are."
            )
    if unknown:
        raise UserError(f"{path} {what_it_is(tensors, path)}: {first_few([*map(quoted, unknown)])}.")
    if not layers:
        raise UserError(f"{path} holds no adapter: it has no tensors.")
    return layers


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
