"""A repository of the Hugging Face hub: which of its files are needed to draw, and whether the hub's cache has them.

Needed are `model_index.json` and the files of `OPTIONAL`, and of each component that the index lists the configuration
and the weights in one precision. Only safetensors; pickles where they are allowed and there is nothing else. Files lie
in the hub's own cache, where other programs find them. `HF_HOME` and `HF_HUB_CACHE` are read at each call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from .checkpoint.weight_files import HALF_PRECISION, PICKLE_WAY, PICKLES, STEMS
from .errors import UserError, command_line, first_few
from .files import read_json

INDEX = "model_index.json"
OPTIONAL = ("genmoji.json", "words.tsv", "vocabulary.tsv", "outlines.tsv")

# The entries of a model_index.json that are read; the others (a safety checker is 1.2 GB) stay where they are.
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
WEIGHTLESS = ("tokenizer", "tokenizer_2", "scheduler")

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Repository:
    """A model on the hub at a revision (a branch, a tag or a commit), and its place in the hub's cache."""

    id: str
    revision: str
    allow_pickle: bool = False
    component: bool = False
    """Whether it may hold one component (`config.json` and weights at its top) in place of a model."""

    @property
    def folder(self) -> Path:
        return cache_folder() / f"models--{self.id.replace('/', '--')}"

    def cached(self, half: bool) -> Path | None:
        """The snapshot on this machine, if it holds all that is needed."""
        snapshot = self._snapshot()
        if snapshot is None:
            return None
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        try:
            needed = self.needed(names, read_json(snapshot / INDEX) if INDEX in names else {}, half)
            indices = [name for name in needed if name.endswith(".json") and ".index" in name]
            listed = [path for name in indices for path in _shards(snapshot / name)]
        except (AttributeError, KeyError, OSError, TypeError, UserError, ValueError):
            return None
        return snapshot if all(path.is_file() for path in listed) else None

    def _snapshot(self) -> Path | None:
        """The folder of the revision's commit in the cache, if the cache knows it."""
        commit = self.revision
        if not COMMIT.fullmatch(commit):
            try:
                commit = (self.folder / "refs" / self.revision).read_text().strip()
            except OSError:
                return None
        return self.folder / "snapshots" / commit

    def needed(self, names: Iterable[str], index: Mapping[str, Any], half: bool) -> list[str]:
        """Of its file names, those that are needed. index: its `model_index.json`, empty where it has none.

        Raises UserError where a component has no weights that may be read.
        """
        names = set(names)
        if self.component:
            top = {name for name in names if "/" not in name} if INDEX not in names else set()
            if "config.json" in top:
                return ["config.json", *_weights(self.id, "it", sorted(top), half, self.allow_pickle)]
            inside = sorted(name.removeprefix("vae/") for name in names if name.startswith("vae/"))
            chosen = ["config.json", *_weights(self.id, "vae", inside, half, self.allow_pickle)]
            return [f"vae/{name}" for name in chosen]
        if INDEX not in names:
            raise KeyError(INDEX)
        return needed_files(self.id, names, index, half, self.allow_pickle)

    def chosen_files(self, names: Iterable[str]) -> list[str]:
        """Of a repository without a model's index, the files to fetch. Raises UserError where it is not clear which."""
        raise NotImplementedError

    @property
    def command(self) -> str:
        """The command that fetches it: the user's own where there is one."""
        option = "--vae" if self.component else "--model"
        example = ("generate", "flying pig", option, str(self), *(["--allow-pickle"] if self.allow_pickle else []))
        return command_line(*example)

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


@dataclass(frozen=True)
class AdapterRepository(Repository):
    """An adapter on the hub."""

    file: str | None = None
    """The file or folder that the user named."""

    def chosen_files(self, names: Iterable[str]) -> list[str]:
        """The adapter's files. Raises UserError if there is not one adapter."""
        from .lora.adapter_folder import needed_files as files

        inside = [name for name in names if ".." not in name and not name.startswith("/")]
        return files(inside, self.file, str(self), self.allow_pickle)

    def cached(self, half: bool = False) -> Path | None:
        """The snapshot on this machine, if it holds the adapter."""
        snapshot = self._snapshot()
        if snapshot is None or not snapshot.is_dir():
            return None
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        try:
            self.chosen_files(names)
        except UserError:
            return None
        return snapshot

    @property
    def command(self) -> str:
        return command_line("generate", "flying pig", "--adapter", f"{self}{f'/{self.file}' if self.file else ''}")


