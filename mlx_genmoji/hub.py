"""Finds the folder of a model: the built-in one, a folder on this machine, or a repository of the Hugging Face hub.

`hub_repository` says which files of a repository are needed and where the hub's cache has them, `hub_fetch` downloads
what is missing. A repository that was fetched whole is used from then on without asking the network, so that the same
name stays the same model.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .checkpoint.weight_files import PICKLE_WAY, PICKLES
from .errors import UserError

if TYPE_CHECKING:
    from .presets import Preset

BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_NAME = "builtin"
"""The name of the model that ships with the package, wherever a model is named. For a folder of that name write
`./builtin`."""

REVISION = r"\w[\w./-]*"
ID = re.compile(rf"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>{REVISION}))?", re.ASCII)

ADAPTER_ID = re.compile(
    r"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>refs/\w+/[\w.-]+|\w[\w.-]*))?(/(?P<file>\w[^:]*))?", re.ASCII
)
"""An adapter on the hub: owner/name[@revision][/file]. A revision has no slash, unless it is refs/pr/1 or the like."""


class Located(NamedTuple):
    """A model on this machine."""

    folder: Path
    name: str
    """For recipes: a hub id, "builtin", or the last part of the folder; never a path of this machine."""
    revision: str | None
    """The commit of a model from the hub."""


def preset_of(model: str | Path | None) -> Preset | None:
    """The preset that `model` names, if it is not a path, an id or the built-in model: `presets.preset_named`."""
    if model is None or str(model) == BUILTIN_NAME:
        return None
    from .presets import preset_named

    return preset_named(model)


def locate(model: str | Path | None, revision: str | None = None, allow_pickle: bool = False) -> Located:
    """The folder of a model, found by `resolve` (None is the built-in model), and its name for recipes."""
    if model is None or str(model) == BUILTIN_NAME:
        return Located(BUILTIN, BUILTIN_NAME, None)
    folder = resolve(model, revision, allow_pickle=allow_pickle)
    if folder.is_file():
        raise _refuse_file(folder)
    from .hub_repository import id_and_commit

    name, commit = id_and_commit(folder.resolve())
    return Located(folder, name, commit)


def _refuse_file(file: Path) -> UserError:
    """The error for a file in place of a model's folder: the command that converts it, or what else it is."""
    # Imported here: they import MLX, which finding a folder does not need.
    from .checkpoint.file_kinds import kind_of
    from .checkpoint.pickles import is_pickle
    from .checkpoint.weight_files import header_of

    pickled = is_pickle(file)
    kind = None
    # The conversion says what is wrong with a damaged file.
    with suppress(UserError):
        kind = None if pickled else kind_of(header_of(file))
    if kind is not None:
        return UserError(f"{file} is not a model but {kind}.")
    options = " --allow-pickle" if pickled else ""
    return UserError(
        f"{file} is one file, not a folder; convert it to a folder with: genmoji convert {file} -o FOLDER{options}"
    )


def resolve_component(source: str | Path) -> Path:
    """The folder or file of one component, such as an autoencoder: an existing path, or a hub id `owner/name`, whose
    repository has it at its top, or is a whole model. Raises UserError like `resolve`."""
    return resolve(source, component=True)


def resolve(
    model: str | Path,
    revision: str | None = None,
    *,
    half: bool | None = None,
    allow_pickle: bool = False,
    component: bool = False,
) -> Path:
    """The folder of `model`: "builtin", an existing path, or a hub id `owner/name` or `owner/name@revision`.

    For a hub id it is the snapshot in the hub's cache, whose folder is named by the commit, downloaded if it is
    missing. half: whether to prefer weights in half precision; None prefers them on a GPU. allow_pickle: fetch
    PyTorch's files where there are no others. component: it may be one component instead of a model. Raises UserError
    if there is no such model, it needs a login, it has no safetensors, or it is missing and cannot be downloaded.
    """
    if str(model) == BUILTIN_NAME:
        return BUILTIN
    if Path(model).exists():
        return Path(model)
    match = ID.fullmatch(str(model))
    if match is None:
        return resolve(_base_of(model), revision, half=half, allow_pickle=allow_pickle)
    if revision is None and match["revision"] is None:
        _check_not_a_folder(str(model), "folder")
    revision = revision or match["revision"] or "main"
    if not re.fullmatch(REVISION, revision, re.ASCII) or ".." in revision:
        raise UserError(f"{revision!r} is not a branch, tag or commit of a model.")
    # It imports the hub's client, which the models on this machine do not need.
    from .hub_repository import Repository

    repository = Repository(match["id"], revision, allow_pickle, component)
    half = _prefers_half() if half is None else half
    if (snapshot := repository.cached(half)) is not None:
        return snapshot
    from .hub_fetch import fetch

    return fetch(repository, half)


