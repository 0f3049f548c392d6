"""The latents of a dataset's pictures, computed once for each autoencoder."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mlx_genmoji.models import ops
from mlx_genmoji.models.tiny_vae import AutoencoderTiny
from mlx_genmoji.models.vae import AutoencoderKL

from .cached import cached
from .dataset import Dataset, to_model

Autoencoder = AutoencoderKL | AutoencoderTiny
MAX_PIXELS = 512 * 512
"""Pixels that an autoencoder encodes at once: one picture of 512 x 512, or several smaller ones."""

Floats = NDArray[np.float32]


def encode_all(model: Autoencoder, pictures: NDArray[np.uint8], batch_size: int = 8) -> Floats:
    """The mean latents of pictures (N, H, W, 3) in 0..255: (N, h, w, latent_channels), unscaled."""
    building = threading.Lock()

    def encode(start: int) -> Floats:
        with building:
            mean, _ = model.encode(mx.array(to_model(pictures[start : start + batch_size])))
        mx.eval(mean)
        return np.asarray(mean)

    with ThreadPoolExecutor(2 if ops.on_cpu() else 1) as pool:
        return np.concatenate(list(tqdm(pool.map(encode, range(0, len(pictures), batch_size)), disable=None)))


def dataset_latents(vae: Autoencoder, dataset: Dataset, key: Any) -> Floats:
    """The mean latents of all pictures, scaled and shifted as a UNet sees them: (N, h, w, c).

    key: a hash of the autoencoder's weights. A picture that stands in several rows is encoded once.
    """
    size = dataset.data.size

    def encode() -> Floats:
        names = [json.dumps(identity) for identity in dataset.identities]
        number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        pictures = dataset.pictures
        if len(number) < len(names):
            pictures = pictures[[names.index(name) for name in number]]
        latents = encode_all(vae, pictures, max(1, MAX_PIXELS // size**2))
        config = vae.config
        latents = (latents - (config.shift_factor or 0.0)) * np.float32(config.scaling_factor)
        return latents if len(number) == len(names) else latents[[number[name] for name in names]]

    return cached(dataset.cache, "latents", [key, dataset.identities, size], encode)
