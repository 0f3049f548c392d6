"""What a repository on the hub holds, and the commands that use it, in sentences: for `genmoji models info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .checkpoint.weight_files import HALF_PRECISION
from .errors import UserError
from .hub_contents import BASES, WeightFile, weight_files
from .hub_fetch import contents, hub_errors
from .hub_repository import INDEX, AdapterRepository, Repository


def describe(repository: Repository) -> Iterator[str]:
    """Sentences about what a repository holds, and the commands to type. Raises UserError like `hub.resolve`."""
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
