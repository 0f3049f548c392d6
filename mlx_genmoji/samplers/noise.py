"""Noise: how much of it a model was trained with at each timestep, how it is added, and how a seed makes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import UserError
from .config import NoiseConfig


def alphas_cumprod(config: Mapping[str, Any] | NoiseConfig) -> np.ndarray:
    """The share of signal in the variance of a sample at each training timestep: float32 `(num_train_timesteps,)`.

    The one noise schedule of training and of sampling, with the roundings of diffusers' schedulers. Raises UserError
    where a field is not supported or the betas leave no signal at all.
    """
    if not isinstance(config, NoiseConfig):
        config = NoiseConfig.read(config)
    signal = _cumulative_product(1 - _betas(config))
    if signal[-1] < 1e-30:
        raise UserError("scheduler_config.json: the betas (beta_start, beta_end, trained_betas) leave no signal.")
    return _rescaled_to_zero_terminal_snr(signal) if config.rescale_betas_zero_snr else signal


def _betas(config: NoiseConfig) -> np.ndarray:
    count = config.num_train_timesteps
    if config.trained_betas is not None:
        return np.array(config.trained_betas, dtype=np.float32)
    if config.beta_schedule == "linear":
        return linspace(config.beta_start, config.beta_end, count)
    if config.beta_schedule == "scaled_linear":
        return linspace(config.beta_start**0.5, config.beta_end**0.5, count) ** 2
    # Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672
    signal = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return np.array([min(1 - signal[i + 1] / signal[i], 0.999) for i in range(count)], dtype=np.float32)


def linspace(start: float, end: float, count: int) -> np.ndarray:
    """`torch.linspace` in float32, which counts from both ends and rounds once per number."""
    first, last = np.float32(start), np.float32(end)
    step = float((last - first) / np.float32(count - 1))
    i = np.arange(count)
    return np.where(i < count // 2, float(first) + step * i, float(last) - step * (count - 1 - i)).astype(np.float32)


def _cumulative_product(factors: np.ndarray) -> np.ndarray:
    # In float64, as torch does it on a CPU.
    return np.cumprod(factors.astype(np.float64)).astype(np.float32)


def _rescaled_to_zero_terminal_snr(signal: np.ndarray) -> np.ndarray:
    """Algorithm 1 of Lin et al. 2023, https://arxiv.org/abs/2305.08891: the last timestep becomes pure noise."""
    alphas = np.sqrt(signal)
    first, last = alphas[0], alphas[-1]
    signal = ((alphas - last) * (first / (first - last))) ** 2
    # To betas and back, for the roundings of diffusers.
    betas = 1 - np.concatenate([signal[:1], signal[1:] / signal[:-1]])
    return _cumulative_product(1 - betas)


def add_noise(x0: mx.array, noise: mx.array, signal: mx.array) -> mx.array:
    """Noisy samples for training, `alpha * x0 + sigma * noise`; `signal` `(B,)` is the `alphas_cumprod` of each."""
    alpha, sigma = _broadcast(signal, x0)
    return alpha * x0 + sigma * noise


def training_target(prediction_type: str, x0: mx.array, noise: mx.array, signal: mx.array) -> mx.array:
    """What a model with this `prediction_type` should say about `add_noise(x0, noise, signal)`."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        alpha, sigma = _broadcast(signal, x0)
        return alpha * noise - sigma * x0
    return x0


def step_noise(seed: int, i: int, shape: tuple[int, ...]) -> mx.array:
    """The standard normal noise of step `i` of a generation, the same whatever the number of steps and of pictures."""
    # The step's number is added to a key that hashes the seed, so that seed and step never stand for one another.
    key = mx.random.split(mx.random.key(seed))[1] + mx.array([0, i], mx.uint32)
    return mx.random.normal(shape, key=key)


def _broadcast(signal: mx.array, x0: mx.array) -> tuple[mx.array, mx.array]:
    signal = signal.reshape(-1, *[1] * (x0.ndim - 1))
    return mx.sqrt(signal), mx.sqrt(1 - signal)
