"""How well a run goes: the loss of held-out pictures in bands of timesteps, on noise that is always the same.

A mean over all timesteps hides an adapter that has collapsed at some of them, so there is one loss for each band.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.errors import UserError

# Whatever the run's seed, so that runs compare.
SEED = 1

# The rest of a small dataset is needed to learn from.
LARGEST_SHARE = 5


@dataclass(frozen=True)
class Validation:
    """How a run is validated."""

    pictures: int = 32
    """Held out of the training; a fifth of the dataset at most. 0: none, and no validation."""
    every: int = 100
    """Steps from one validation to the next."""
    bands: int = 4
    """Equal parts of the noise schedule, the first with the least noise."""

    def __post_init__(self) -> None:
        for name, least in (("pictures", 0), ("every", 1), ("bands", 1)):
            if getattr(self, name) < least:
                raise UserError(f"Recipe: 'validation.{name}' must be {least} or more, not {getattr(self, name)}.")


def held_out(hashes: list[str], pictures: int) -> NDArray[np.int64]:
    """The rows that are held out: the same pictures in every run, and however many others the dataset has."""
    count = min(pictures, len(hashes) // LARGEST_SHARE)
    order = sorted(range(len(hashes)), key=lambda row: hashlib.sha256(hashes[row].encode()).digest())
    return np.array(sorted(order[:count]), np.int64)


def band_timestep(band: int, bands: int, place: float, timesteps: int) -> int:
    """The timestep at `place`, from 0 to 1, of a band."""
    return min(int((band + place) / bands * timesteps), timesteps - 1)