@dataclass(frozen=True)
class FileRepository(Repository):
    """One file of a repository on the hub, such as a checkpoint to convert."""

    file: str = ""

    def chosen_files(self, names: Iterable[str]) -> list[str]:
        """The file, and the `.yaml` beside it that says what a checkpoint is. Raises UserError if there is none."""
        names = list(names)
        if self.file not in names:
            others = [name for name in sorted(names) if name.endswith((".safetensors", *PICKLES))]
            listed = f", but {first_few(others, 12)}" if others else ""
            raise UserError(f"{self} has no {self.file}{listed}.")
        config = f"{self.file.rpartition('.')[0]}.yaml"
        return [name for name in (config, self.file) if name in names]

    def cached(self, half: bool = False) -> Path | None:
        """The file on this machine, if it is here."""
        snapshot = self._snapshot()
        return None if snapshot is None or not (snapshot / self.file).is_file() else snapshot / self.file

    @property
    def command(self) -> str:
        return command_line("convert", f"{self}/{self.file}", "-o", "FOLDER")


def needed_files(
    repository: str, names: Iterable[str], index: Mapping[str, Any], half: bool, allow_pickle: bool = False
) -> list[str]:
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
            chosen = ["config.json", *_weights(repository, component, bare, half, allow_pickle)]
        needed += [f"{component}/{name}" for name in chosen]
    absent = [name for name in needed if name not in names]
    if absent:
        raise UserError(f"{repository} is not whole: it has no {absent[0]}.")
    return needed


def _weights(repository: str, component: str, names: list[str], half: bool, allow_pickle: bool = False) -> list[str]:
    """The files of one precision, the index of those in several pieces included."""
    for ending in ("safetensors", "bin") if allow_pickle else ("safetensors",):
        stems = STEMS if ending == "safetensors" else (*STEMS, "pytorch_model")
        precisions: dict[str, list[str]] = {}
        for name in names:
            stem, *parts = re.sub(r"-\d+-of-\d+", "", name).split(".")
            precision = [part for part in parts if part in HALF_PRECISION]
            kind = [part for part in parts if part not in HALF_PRECISION]
            if stem in stems and len(precision) <= 1 and kind in ([ending], [ending, "index", "json"]):
                precisions.setdefault("".join(precision), []).append(name)
        for wanted in (*HALF_PRECISION, "") if half else ("", *HALF_PRECISION):
            files = precisions.get(wanted, [])
            whole = [name for name in files if name.endswith(f".{ending}") and "-of-" not in name]
            if whole or any(name.endswith(f".{ending}") for name in files):
                return whole or files
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    why = f"only {pickles[0]}, a pickle, which can run any code" if pickles else "no weights"
    way = f"; {PICKLE_WAY}" if pickles and not allow_pickle else ""
    raise UserError(f"{repository} has {why} in {component}: a model with .safetensors files is needed{way}.")


def _shards(index: Path) -> list[Path]:
    return [index.with_name(name) for name in set(read_json(index)["weight_map"].values())]


def id_and_commit(folder: Path) -> tuple[str, str | None]:
    """The hub id and the commit of a snapshot in the hub's cache; the name of another folder, and None.

    folder: resolved, without symbolic links.
    """
    if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name):
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/"), folder.name
    return folder.name, None


def cache_folder() -> Path:
    """The cache of the Hugging Face hub, where its own tools keep it."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    return Path(home).expanduser() / "hub" if home else Path(constants.HF_HUB_CACHE)


def endpoint_url() -> str:
    """The address of the hub: `$HF_ENDPOINT`, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
