"""What a diffusion model is shown at a timestep, and how much each timestep counts.

Randomness is that of the numbered sample: the same whether a batch is computed on one machine or on several.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def sample_rng(seed: int, step: int, index: int) -> np.random.Generator:
    """All that is random in sample `index` of a step, of all machines' batches one after the other."""
    return np.random.default_rng((seed, step, index))


def shifted(share: float, shift: float) -> float:
    """A share of the noise schedule, moved towards its noisy end by a shift above 1.

    Esser et al. 2024, https://arxiv.org/abs/2403.03206, formula (23).
    """
    return shift * share / (1 + (shift - 1) * share)


def offset_noise(rng: np.random.Generator, shape: tuple[int, int, int], offset: float) -> Floats:
    """Standard normal noise (h, w, c), and an offset for each channel, so that a picture's mean is learned too.

    https://www.crosslabs.org/blog/diffusion-with-offset-noise
    """
    noise = rng.standard_normal(shape, np.float32)
    shifts = rng.standard_normal(shape[-1:], np.float32)
    return noise + np.float32(offset) * shifts if offset else noise


def loss_weights(signal: Floats, prediction_type: str, min_snr_gamma: float) -> Floats:
    """The weight of the squared error at timesteps of these `alphas_cumprod`, (B,); with a gamma of 0, one.

    Hang et al. 2023, https://arxiv.org/abs/2303.09556: min(SNR, gamma) for x0, translated to what is predicted.
    """
    if not min_snr_gamma:
        return np.ones_like(signal)
    snr = signal / np.maximum(1 - signal, 1e-12)
    divisors = {"epsilon": np.maximum(snr, 1e-12), "v_prediction": snr + 1}
    weights = np.minimum(snr, min_snr_gamma) / divisors.get(prediction_type, 1)
    return weights.astype(np.float32)
