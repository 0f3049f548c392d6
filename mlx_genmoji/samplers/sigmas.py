"""The timesteps and sigmas (ratios `sigma / alpha`) that a generation of some steps passes through."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .config import NoiseConfig
from .noise import alphas_cumprod


def spaced_timesteps(config: NoiseConfig, steps: int, points: int, last: int | None = None) -> np.ndarray:
    """The noisiest `steps` of `points` timesteps below `last`, falling: Lin et al. 2023, table 2. Not rounded."""
    last = config.num_train_timesteps if last is None else last
    timesteps: np.ndarray
    if config.timestep_spacing == "linspace":
        timesteps = np.linspace(0, last - 1, points)[::-1]
    elif config.timestep_spacing == "leading":
        timesteps = np.arange(points)[::-1] * (last // points) + config.steps_offset
    else:
        timesteps = np.round(np.arange(last, 0, -config.num_train_timesteps / steps)) - 1
    # For some numbers of steps, 61 of 1000 for one, floating point makes trailing spacing end with a timestep -1.
    return timesteps[:steps]


def sigma_table(config: NoiseConfig) -> np.ndarray:
    """The ratio `sigma / alpha` at each training timestep, rising, float32."""
    signal = alphas_cumprod(config)
    if not config.rescale_betas_zero_snr:
        return np.sqrt((1 - signal) / signal)
    # diffusers leaves a signal of 2**-24, float16's smallest number, so that the last ratio is not infinite.
    return np.append(np.sqrt((1 - signal[:-1]) / signal[:-1]), np.float32(2**12))


def multistep_sigmas(
    config: NoiseConfig, steps: int, table: np.ndarray, *, last: int | None = None, rounded: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Whole timesteps and their ratios, falling, for a solver whose steps follow from one another.

    `rounded`: whether a ratio of Karras' between two timesteps takes the nearer one, or the lower one. Raises UserError
    where the ratios do not fall.
    """
    timesteps = np.round(spaced_timesteps(config, steps, steps + 1, last))
    sigmas = np.interp(timesteps, np.arange(len(table)), table)
    if config.use_karras_sigmas:
        sigmas = karras_sigmas(config, table[-1], table[0], steps)
        timesteps = timesteps_of(sigmas, table)
        if rounded:
            timesteps = np.round(timesteps)
    if not len(sigmas) or (np.diff(sigmas) >= 0).any():
        raise UserError(f"{steps} steps are too many for this sampler with this model; take fewer steps.")
    return timesteps.astype(np.int64).astype(np.float32), sigmas


def karras_sigmas(config: NoiseConfig, largest: float, smallest: float, steps: int) -> np.ndarray:
    """Karras et al. 2022, formula (5), with rho 7."""
    largest = config.sigma_max if config.sigma_max is not None else float(largest)
    smallest = config.sigma_min if config.sigma_min is not None else float(smallest)
    if steps > 1 and smallest >= largest:
        raise UserError(f"scheduler_config.json: sigma_min {smallest:g} is not below sigma_max {largest:g}.")
    start, end = largest ** (1 / 7), smallest ** (1 / 7)
    return (start + np.linspace(0, 1, steps) * (end - start)) ** 7


def timesteps_of(sigmas: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The timesteps, between the trained ones too, at which these are the ratios."""
    return np.interp(np.log(sigmas), np.log(table), np.arange(len(table)))


def with_final(sigmas: np.ndarray, config: NoiseConfig, smallest: float) -> np.ndarray:
    """The ratios and the one that the last step ends with: none, or `smallest` if the config says so. float32."""
    final = smallest if config.final_sigmas_type == "sigma_min" else 0
    return np.append(sigmas, final).astype(np.float32)


def alphas_and_sigmas(signal: np.ndarray) -> tuple[list[float], list[float]]:
    """The roots of the shares of signal and of noise in the variance."""
    # Python's numbers: numpy's would turn an MLX array they are multiplied with into one of their own.
    return np.sqrt(signal).tolist(), np.sqrt(1 - signal).tolist()
