"""The one disk cache: arrays that are computed once and kept under a hash of everything that they depend on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlx_genmoji.files import whole_file

Array = NDArray[Any]


def cached(folder: Path, name: str, key: Any, compute: Callable[[], Array]) -> Array:
    """The array that `compute` returns, mapped from the file `folder/name-HASH.npy`; computed where there is none.

    key: JSON that tells the content from any other of this name: weights, pictures, captions, options.
    """
    path = _path(folder, name, key)
    if not path.exists():
        with whole_file(path) as partial:
            np.save(partial, compute())
    return _mapped(path)


def cached_parts(
    folder: Path, name: str, key: Any, shape: tuple[int, ...], dtype: DTypeLike, fill: Callable[[Array], object]
) -> Array:
    """As `cached`, for an array too large for memory: `fill` writes into an array that is mapped from the file."""
    path = _path(folder, name, key)
    if not path.exists():
        with whole_file(path) as partial:
            mapped = np.lib.format.open_memmap(partial, "w+", dtype, shape)
            fill(mapped)
            mapped.flush()
    return _mapped(path)


def _path(folder: Path, name: str, key: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.npy"


def _mapped(path: Path) -> Array:
    mapped: Array = np.load(path, mmap_mode="r")
    return mapped
