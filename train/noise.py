"""The formulas of noise: timesteps moved towards noise, noise with an offset, and how much each timestep counts."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def shifted(share: float, shift: float) -> float:
    """A share of the noise schedule, moved towards its noisy end by a shift above 1.

    Esser et al. 2024, https://arxiv.org/abs/2403.03206, formula (23).
    """
    return shift * share / (1 + (shift - 1) * share)


def offset_noise(rng: np.random.Generator, shape: tuple[int, ...], offset: float) -> Floats:
    """Standard normal noise (h, w, c), and an offset for each channel, so that a picture's mean is learned too.

    https://www.crosslabs.org/blog/diffusion-with-offset-noise
    """
    noise = rng.standard_normal(shape, np.float32)
    shifts = rng.standard_normal(shape[-1:], np.float32)
    return noise + np.float32(offset) * shifts if offset else noise


def loss_weights(signal: Floats, prediction_type: str, min_snr_gamma: float) -> Floats:
    """The weight of the squared error at timesteps of these `alphas_cumprod`, (B,); with a gamma of 0, one.

    Hang et al. 2023, https://arxiv.org/abs/2303.09556: min(SNR, gamma) for x0, translated to the prediction type.
    """
    if not min_snr_gamma:
        return np.ones_like(signal)
    snr = signal / np.maximum(1 - signal, 1e-12)
    divisors = {"epsilon": np.maximum(snr, 1e-12), "v_prediction": snr + 1}
    weights = np.minimum(snr, min_snr_gamma) / divisors.get(prediction_type, 1)
    return weights.astype(np.float32)
