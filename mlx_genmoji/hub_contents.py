"""What a repository on the hub holds, and the commands that use it: for `genmoji models info` and for errors.

A weight file is known by the names of its tensors, which stand in its first bytes: only those are fetched.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint.file_kinds import kind_of
from .checkpoint.weight_files import HALF_PRECISION, PICKLES
from .errors import UserError
from .hub_repository import INDEX, AdapterRepository, Repository, endpoint_url

BASES = {"sd": "stable-diffusion-v1-5/stable-diffusion-v1-5", "xl": "stabilityai/stable-diffusion-xl-base-1.0"}
"""The base to suggest for an adapter whose card names none, by its family."""

MAX_HEADER = 64 * 2**20
MAX_FILES = 12
"""How many files are looked into."""

# A layer of XL's UNet or second text encoder that those of Stable Diffusion 1 and 2 do not have.
_XL_KEYS = ("text_encoder_2", "lora_te2_", "transformer_blocks_9", "transformer_blocks.9")


@dataclass(frozen=True)
class WeightFile:
    """A file of weights at the top of a repository."""

    name: str
    kind: str
    """ "adapter", "checkpoint", "pickle", or a sentence about something else."""
    family: str = "sd"
    """A key of `BASES`."""
    header: Mapping[str, str] | None = None
    """The metadata of its header."""


def no_model(repository: Repository, commit: str, names: Sequence[str]) -> str:
    """The sentence about a repository that is no model's folder: what else it is, and the command that uses it."""
    place, info = str(repository), f"genmoji models info {repository}"
    files = list(weight_files(repository, commit, names))
    adapters = [file for file in files if file.kind == "adapter"]
    if adapters:
        base = BASES[adapters[0].family]
        name = place if len(adapters) == 1 else f"{place}/{adapters[0].name}"
        more = "" if len(adapters) == 1 else f" ({len(adapters)} of them: {info})"
        return (
            f"{place} is no model but an adapter{more}: draw with a base and"
            f' it, genmoji generate "flying pig" --model {base} --adapter {name}'
        )
    checkpoints = [file for file in files if file.kind == "checkpoint"]
    if checkpoints:
        name = f"{place}/{checkpoints[0].name}"
        more = "" if len(checkpoints) == 1 else f" ({info} lists all {len(checkpoints)})"
        return f"{place} has no {INDEX} but a checkpoint in one file{more}: genmoji convert {name} -o FOLDER"
    pickles = [file for file in files if file.kind == "pickle"]
    if pickles:
        command = f"genmoji convert {place}/{pickles[0].name} --allow-pickle -o FOLDER"
        return f"{place} has no {INDEX} but a pickle, which may be a checkpoint: {command}"
    known = next((f" {file.name} is {file.kind}." for file in files), "")
    return f"{place} is not a diffusers model: it has no {INDEX}.{known}"


def weight_files(repository: Repository, commit: str, names: Iterable[str]) -> Iterator[WeightFile]:
    """The first files of weights at the top of a repository, each with what it is by its tensors' names."""
    top = sorted(name for name in names if "/" not in name)
    safe = [name for name in top if name.endswith(".safetensors")]
    for name in safe[:MAX_FILES]:
        local = repository.folder / "snapshots" / commit / name
        header = _local_header(local) if local.is_file() else remote_header(repository, commit, name)
        yield _weight_file(name, header)
    for name in top:
        if name.endswith(PICKLES) and not (name.startswith("embeddings.") or f"{Path(name).stem}.safetensors" in safe):
            yield WeightFile(name, "pickle")


