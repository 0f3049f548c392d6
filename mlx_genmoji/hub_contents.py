"""What the weight files of a repository on the hub are, and the sentence about one that holds no model.

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
from .checkpoint.weight_files import PICKLES, header_of
from .errors import UserError
from .hub_repository import INDEX, Repository, endpoint_url

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
        try:
            header = header_of(local) if local.is_file() else remote_header(repository, commit, name)
        except (UserError, ValueError):
            yield WeightFile(name, "a damaged file")
        else:
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
