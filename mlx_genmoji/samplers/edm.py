"""Euler's method and DPM-Solver++(2M) for models in the form of Karras et al. 2022 (EDM), such as Playground 2.5.

Such a model is trained on sigmas, not on timesteps: its timestep is `log(sigma) / 4`, and its output is a mixture of
the picture and the noise (https://arxiv.org/abs/2206.00364, table 1). The latents are `x0 + sigma * epsilon`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from . import History, Schedule
from .noise import Check, NoiseConfig, number, one_of


class EDMEuler(Schedule):
    """`EDMEulerScheduler` in diffusers."""

    defaults: ClassVar[Mapping[str, Any]] = {"sigma_min": 0.002, "sigma_max": 80.0}
    checks: ClassVar[Mapping[str, Check]] = {
        "sigma_min": number(1e-6, 1e6),
        "sigma_max": number(1e-6, 1e6),
        "prediction_type": one_of("epsilon", "v_prediction"),
        "thresholding": one_of(False),
    }
    has_spacing: ClassVar[bool] = False
    has_karras: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        assert config.sigma_min is not None and config.sigma_max is not None
        ramp, least, most, rho = np.linspace(0, 1, steps), config.sigma_min, config.sigma_max, config.rho
        if config.sigma_schedule == "exponential":
            sigmas = np.exp(np.linspace(math.log(least), math.log(most), steps))[::-1]
        else:
            sigmas = (most ** (1 / rho) + ramp * (least ** (1 / rho) - most ** (1 / rho))) ** rho
        sigmas = sigmas.astype(np.float32)
        self.timesteps = (np.log(sigmas) / 4).astype(np.float32)
        self._sigmas = np.append(sigmas, self._last(config, sigmas)).astype(np.float32).tolist()
        self._alphas = [1.0] * len(self._sigmas)
        self._data = config.sigma_data
        self.init_noise_sigma = math.hypot(most, 1)

    def _last(self, config: NoiseConfig, sigmas: np.ndarray) -> float:
        return float(sigmas[-1]) if config.final_sigmas_type == "sigma_min" else 0.0

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        return x / math.hypot(self._sigmas[i], self._data)

    def _predictions(self, model_output: mx.array, x: mx.array, i: int) -> tuple[mx.array, mx.array]:
        sigma, length = self._sigmas[i], math.hypot(self._sigmas[i], self._data)
        factor = sigma * self._data / length * (1 if self.prediction_type == "epsilon" else -1)
        x0 = (self._data / length) ** 2 * x + factor * model_output.astype(mx.float32)
        return x0, (x - x0) / sigma

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, derivative = self._predictions(model_output, x, i)
        return x + derivative * (self._sigmas[i + 1] - self._sigmas[i]), (x0,)


class EDMDPMSolverPlusPlus2M(EDMEuler):
    """`EDMDPMSolverMultistepScheduler` in diffusers, with `solver_order` 2 and `solver_type` midpoint."""

    checks: ClassVar[Mapping[str, Check]] = {
        **EDMEuler.checks,
        "algorithm_type": one_of("dpmsolver++", "deis"),
        "solver_type": one_of("midpoint", "logrho", "bh1", "bh2"),
        "solver_order": one_of(2),
    }

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        few = config.lower_order_final and steps < 15
        self._euler_last = config.euler_at_final or few or config.final_sigmas_type == "zero"

    def _last(self, config: NoiseConfig, sigmas: np.ndarray) -> float:
        return float(config.sigma_min or 0) if config.final_sigmas_type == "sigma_min" else 0.0

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        decay, data = self._sigmas[i + 1] / self._sigmas[i], x0
        if history and not (self._euler_last and i + 1 == len(self.timesteps)):
            before, here = math.log(self._sigmas[i - 1]), math.log(self._sigmas[i])
            data = x0 + 0.5 * (here - math.log(self._sigmas[i + 1])) / (before - here) * (x0 - history[0])
        return decay * x - (decay - 1) * data, (x0,)
