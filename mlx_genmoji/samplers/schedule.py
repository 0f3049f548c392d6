"""The interface of all samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..errors import UserError
from .config import Check, NoiseConfig

History = tuple[mx.array, ...]


class Schedule(ABC):
    """A sampler for a number of steps: its timesteps, and the update of the latents at each step.

    `timesteps` (float32) has an entry for each step; `lambda_min_clipped` and trailing spacing can give fewer than
    requested. Text to image starts from standard normal noise times `init_noise_sigma`; image to image starts at step
    `start(strength)`, from the picture's latents with the noise of that step (`add_noise`).
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of config fields in diffusers' scheduler, where they differ from those of `NoiseConfig`."""
    checks: ClassVar[Mapping[str, Check]] = {}
    """Checks of config fields, in addition to those of `NoiseConfig`: of further fields, or stricter ones."""
    stochastic: ClassVar[bool] = False
    """Whether `step` needs noise."""

    timesteps: np.ndarray
    init_noise_sigma: float = 1.0
    _alphas: list[float]
    _sigmas: list[float]
    """The latents of step `i` are `_alphas[i] * x0 + _sigmas[i] * epsilon`."""

    @abstractmethod
    def __init__(self, config: NoiseConfig, steps: int) -> None:
        self.prediction_type = config.prediction_type
        self._steps = steps

    def start(self, strength: float) -> int:
        """The first step of image to image, as in diffusers' pipelines.

        strength: from 0 (no change) to 1 (all steps). Raises UserError if the strength leaves no step.
        """
        self._check_strength(strength)
        begin = self._steps - min(int(self._steps * strength), self._steps)
        if begin >= len(self.timesteps):
            raise UserError(
                f"A strength of {strength:g} leaves none of the {self._steps} steps; take more strength or more steps."
            )
        return begin

    def _check_strength(self, strength: float) -> None:
        if not 0 <= strength <= 1:
            raise UserError(f"The strength must be from 0 to 1, not {strength:g}.")

    def add_noise(self, x0: mx.array, noise: mx.array, i: int) -> mx.array:
        """The noisy latents of step `i`, from a picture's latents `x0` and standard normal `noise` of their shape."""
        return self._alphas[i] * x0 + self._sigmas[i] * noise

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        """The model's input at step `i`: the latents, scaled to a variance of about 1."""
        return x

    @abstractmethod
    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        """Return the latents of step `i + 1` and the new history; after the last step, the final latents.

        model_output: the model's prediction at step `i`, of the shape of `x`. x: the latents of step `i`. history: that
        of the previous step, empty at the first; its first entry is the current prediction of the final latents, for
        previews. noise: standard normal, of the shape of `x`, needed if `stochastic` is true (`noise.step_noise`).
        """

    def _predictions(self, model_output: mx.array, x: mx.array, i: int) -> tuple[mx.array, mx.array]:
        """The predictions of x0 and of epsilon that the model's output at step `i` gives."""
        alpha, sigma = self._alphas[i], self._sigmas[i]
        model_output = model_output.astype(mx.float32)
        if self.prediction_type == "epsilon":
            return (x - sigma * model_output) / alpha, model_output
        if self.prediction_type == "v_prediction":
            # Salimans and Ho 2022, https://arxiv.org/abs/2202.00512: v = alpha * epsilon - sigma * x0, for latents of
            # variance 1. The latents of Euler's method have a larger variance.
            square = alpha**2 + sigma**2
            length = square**0.5
            x0 = alpha / square * x - sigma / length * model_output
            return x0, alpha / length * model_output + sigma / square * x
        return model_output, (x - alpha * model_output) / sigma

    @staticmethod
    def _drawn(noise: mx.array | None) -> mx.array:
        if noise is None:
            raise ValueError("A stochastic sampler's step needs noise.")
        return noise
