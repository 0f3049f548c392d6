"""Arrays that are computed once and kept on disk, by a hash of all that they depend on."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.families.stable_diffusion import Autoencoder

from ..model.autoencoder import encode_all
from .dataset import Dataset

# Pixels that an autoencoder encodes at once: one of 512 x 512, or as many.
PIXELS = 512 * 512


def cached(folder: Path, name: str, key: Any, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """What `compute` gives, mapped from a file; computed where there is none yet for this name and key (JSON)."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = folder / f"{name}-{digest[:16]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npy")
        try:
            np.save(partial, compute())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def dataset_latents(vae: Autoencoder, dataset: Dataset, key: Any) -> NDArray[np.float32]:
    """The mean latents of all pictures, (N, h, w, c), as a UNet sees them. `key`: what tells the autoencoder."""
    size = dataset.data.size

    def encode() -> NDArray[np.float32]:
        config = vae.config
        latents = encode_all(vae, dataset.pictures, max(1, PIXELS // size**2))
        return (latents - (config.shift_factor or 0.0)) * np.float32(config.scaling_factor)

    return cached(dataset.cache, "latents", [key, dataset.identities, size], encode)