def _weight_file(name: str, header: Mapping[str, Any]) -> WeightFile:
    """What a safetensors file is."""
    metadata = header.get("__metadata__")
    texts = {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    keys = [key for key in header if key != "__metadata__"]
    family = "xl" if any(mark in key for mark in _XL_KEYS for key in keys) else "sd"
    kind = kind_of(keys)
    if kind is None and not any(key.startswith(("model.", "input_blocks.", "down_blocks.")) for key in keys):
        kind_name = "adapter" if any("lora" in key.lower() for key in keys) else "a file of unknown weights"
    elif kind is None:
        kind_name = "checkpoint"
    else:
        kind_name = "adapter" if "--adapter" in kind.advice else str(kind)
    return WeightFile(name, kind_name, family, texts)


def _local_header(path: Path) -> dict[str, Any]:
    from .checkpoint.weight_files import header_of

    return header_of(path)


def remote_header(repository: Repository, commit: str, name: str) -> dict[str, Any]:
    """The header of a safetensors file on the hub, as `weight_files.header_of` gives it. Fetches nothing else.

    Raises ValueError for a damaged file and HTTPError where the hub cannot be reached (`hub_fetch.hub_errors`).
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(repository.id, name, revision=commit, endpoint=endpoint_url())
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    received = bytearray()
    # The connection is closed once the header is there.
    with get_session().stream("GET", url, headers=headers, timeout=30) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        for chunk in response.iter_bytes(2**16):
            received += chunk
            if len(received) >= 8 and len(received) >= 8 + min(_length(received), MAX_HEADER):
                break
    if len(received) < 8 or len(received) < 8 + _length(received):
        raise ValueError(f"{name} is cut off")
    header = json.loads(received[8 : 8 + _length(received)])
    if not isinstance(header, dict):
        raise ValueError(f"{name} has no header")
    return header


def _length(received: bytes | bytearray) -> int:
    return int(struct.unpack("<Q", received[:8])[0])


def describe(repository: Repository) -> Iterator[str]:
    """Sentences about what a repository holds, and the commands to type. Raises UserError like `hub.resolve`."""
    from .hub_fetch import contents, hub_errors

    found = contents(repository)
    if found is None:
        yield from _cached(repository)
        return
    snapshot = repository.folder / "snapshots" / found.commit
    licence = f", licence {found.license}" if found.license else ""
    if INDEX in found.names:
        yield from _model(repository, snapshot, found.names, found.sizes, licence)
        return
    with hub_errors(repository):
        files = list(weight_files(repository, found.commit, found.names))
    if not files:
        yield f"{repository} holds no weights that can be used{licence}."
    for file in files:
        yield from _file(repository, snapshot, file, found.sizes.get(file.name), licence, len(files) == 1)


def _cached(repository: Repository) -> Iterator[str]:
    """Sentences about what the cache has of a repository, for a machine that may not ask the hub."""
    for half in (True, False):
        if repository.cached(half) is not None:
            yield f"{repository} is a model on this machine. The hub may not be asked (HF_HUB_OFFLINE)."
            yield f'  genmoji generate "flying pig" --model {repository}'
            return
    adapter = AdapterRepository(repository.id, repository.revision)
    if adapter.cached() is not None:
        yield f"{repository} is an adapter on this machine. The hub may not be asked (HF_HUB_OFFLINE)."
        yield f'  genmoji generate "flying pig" --model BASE --adapter {repository}'
        return
    raise UserError(f"{repository} is not on this machine, and HF_HUB_OFFLINE forbids asking the hub about it.")


def _model(
    repository: Repository, snapshot: Path, names: Sequence[str], sizes: Mapping[str, int | None], licence: str
) -> Iterator[str]:
    """Sentences about a repository that holds a diffusers model."""
    from .families import PIPELINES
    from .files import read_json

    index = read_json(snapshot / INDEX)
    pipeline = index.get("_class_name")
    if pipeline not in PIPELINES:
        yield f"{repository} is a {pipeline}{licence}. It is not supported; supported are {', '.join(PIPELINES)}."
        return
    option = ""
    try:
        needed = repository.needed(names, index, half=True)
    except UserError as error:
        allowed = Repository(repository.id, repository.revision, allow_pickle=True)
        needed, option = allowed.needed(names, index, half=True), " --allow-pickle"
        yield str(error)
    size = sum(sizes.get(name) or 0 for name in needed)
    halves = any(part in HALF_PRECISION for name in needed for part in name.split("."))
    precision = ", half precision" if halves else ""
    yield f"{repository} is a model, {pipeline}{licence}; {_megabytes(size)} to download{precision}."
    yield f'  genmoji generate "flying pig" --model {repository}{option}'


def _file(
    repository: Repository, snapshot: Path, file: WeightFile, size: int | None, licence: str, alone: bool
) -> Iterator[str]:
    """Sentences about one file of weights."""
    name, bytes_text = f"{repository}/{file.name}", f", {_megabytes(size)}" if size else ""
    if file.kind == "checkpoint":
        yield f"{file.name}: a checkpoint in one file{bytes_text}{licence}."
        yield f"  genmoji convert {name} -o FOLDER"
    elif file.kind == "pickle":
        yield f"{file.name}: a pickle{bytes_text}{licence}; one of these commands reads it without running code."
        yield f"  genmoji convert {name} --allow-pickle -o FOLDER"
        yield f'  genmoji generate "flying pig" --model BASE --adapter {name} --allow-pickle'
    elif file.kind == "adapter":
        from .lora.card import read_card

        card = read_card(snapshot, file.header or {})
        facts = (("trigger", card.trigger and f'"{card.trigger}"'), ("weight", card.weight and f"{card.weight:g}"))
        stated = "".join(f", {what} {value}" for what, value in facts if value)
        base = card.base_model or BASES[file.family]
        yield f"{file.name}: an adapter{bytes_text}{licence}{stated}."
        yield f'  genmoji generate "flying pig" --model {base} --adapter {repository if alone else name}'
    else:
        yield f"{file.name}: {file.kind}{bytes_text}{licence}."


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
