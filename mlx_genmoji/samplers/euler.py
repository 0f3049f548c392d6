"""The Euler sampler and the Euler ancestral sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import mlx.core as mx
import numpy as np

from . import History, Schedule
from .noise import (
    OFF,
    Check,
    NoiseConfig,
    karras_sigmas,
    linspace,
    one_of,
    sigma_table,
    spaced_timesteps,
    timesteps_of,
    with_final,
)


class EulerLatents(Schedule):
    """The base of both: latents are `x0 + sigma * epsilon`, with the sigma that other samplers call `sigma / alpha`."""

    def _set_sigmas(self, config: NoiseConfig, timesteps: np.ndarray, sigmas: np.ndarray) -> None:
        """Set the timesteps (steps,), and the sigmas (steps + 1,) whose last one is that of the result."""
        self.timesteps = timesteps.astype(np.float32)
        self._sigmas = sigmas.astype(np.float32).tolist()
        self._alphas = [1.0] * len(sigmas)
        largest = max(self._sigmas)
        self.init_noise_sigma = math.hypot(largest, 1) if config.timestep_spacing == "leading" else largest

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        return x / math.hypot(self._sigmas[i], 1)


class Euler(EulerLatents):
    """Euler's method for the probability flow ODE: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2.

    It adds no noise (no "churn" of the paper). Equal to `EulerDiscreteScheduler` in diffusers.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        "use_exponential_sigmas": OFF,
        "use_beta_sigmas": OFF,
        "timestep_type": one_of("discrete"),
    }

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        timesteps = spaced_timesteps(config, steps, steps).astype(np.float32)
        sigmas = np.interp(timesteps, np.arange(len(table)), table)
        if config.interpolation_type == "log_linear":
            sigmas = np.exp(linspace(np.log(table[-1]), np.log(table[0]), steps + 1))
        if config.use_karras_sigmas:
            sigmas = karras_sigmas(config, sigmas[0], sigmas[-1], steps)
            timesteps = timesteps_of(sigmas, table)
        self._set_sigmas(config, timesteps, with_final(sigmas, config, table[0]))

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        # In the order of diffusers: from a sigma of 4096, float32 rounds so much that any other is 1e-4 away.
        derivative = (x - x0) / self._sigmas[i]
        return x + derivative * (self._sigmas[i + 1] - self._sigmas[i]), (x0,)


class EulerAncestral(EulerLatents):
    """Euler's method that replaces part of the noise by new noise at each step.

    Equal to `EulerAncestralDiscreteScheduler` in diffusers; it was first `sample_euler_ancestral` of
    https://github.com/crowsonkb/k-diffusion.
    """

    stochastic: ClassVar[bool] = True
    has_karras: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        timesteps = spaced_timesteps(config, steps, steps).astype(np.float32)
        sigmas = np.append(np.interp(timesteps, np.arange(len(table)), table), 0)
        self._set_sigmas(config, timesteps, sigmas)

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        following = self._sigmas[i + 1]
        # The share of the following variance that the ODE keeps. The rest is drawn.
        kept = (following / self._sigmas[i]) ** 2
        x = x0 + kept * (x - x0)
        if following:
            x = x + following * math.sqrt(max(1 - kept, 0)) * self._drawn(noise)
        return x, (x0,)
