"""Schedule: the interface that all samplers share."""

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
    """The timesteps of a generation, and the step from each to the next.

    `timesteps` (float32) has one entry for each evaluation of the model, in most samplers one a step; with
    `lambda_min_clipped` and trailing spacing there are fewer than requested. The initial latents are standard normal
    noise times `init_noise_sigma`; to start from a picture, `add_noise` of its latents at step `start(strength)`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """The defaults of diffusers' scheduler that differ from those of `NoiseConfig`."""
    checks: ClassVar[Mapping[str, Check]] = {}
    """Checks of further fields of the config, or stricter ones, beside those of `NoiseConfig`."""
    stochastic: ClassVar[bool] = False
    """Whether `step` needs noise."""
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Fields of the config that diffusers' scheduler does not have: they are left at the defaults."""
    has_spacing: ClassVar[bool] = True
    """Whether `timestep_spacing` decides the timesteps."""
    has_karras: ClassVar[bool] = True
    """Whether the sampler knows `use_karras_sigmas`."""
    evaluations: ClassVar[int] = 1
    """How many timesteps a step has; with 2, the last step has one."""

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
        """The first step of image to image with a `strength` from 0 (no change) to 1 (all steps).

        As in diffusers' image-to-image pipelines. Raises UserError if the strength leaves no step.
        """
        self._check_strength(strength)
        begin = (self._steps - min(int(self._steps * strength), self._steps)) * self.evaluations
        if begin >= len(self.timesteps):
            raise UserError(
                f"A strength of {strength:g} leaves none of the {self._steps} steps; take more strength or more steps."
            )
        return begin

    def _check_strength(self, strength: float) -> None:
        if not 0 <= strength <= 1:
            raise UserError(f"The strength must be from 0 to 1, not {strength:g}.")

    def add_noise(self, x0: mx.array, noise: mx.array, i: int) -> mx.array:
        """The latents of step `i` for a picture's latents `x0` and standard normal `noise`."""
        return self._alphas[i] * x0 + self._sigmas[i] * noise

    def draws_noise(self, i: int) -> bool:
        """Whether step `i` uses noise. The torch generator of diffusers advances in these steps only."""
        return self.stochastic

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        """The model's input at step `i`: latents of variance near one."""
        return x

    @abstractmethod
    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        """The latents of step `i + 1` from those of step `i`, and the new history. The last step returns the result.

        history: returned by the previous step, empty at the first. Its first entry is the current prediction of the
        final latents, for previews. noise: standard normal, of the shape of `x`; needed if `stochastic` is true.
        `noise.step_noise` makes it from a seed.
        """

    def _predictions(self, model_output: mx.array, x: mx.array, i: int) -> tuple[mx.array, mx.array]:
        """The model's output at step `i` as predictions of x0 and epsilon."""
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
