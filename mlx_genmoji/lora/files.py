"""Adapter files, read in three formats. `key_formats` has their keys, `layer_parts` their tensors; `save` writes them.

kohya       one `.safetensors`, for ComfyUI, A1111, Draw Things, diffusers; LyCORIS and OneTrainer write likewise
diffusers   one `.safetensors`
PEFT        a folder with a subfolder for each component: `unet/adapter_config.json`, `unet/adapter_model.safetensors`
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from ..checkpoint.weight_files import PICKLES
from ..errors import UserError, first_few, quoted
from ..files import read_json
from ..hub import locate_adapter
from ..textual_inversion import ALIAS, Learned, LearnedToken, bundled, joined, read_tokens
from .adapter import Adapter, Layer
from .adapter_folder import PEFT_CONFIG, PEFT_WEIGHTS, AdapterFiles, choose
from .card import Card, read_card
from .key_formats import read_key, unsupported
from .layer_parts import PeftLayer, read_layer
from .layer_tree import COMPONENTS
from .other_files import what_it_is
from .tensor_files import read_tensors
from .whole import WholeChange

PEFT_PREFIX = "base_model.model."

DIFFUSERS_CONFIG = "lora_adapter_metadata"

# The prefix of this project's own header fields in files.
OWN_PREFIX = "genmoji."


class Source(NamedTuple):
    """One file of an adapter's weights."""

    path: Path
    prefix: str = ""
    """The component of its keys, if they do not say it: "unet." for the file in that folder."""
    config: Mapping[str, Any] = {}
    """PEFT's `adapter_config.json`; empty in other formats."""
    initial: Path | None = None
    """The adapter's weights before training, which PEFT's documentation has users of PiSSA save."""


def load_adapter(adapter: str | Path, allow_pickle: bool = False) -> Adapter:
    """Read an adapter: a file, a folder, or owner/name[@revision][/file] on the Hugging Face hub.

    A folder is used whole: the embeddings beside the adapter, and what its README.md says. Raises UserError if it is
    damaged, is no adapter, holds several, or is a pickle without `allow_pickle`.
    """
    place = locate_adapter(adapter, allow_pickle)
    if place.path.is_file():
        chosen, folder = AdapterFiles((place.path.name,), ()), place.path.parent
    else:
        folder = place.path
        _check_peft_folders(folder)
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        chosen = choose(names, place.file, place.name if place.hub else str(folder), allow_pickle)
    digest = hashlib.sha256()
    layers: dict[str, Layer] = {}
    whole: dict[str, WholeChange] = {}
    tokens: list[LearnedToken] = []
    metadata: dict[str, str] = {}
    for name in (*chosen.weights, *chosen.embeddings):
        path = folder / name
        tensors, header = read_tensors(path, allow_pickle)
        digest.update(path.read_bytes())
        tensors, in_bundle = bundled(tensors)
        embeddings = read_tokens(tensors, path, in_rows=bool(chosen.weights) and name in chosen.embeddings)
        tokens += [*in_bundle, *(embeddings or ())]
        if name in chosen.embeddings and embeddings is None:
            raise UserError(f"{path} {what_it_is(tensors, path)}, and not the embeddings that its name promises.")
        if tensors and embeddings is None:
            source = _source(folder, name)
            if source.config:
                digest.update(json.dumps(source.config, sort_keys=True).encode())
            configs = {"": source.config} if source.config else _diffusers_configs(header)
            pairs, others = _read_layers(tensors, source, configs)
            layers, whole = layers | pairs, whole | others
        elif not tensors and not in_bundle:
            raise UserError(f"{path} holds no adapter: it has no tensors.")
        metadata |= {key.removeprefix(OWN_PREFIX): value for key, value in header.items() if key != DIFFUSERS_CONFIG}
    metadata.pop("format", None)
    card = read_card(None if place.path.is_file() else folder, metadata)
    learned = Learned(joined(tokens), _aliases(card, tokens))
    return Adapter(layers, metadata, place.name, digest.hexdigest(), whole, learned, card)


def peft_folders(path: Path) -> list[Path]:
    """The folders that PEFT wrote: `path` itself, or one for each component in it."""
    return [folder for folder in (path, *(path / name for name in COMPONENTS)) if (folder / PEFT_CONFIG).is_file()]


def _aliases(card: Card, tokens: Sequence[LearnedToken]) -> Mapping[str, str]:
    """The words that stand for tokens: those that the card lists, or TOK for all of a trainer's numbered ones."""
    numbered = [token.name for token in tokens if re.fullmatch(r"<s\d+>", token.name)]
    return card.aliases or ({ALIAS: "".join(dict.fromkeys(numbered))} if numbered else {})


def _check_peft_folders(path: Path) -> None:
    """Raise UserError if a folder of PEFT's lacks its weights, or has them as a pickle only."""
    if not path.exists():
        raise UserError(f"There is no adapter {path}.")
    for folder in peft_folders(path):
        if not (folder / PEFT_WEIGHTS).is_file():
            pickled = next((file.name for file in folder.iterdir() if file.suffix in PICKLES), None)
            why = f", only {pickled}, a pickle, which can run any code" if pickled else ""
            raise UserError(f"{folder} holds no {PEFT_WEIGHTS}{why}.")


def _source(folder: Path, name: str) -> Source:
    """The file `name` of an adapter's folder, with PEFT's config beside it."""
    path = folder / name
    config = path.with_name(PEFT_CONFIG)
    if path.name != PEFT_WEIGHTS or not config.is_file():
        return Source(path)
    component = path.parent.name if "/" in name and path.parent.name in COMPONENTS else ""
    # The weights before training lie in a folder such as `pissa_init`.
    initial = next((file for file in sorted(path.parent.glob(f"*init*/{PEFT_WEIGHTS}")) if file.is_file()), None)
    return Source(path, f"{component}." if component else "", read_json(config), initial)


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