def _base_of(model: str | Path) -> str:
    """The base of a preset without adapters. Raises UserError for one with adapters, and what is no preset."""
    preset = preset_of(model)
    if preset is None:
        from .presets import similar_names

        names = similar_names(model)
        hint = f" Did you mean {' or '.join(names)}?" if names else " genmoji models lists the models that have a name."
        raise UserError(
            f"There is no model folder {model}; a model on the Hugging Face hub is called owner/name.{hint}"
        )
    if preset.adapters:
        raise UserError(
            f"{model} is a base with adapters, and this needs one folder: make one with: genmoji fuse {model} -o FOLDER"
        )
    return preset.base


class AdapterPlace(NamedTuple):
    """Where an adapter is on this machine."""

    path: Path
    """A file or a folder."""
    file: str | None
    """The file or folder within `path` that the user named, if any."""
    name: str
    """For recipes and messages: the file's or folder's name, or the hub's owner/name[/file]."""
    hub: bool = False


def locate_adapter(adapter: str | Path, allow_pickle: bool = False) -> AdapterPlace:
    """The place of an adapter: an existing path, or owner/name[@revision][/file] on the hub, fetched if it is missing.

    allow_pickle: whether a pickle may be fetched. Raises UserError like `resolve`, and if the repository holds no
    adapter or several.
    """
    path, text = Path(adapter), str(adapter)
    match = ADAPTER_ID.fullmatch(text)
    is_id = match is not None and (match["file"] or path.suffix not in (".safetensors", *PICKLES))
    if path.exists() or match is None or not is_id or text.startswith(("~", "/", ".")):
        return AdapterPlace(path, None, path.name)
    if match["revision"] is None:
        _check_not_a_folder(text, "file")
    if ".." in (match["revision"] or "") or ".." in (match["file"] or ""):
        raise UserError(f"There is no adapter {text}: a revision or file on the hub has no '..' in its name.")
    from .hub_repository import AdapterRepository

    repository = AdapterRepository(match["id"], match["revision"] or "main", allow_pickle, file=match["file"])
    name = match["id"] + (f"/{match['file']}" if match["file"] else "")
    snapshot = repository.cached()
    if snapshot is None:
        from .hub_fetch import fetch_files

        snapshot = fetch_files(repository)
    return AdapterPlace(snapshot, match["file"], name, True)


def locate_file(file: str, allow_pickle: bool = False) -> Path | None:
    """A file on the hub, owner/name[@revision]/file, fetched if it is missing; None where `file` is no such id.

    Raises UserError like `resolve`, and for a pickle unless `allow_pickle` is set.
    """
    match = ADAPTER_ID.fullmatch(file)
    if match is None or match["file"] is None or ".." in file or Path(file).exists():
        return None
    if match["revision"] is None:
        _check_not_a_folder(file, "file")
    if file.endswith(PICKLES) and not allow_pickle:
        raise UserError(f"{file} is a pickle, which can run any code; {PICKLE_WAY}.")
    from .hub_repository import FileRepository

    repository = FileRepository(match["id"], match["revision"] or "main", True, file=match["file"])
    path = repository.cached()
    if path is None:
        from .hub_fetch import fetch_files

        path = fetch_files(repository) / match["file"]
    return path


def _check_not_a_folder(text: str, what: str) -> None:
    """Raise UserError where the owner of an id is a folder here: it is more likely a mistyped path."""
    folder, _, rest = text.partition("/")
    if Path(folder).is_dir():
        owner_and_name = "/".join(text.split("/")[:2])
        raise UserError(
            f"There is no {text}: {folder} is a folder here and has no {what} {rest}. For the hub's repository write"
            f" {text.replace(owner_and_name, f'{owner_and_name}@main', 1)}."
        )


def _prefers_half() -> bool:
    # Importing MLX takes a while, and nothing else here needs it.
    from .models.ops import on_cpu

    return not on_cpu()
