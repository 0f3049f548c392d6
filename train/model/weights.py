"""Hashes of weights in memory."""

import hashlib
from typing import Any

import mlx.core as mx
import numpy as np

from ..fit.step import flat


def parameters_sha256(parameters: Any) -> str:
    """A hash of a tree of parameters: names, shapes and values in float32."""
    digest = hashlib.sha256()
    for name, array in sorted(flat(parameters).items()):
        values = np.ascontiguousarray(np.asarray(array.astype(mx.float32)))
        digest.update(f"{name} {values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()
