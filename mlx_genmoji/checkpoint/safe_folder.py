"""Writes a model folder whose weights are pickles as one of safetensors, which every verb and other programs read."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx

from ..errors import UserError
from ..files import read_json, whole_file, whole_folder, write_json
from ..hub_repository import INDEX, OPTIONAL, WEIGHTED, WEIGHTLESS
from .tensor_files import Tensors, read_tensors
from .weight_files import STEMS, find_weights


def convert_folder(source: str | Path, folder: str | Path, allow_pickle: bool = False) -> None:
    """Write the parts of a diffusers folder that drawing needs to another, whole or not at all, as safetensors.

    A component's weights become one file, in their dtype; weights of 8 bits become float16. A safety checker is left
    out. Raises UserError if the source is no diffusers folder, a component has no weights that may be read, or `folder`
    is not empty.
    """
    source, folder = Path(source), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: name a new folder for the converted model.")
    index = read_json(source / INDEX)
    with whole_folder(folder) as partial:
        for name in (name for name in OPTIONAL if (source / name).is_file()):
            shutil.copyfile(source / name, partial / name)
        for name in (name for name in (*WEIGHTED, *WEIGHTLESS) if (source / name).is_dir()):
            (partial / name).mkdir()
            for path in sorted((source / name).iterdir()):
                if path.suffix in (".json", ".txt") and ".index" not in path.name:
                    shutil.copyfile(path, partial / name / path.name)
            if name in WEIGHTED:
                _write_weights(source / name, partial / name, allow_pickle)
        checkers = {name: [None, None] for name in ("safety_checker", "feature_extractor") if name in index}
        write_json(partial / INDEX, index | checkers | ({"requires_safety_checker": False} if checkers else {}))


def _write_weights(source: Path, target: Path, allow_pickle: bool) -> None:
    tensors: Tensors = {}
    for path in find_weights(source, allow_pickle=allow_pickle):
        tensors |= read_tensors(path, allow_pickle)[0]
    file = target / f"{STEMS[target.name.startswith('text_encoder')]}.safetensors"
    with whole_file(file) as partial:
        mx.save_safetensors(
            str(partial), {key: mx.contiguous(tensor) for key, tensor in tensors.items()}, {"format": "pt"}
        )
