"""Finds the folder of a model: on this machine, or in the Hugging Face hub's cache, after a download if needed.

Only the files needed for drawing are downloaded: `model_index.json`, the config and the weights in one precision of
each component that it lists, `genmoji.json` and `words.tsv`. Weights are safetensors, never pickles. The files go to
the hub's own cache, which other programs share. A complete download is used from then on without the network, so a name
stays the same model. An interrupted download is resumed.

`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` are read at each call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .checkpoint.weight_files import HALF_PRECISION, PICKLES, STEMS
from .errors import UserError
from .files import read_json

INDEX = "model_index.json"
OPTIONAL = ("genmoji.json", "words.tsv")

# The components of a model_index.json that are downloaded, with and without weights. Others (a safety checker of
# 1.2 GB) are not.
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
WEIGHTLESS = ("tokenizer", "tokenizer_2", "scheduler")

BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_NAME = "builtin"
"""The name of the model that ships with the package, wherever a model is named. For a folder of that name write
`./builtin`."""

REVISION = r"\w[\w./-]*"
ID = re.compile(rf"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>{REVISION}))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


class Located(NamedTuple):
    """A model on this machine."""

    folder: Path
    name: str
    """For recipes: a hub id, "builtin", or the last part of the folder; never a path of this machine."""
    revision: str | None
    """The commit of a model from the hub."""


def locate(model: str | Path | None, revision: str | None = None) -> Located:
    """The folder of a model, found by `resolve` (None is the built-in model), and its name for recipes."""
    if model is None or str(model) == BUILTIN_NAME:
        return Located(BUILTIN, BUILTIN_NAME, None)
    folder = resolve(model, revision)
    if folder.is_file():
        raise UserError(
            f"{model} is one file, not a folder; convert it to a folder with: genmoji convert {model} -o FOLDER"
        )
    place = folder.resolve()
    if place.parent.name == "snapshots" and COMMIT.fullmatch(place.name):
        owner_and_name = place.parent.parent.name.removeprefix("models--").replace("--", "/")
        return Located(folder, owner_and_name, place.name)
    return Located(folder, place.name, None)


def resolve(model: str | Path, revision: str | None = None, *, half: bool | None = None) -> Path:
    """The folder of `model`: "builtin", an existing path, or a hub id `owner/name` or `owner/name@revision`.

    For a hub id it is the snapshot in the hub's cache, whose folder is named by the commit, downloaded if it is
    missing. half: whether to prefer weights in half precision; None prefers them on a GPU. Raises UserError if there is
    no such model, it needs a login, it has no safetensors, or it is missing and cannot be downloaded.
    """
    if str(model) == BUILTIN_NAME:
        return BUILTIN
    if Path(model).exists():
        return Path(model)
    match = ID.fullmatch(str(model))
    if match is None:
        raise UserError(f"There is no model folder {model}; a model on the Hugging Face hub is called owner/name.")
    revision = revision or match["revision"] or "main"
    if not re.fullmatch(REVISION, revision, re.ASCII) or ".." in revision:
        raise UserError(f"{revision!r} is not a branch, tag or commit of a model.")
    repository = Repository(match["id"], revision)
    half = _prefers_half() if half is None else half
    if (snapshot := repository.cached(half)) is not None:
        return snapshot
    # Imported only for a download.
    from .hub_fetch import fetch

    return fetch(repository, half)


def _prefers_half() -> bool:
    # Importing MLX takes a while, and nothing else here needs it.
    from .models.ops import on_cpu

    return not on_cpu()


@dataclass(frozen=True)
class Repository:
    """A model on the hub at a revision (a branch, a tag or a commit), and its place in the hub's cache."""

    id: str
    revision: str

    @property
    def folder(self) -> Path:
        return cache_folder() / f"models--{self.id.replace('/', '--')}"

    def cached(self, half: bool) -> Path | None:
        """The snapshot in the cache if it has all needed files, else None."""
        commit = self.revision
        if not COMMIT.fullmatch(commit):
            try:
                commit = (self.folder / "refs" / self.revision).read_text().strip()
            except OSError:
                return None
        snapshot = self.folder / "snapshots" / commit
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        try:
            needed = needed_files(self.id, names, read_json(snapshot / INDEX), half)
            shards = [path for name in needed if ".safetensors.index" in name for path in _shards(snapshot / name)]
        except (AttributeError, KeyError, OSError, TypeError, UserError, ValueError):
            return None
        return snapshot if all(path.is_file() for path in shards) else None

    @property
    def command(self) -> str:
        """A command that downloads it."""
        return f'genmoji generate "flying pig" --model {self}'

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


def needed_files(repository: str, names: Iterable[str], index: Mapping[str, Any], half: bool) -> list[str]:
    """The file names among `names`, a repository's, that drawing needs. index: its `model_index.json`.

    Raises UserError if a component has no safetensors or a needed file is missing.
    """
    names = set(names)
    needed = [name for name in (INDEX, *OPTIONAL) if name in names]
    for component in (*WEIGHTED, *WEIGHTLESS):
        entry = index.get(component)
        if not (isinstance(entry, list) and all(entry)):
            continue
        paths = [name for name in names if name.rpartition("/")[0] == component]
        file_names = [name.rpartition("/")[2] for name in paths]
        if component in WEIGHTLESS:
            chosen = [name for name in file_names if name.endswith((".json", ".txt"))]
        else:
            chosen = ["config.json", *_weights(repository, component, file_names, half)]
        needed += [f"{component}/{name}" for name in chosen]
    absent = [name for name in needed if name not in names]
    if absent:
        raise UserError(f"{repository} is incomplete: it has no {absent[0]}.")
    return needed


def _weights(repository: str, component: str, names: list[str], half: bool) -> list[str]:
    """The weight files of a component in one precision; if they are shards, with their index."""
    precisions: dict[str, list[str]] = {}
    for name in names:
        stem, *parts = re.sub(r"-\d+-of-\d+", "", name).split(".")
        precision = [part for part in parts if part in HALF_PRECISION]
        kind = [part for part in parts if part not in HALF_PRECISION]
        if stem in STEMS and len(precision) <= 1 and kind in (["safetensors"], ["safetensors", "index", "json"]):
            precisions.setdefault("".join(precision), []).append(name)
    for wanted in (*HALF_PRECISION, "") if half else ("", *HALF_PRECISION):
        files = precisions.get(wanted, [])
        whole = [name for name in files if name.endswith(".safetensors") and "-of-" not in name]
        if whole or any(name.endswith(".safetensors") for name in files):
            return whole or files
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    why = f"only {pickles[0]}, a pickle, which can run any code" if pickles else "no weights"
    raise UserError(f"{repository} has {why} in {component}: a model with .safetensors files is needed.")


def _shards(index: Path) -> list[Path]:
    return [index.with_name(name) for name in set(read_json(index)["weight_map"].values())]


def cache_folder() -> Path:
    """The cache folder that the Hugging Face hub's own tools use."""
    from huggingface_hub import constants

    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    return Path(home).expanduser() / "hub" if home else Path(constants.HF_HUB_CACHE)
