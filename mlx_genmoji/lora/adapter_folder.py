"""Which files of a folder or repository are an adapter: one file or PEFT's folders, and the embeddings beside them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import NamedTuple

from ..checkpoint.weight_files import PICKLES
from ..errors import UserError, first_few
from ..textual_inversion import is_file_name
from .card import FILES as CARDS
from .layer_tree import COMPONENTS

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"

# The names that trainers give their only file: diffusers', Replicate's.
USUAL = ("pytorch_lora_weights.safetensors", "lora.safetensors")

MAX_LISTED = 12


class AdapterFiles(NamedTuple):
    """The files of one adapter, by their paths in the folder with forward slashes."""

    weights: tuple[str, ...]
    """One file, those of PEFT for each component, or none where there are embeddings only."""
    embeddings: tuple[str, ...]


def choose(names: Collection[str], file: str | None, where: str, pickles: bool = False) -> AdapterFiles:
    """The adapter among a folder's files.

    file: the one that the user named, or a folder of PEFT's. where: the folder or repository, for messages: where/FILE
    names a file. pickles: whether files that are pickles may be chosen. Raises UserError with a list of the files to
    choose from if there are several, and if there is none.
    """
    names = sorted(names)
    embeddings = [name for name in names if "/" not in name and is_file_name(name)]
    if file is not None:
        inside = _peft([name for name in names if name.startswith(f"{file}/")], file)
        if file not in names and not inside:
            raise UserError(f"{where} has no {file}{_listed(_candidates(names, pickles))}.")
        if file in embeddings:
            return AdapterFiles((), (file,))
        return AdapterFiles(inside or (file,), _beside(embeddings, file))
    if peft := _peft(names, ""):
        return AdapterFiles(peft, _beside(embeddings, PEFT_WEIGHTS))
    candidates = _candidates(names, pickles)
    usual = [name for name in USUAL if name in candidates]
    if "model_index.json" in names and not usual:
        raise UserError(f"{where} is a whole model, no adapter: draw with --model {where}")
    chosen = usual or candidates
    if len(chosen) > 1 and not usual:
        listed = ", ".join(candidates[:MAX_LISTED]) + (" and more" if len(candidates) > MAX_LISTED else "")
        raise UserError(f"{where} has several adapters, {listed}: choose one, such as {where}/{candidates[0]}")
    if chosen:
        return AdapterFiles((chosen[0],), _beside(embeddings, chosen[0]))
    if embeddings:
        return AdapterFiles((), _beside(embeddings, embeddings[0]))
    pickled = [name for name in names if name.endswith(PICKLES)]
    if pickled:
        raise UserError(
            f"{where} has only {first_few(pickled)}, a pickle, which can run any code: --allow-pickle reads the numbers"
            " in it without running any."
        )
    raise UserError(
        f"{where} is not an adapter's folder: it has no .safetensors file, no index.json and no {PEFT_CONFIG} of PEFT."
    )


def needed_files(names: Collection[str], file: str | None, where: str, pickles: bool = False) -> list[str]:
    """The files to fetch for the adapter that `choose` chooses: its own, PEFT's configs, and what says how to draw."""
    chosen = choose(names, file, where, pickles)
    configs = [str(PurePosixPath(name).with_name(PEFT_CONFIG)) for name in chosen.weights]
    return [name for name in (*CARDS, *configs, *chosen.embeddings, *chosen.weights) if name in set(names)]


def _peft(names: Collection[str], folder: str) -> tuple[str, ...]:
    """PEFT's weights in a folder ("" is the root): its own, or those of one folder for each component."""
    base = f"{folder}/" if folder else ""
    places = [base, *(f"{base}{component}/" for component in COMPONENTS)]
    there = set(names)
    whole = [place for place in places if {f"{place}{PEFT_CONFIG}", f"{place}{PEFT_WEIGHTS}"} <= there]
    return tuple(f"{place}{PEFT_WEIGHTS}" for place in whole)


def _candidates(names: Collection[str], pickles: bool) -> list[str]:
    """The files that may be an adapter: those at the root, or if there are none, those in folders."""
    endings = (".safetensors", *PICKLES) if pickles else (".safetensors",)
    files = [name for name in names if name.endswith(endings) and not is_file_name(PurePosixPath(name).name)]
    safe = [name for name in files if name.endswith(".safetensors")] or files
    return [name for name in safe if "/" not in name] or safe


def _beside(embeddings: Collection[str], file: str) -> tuple[str, ...]:
    """The embeddings that belong to an adapter's file: those of its name, else those that name no other."""
    stem = PurePosixPath(file).name.partition(".")[0]
    named = [name for name in embeddings if name.startswith(f"{stem}_emb")]
    general = [name for name in embeddings if name.startswith(("embedding", "learned_embeds"))]
    rest = [name for name in embeddings if name not in general]
    return tuple(named or general or (rest if len(rest) == 1 else ()))


def _listed(names: Collection[str]) -> str:
    return f", but {first_few(list(names), MAX_LISTED)}" if names else ""
