"""DDPM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..errors import UserError
from . import History, Schedule
from .noise import Check, NoiseConfig, alphas_and_sigmas, alphas_cumprod, check_signal, one_of, spaced_timesteps


class DDPM(Schedule):
    """Ancestral sampling: Ho et al. 2020, https://arxiv.org/abs/2006.11239, algorithm 2.

    `DDPMScheduler` in diffusers.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"timestep_spacing": "leading"}
    checks: ClassVar[Mapping[str, Check]] = {
        "thresholding": one_of(False),
        "variance_type": one_of("fixed_small", "fixed_small_log", "fixed_large", None),
    }
    stochastic: ClassVar[bool] = True
    has_karras: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.timesteps = np.round(spaced_timesteps(config, steps, steps)).astype(np.float32)
        timesteps = self.timesteps.astype(np.int64)
        if timesteps[0] >= config.num_train_timesteps:
            raise UserError(
                f"{steps} steps and steps_offset {config.steps_offset} go past the {config.num_train_timesteps}"
                " timesteps of the model; take fewer steps."
            )
        signal = np.append(alphas_cumprod(config).astype(np.float64)[timesteps], 1.0)
        check_signal(config, signal[0], "DDPM")
        self._alphas, self._sigmas = alphas_and_sigmas(signal)
        # Formulas (6) and (7) of the paper, for steps of any length.
        here, following = signal[:-1], signal[1:]
        beta = 1 - here / following
        variance = beta if config.variance_type == "fixed_large" else (1 - following) / (1 - here) * beta
        self._of_x0: list[float] = (np.sqrt(following) * beta / (1 - here)).tolist()
        self._of_x: list[float] = (np.sqrt(here / following) * (1 - following) / (1 - here)).tolist()
        self._deviation: list[float] = np.sqrt(np.maximum(variance, 1e-20)).tolist()
        self._clip = config.clip_sample_range if config.clip_sample else None

    def draws_noise(self, i: int) -> bool:
        return bool(self.timesteps[i] > 0)

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        if self._clip is not None:
            x0 = mx.clip(x0, -self._clip, self._clip)
        x = self._of_x0[i] * x0 + self._of_x[i] * x
        if self.draws_noise(i):
            x = x + self._deviation[i] * self._drawn(noise)
        return x, (x0,)
