"""Finds the folder of a model: the built-in one, a folder on this machine, or a repository of the Hugging Face hub.

`hub_repository` says which files of a repository are needed and where the hub's cache has them, `hub_fetch` downloads
what is missing. A repository that was fetched whole is used from then on without asking the network, so that the same
name stays the same model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from .errors import UserError

BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_NAME = "builtin"
"""The model that ships with the package, wherever a model is named; a folder of that name is `./builtin`."""

REVISION = r"\w[\w./-]*"
ID = re.compile(rf"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>{REVISION}))?", re.ASCII)


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
    from .hub_repository import id_and_commit

    name, commit = id_and_commit(folder.resolve())
    return Located(folder, name, commit)


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
    # It imports the hub's client, which the models on this machine do not need.
    from .hub_repository import Repository

    repository = Repository(match["id"], revision)
    half = _prefers_half() if half is None else half
    if (snapshot := repository.cached(half)) is not None:
        return snapshot
    from .hub_fetch import fetch

    return fetch(repository, half)


def _prefers_half() -> bool:
    # MLX takes a while to import, and only this needs it.
    from .models.ops import on_cpu

    return not on_cpu()
