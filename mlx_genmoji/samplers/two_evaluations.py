"""Samplers of second order that ask the model twice for each step: Heun, DPM2 and its ancestral variant.

A generation of n steps has 2 n - 1 timesteps. The even ones, 0, 2, 4 ..., take a trial step by Euler's method. The odd
ones evaluate the model where it ended, and take the whole step again from where it began. The last step has no trial.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from . import History
from .euler import EulerLatents
from .noise import OFF, Check, NoiseConfig, karras_sigmas, one_of, sigma_table, spaced_timesteps, timesteps_of

_CHECKS: Mapping[str, Check] = {"use_exponential_sigmas": OFF, "use_beta_sigmas": OFF}
_BETAS: Mapping[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


class _TwoEvaluations(EulerLatents):
    """The history is the prediction of x0; after a trial step also the latents and the derivative where it began."""

    evaluations: ClassVar[int] = 2
    checks: ClassVar[Mapping[str, Check]] = _CHECKS
    defaults: ClassVar[Mapping[str, Any]] = _BETAS
    ignored: ClassVar[frozenset[str]] = frozenset({"rescale_betas_zero_snr", "final_sigmas_type"})
    rounded: ClassVar[bool] = True
    """Whether the timesteps of Karras' sigmas are whole numbers."""

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        timesteps = spaced_timesteps(config, steps, steps).astype(np.float32)
        sigmas = np.interp(timesteps, np.arange(len(table)), table)
        if config.use_karras_sigmas:
            sigmas = karras_sigmas(config, sigmas[0], sigmas[-1], steps)
            timesteps = timesteps_of(sigmas, table)
            timesteps = np.round(timesteps) if self.rounded else timesteps
        sigmas = np.append(sigmas, 0).astype(np.float32)
        trials = self._trials(sigmas.astype(np.float64))
        self._set_sigmas(
            config,
            _interleaved(timesteps, self._trial_timesteps(timesteps, trials, table)),
            np.append(_interleaved(sigmas[:-1], trials[:-1]), 0),
        )
        self._trial_sigmas: list[float] = trials.astype(np.float32).tolist()
        self._whole: list[float] = sigmas.tolist()

    @abstractmethod
    def _trials(self, sigmas: np.ndarray) -> np.ndarray:
        """For each step, the sigma where its trial step ends; the last is 0. sigmas: one more than there are steps."""

    def _trial_timesteps(self, timesteps: np.ndarray, trials: np.ndarray, table: np.ndarray) -> np.ndarray:
        return timesteps_of(trials[:-1].astype(np.float32), table)

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        if self._clip is not None:
            x0 = mx.clip(x0, -self._clip, self._clip)
        derivative = (x - x0) / self._sigmas[i]
        k = i // 2
        if i % 2 == 0:
            return x + derivative * (self._trial_sigmas[k] - self._sigmas[i]), (x0, x, derivative)
        _, begin, first = history
        return self._whole_step(k, begin, self._combined(first, derivative), noise), (x0,)

    def _combined(self, first: mx.array, second: mx.array) -> mx.array:
        """The derivative of the whole step, from those at its beginning and at the end of its trial."""
        return second

    def _whole_step(self, k: int, x: mx.array, derivative: mx.array, noise: mx.array | None) -> mx.array:
        return x + derivative * (self._whole[k + 1] - self._whole[k])

    _clip: float | None = None


class Heun(_TwoEvaluations):
    """Heun's method: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 1. `HeunDiscreteScheduler`."""

    rounded: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        self._clip = config.clip_sample_range if config.clip_sample else None

    def _trials(self, sigmas: np.ndarray) -> np.ndarray:
        return sigmas[1:]

    def _trial_timesteps(self, timesteps: np.ndarray, trials: np.ndarray, table: np.ndarray) -> np.ndarray:
        return timesteps[1:]

    def _combined(self, first: mx.array, second: mx.array) -> mx.array:
        return (first + second) / 2


class DPM2(_TwoEvaluations):
    """DPM-Solver-2 in sigmas: `sample_dpm_2` of k-diffusion; the trial step ends at the geometric mean of two sigmas.

    `KDPM2DiscreteScheduler` in diffusers.
    """

    checks: ClassVar[Mapping[str, Check]] = {**_CHECKS, "prediction_type": one_of("epsilon", "v_prediction")}

    def _trials(self, sigmas: np.ndarray) -> np.ndarray:
        return np.sqrt(sigmas[:-1] * sigmas[1:])


class DPM2Ancestral(DPM2):
    """DPM2 with part of the noise drawn anew at each step: `sample_dpm_2_ancestral` of k-diffusion.

    `KDPM2AncestralDiscreteScheduler` in diffusers.
    """

    stochastic: ClassVar[bool] = True

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        sigmas = np.array(self._whole)
        down = _sigmas_down(sigmas)
        self._down: list[float] = down.tolist()
        self._up: list[float] = np.sqrt(np.maximum(sigmas[1:] ** 2 - down**2, 0)).tolist()

    def _trials(self, sigmas: np.ndarray) -> np.ndarray:
        return np.sqrt(sigmas[:-1] * _sigmas_down(sigmas))

    def draws_noise(self, i: int) -> bool:
        return i % 2 == 1

    def _whole_step(self, k: int, x: mx.array, derivative: mx.array, noise: mx.array | None) -> mx.array:
        return x + derivative * (self._down[k] - self._whole[k]) + self._up[k] * self._drawn(noise)


def _sigmas_down(sigmas: np.ndarray) -> np.ndarray:
    """For each step, the sigma that the ODE goes down to; the rest of the following variance is drawn."""
    return sigmas[1:] ** 2 / sigmas[:-1]


def _interleaved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """a, b, c and x, y -> a, x, b, y, c."""
    values = np.empty(len(first) + len(second))
    values[::2], values[1::2] = first, second
    return values
