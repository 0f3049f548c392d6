"""The training batch of a diffusion model, the same for adapters and whole models: samples, and arrays made of them.

Randomness belongs to the numbered sample (seed, step, index): it is the same whether a batch is computed on one machine
or on several.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.samplers import add_noise, training_target

from .noise import Floats, loss_weights, offset_noise, shifted

DROPPED = ""
"""The caption of a sample whose own was dropped."""


class Sample(NamedTuple):
    """The random choices for one picture of a batch."""

    row: int
    caption: str
    timestep: int
    noise: Floats
    """(h, w, c)."""


class Noise(NamedTuple):
    """How timesteps and noise are drawn."""

    timestep_shift: float
    offset: float
    timesteps: int
    """The number of timesteps of the schedule."""
    shape: tuple[int, ...]
    """The shape of one picture's latents, (h, w, c)."""


def draw_sample(
    key: tuple[int, int, int],
    count: int,
    cumulative: NDArray[np.float64],
    captions: Sequence[Sequence[str]],
    dropout: float,
    noise: Noise,
) -> Sample:
    """The sample of `key` (seed, step, index), one of `count` of a step.

    cumulative: the rows' weights, summed up to 1. captions: those of each row. dropout: the share of captions that are
    replaced by `DROPPED`.
    """
    rng = np.random.default_rng(key)
    row = int(np.searchsorted(cumulative, rng.random(), side="right"))
    caption = captions[row][int(rng.integers(len(captions[row])))]
    if rng.random() < dropout:
        caption = DROPPED
    # One timestep from each of `count` equal parts of the schedule: the same distribution with less variance.
    share = shifted((key[-1] + rng.random()) / count, noise.timestep_shift)
    return Sample(row, caption, int(share * noise.timesteps), offset_noise(rng, noise.shape, noise.offset))


def noisy_arrays(
    samples: Sequence[Sample], latents: Floats, signal: Floats, prediction_type: str, min_snr_gamma: float
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """Noisy latents (B, h, w, c), timesteps (B,), the target of the prediction (B, h, w, c), weights (B,).

    latents: the samples' own, without noise. signal: `alphas_cumprod` of all timesteps.
    """
    timesteps = np.array([sample.timestep for sample in samples])
    clean, noise = mx.array(latents), mx.array(np.stack([sample.noise for sample in samples]))
    kept = signal[timesteps]
    weights = mx.array(loss_weights(kept, prediction_type, min_snr_gamma))
    target = training_target(prediction_type, clean, noise, mx.array(kept))
    return add_noise(clean, noise, mx.array(kept)), mx.array(timesteps), target, weights
