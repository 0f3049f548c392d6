"""Hub: the folder of a model, which is on this machine or is fetched from the Hugging Face hub.

Of a repository, only what is needed to draw comes over: `model_index.json`, of each component it lists the
configuration and the weights in one precision, `genmoji.json` and `words.tsv`. Only safetensors, never pickles. Files
lie in the hub's own cache, where other programs find them; what was fetched whole is used from then on without asking
the network, so that the same name stays the same model. A file that was cut off goes on where it stopped.

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

# The entries of a model_index.json that are read; the others (a safety checker is 1.2 GB) stay where they are.
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
WEIGHTLESS = ("tokenizer", "tokenizer_2", "scheduler")

BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_NAME = "builtin"
"""The model that ships with the package, wherever a model is named; a folder of that name is `./builtin`."""

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
    """The folder of a model, as `resolve` finds it (None is the built-in one), and its name for recipes."""
    if model is None or str(model) == BUILTIN_NAME:
        return Located(BUILTIN, BUILTIN_NAME, None)
    folder = resolve(model, revision)
    if folder.is_file():
        raise UserError(
            f"{model} is one file, not a folder; make a folder of it with: genmoji convert {model} -o FOLDER"
        )
    place = folder.resolve()
    if place.parent.name == "snapshots" and COMMIT.fullmatch(place.name):
        owner_and_name = place.parent.parent.name.removeprefix("models--").replace("--", "/")
        return Located(folder, owner_and_name, place.name)
    return Located(folder, place.name, None)


def resolve(model: str | Path, revision: str | None = None, *, half: bool | None = None) -> Path:
    """The folder of `model`: the built-in one's for "builtin", itself if it exists, else the snapshot of a hub id
    `owner/name` or `owner/name@revision`.

    half: whether weights in half precision are preferred; None is as the device works fastest. The snapshot's folder is
    named by the commit. Raises UserError where there is no such model, it may not be read without logging in, it holds
    no safetensors, or it is not on this machine and cannot be fetched.
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
    # What is on this machine needs no network, and none of this.
    from .hub_fetch import fetch

    return fetch(repository, half)


def _prefers_half() -> bool:
    # MLX takes a while to import, and only this needs it.
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
        """The snapshot on this machine, if it holds all that is needed."""
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
            listed = [path for name in needed if ".safetensors.index" in name for path in _shards(snapshot / name)]
        except (AttributeError, KeyError, OSError, TypeError, UserError, ValueError):
            return None
        return snapshot if all(path.is_file() for path in listed) else None

    @property
    def command(self) -> str:
        """The command that fetches it."""
        return f'genmoji generate "flying pig" --model {self}'

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


def needed_files(repository: str, names: Iterable[str], index: Mapping[str, Any], half: bool) -> list[str]:
    """Of a repository's file names, those that are needed to draw with it, given its `model_index.json`.

    Raises UserError where a component has no safetensors.
    """
    names = set(names)
    needed = [name for name in (INDEX, *OPTIONAL) if name in names]
    for component in (*WEIGHTED, *WEIGHTLESS):
        entry = index.get(component)
        if not (isinstance(entry, list) and all(entry)):
            continue
        inside = [name for name in names if name.rpartition("/")[0] == component]
        bare = [name.rpartition("/")[2] for name in inside]
        if component in WEIGHTLESS:
            chosen = [name for name in bare if name.endswith((".json", ".txt"))]
        else:
            chosen = ["config.json", *_weights(repository, component, bare, half)]
        needed += [f"{component}/{name}" for name in chosen]
    absent = [name for name in needed if name not in names]
    if absent:
        raise UserError(f"{repository} is not whole: it has no {absent[0]}.")
    return needed


def _weights(repository: str, component: str, names: list[str], half: bool) -> list[str]:
    """The files of one precision, the index of those in several pieces included."""
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
    """The cache of the Hugging Face hub, where its own tools keep it."""
    from huggingface_hub import constants

    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    return Path(home).expanduser() / "hub" if home else Path(constants.HF_HUB_CACHE)
