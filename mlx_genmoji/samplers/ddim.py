"""The DDIM sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..errors import UserError
from . import History, Schedule
from .noise import Check, NoiseConfig, alphas_and_sigmas, alphas_cumprod, check_signal, one_of, spaced_timesteps


class DDIM(Schedule):
    """DDIM with eta 0, which adds no noise: Song et al. 2020, https://arxiv.org/abs/2010.02502, formula (12).

    Equal to `DDIMScheduler` in diffusers.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"timestep_spacing": "leading"}
    checks: ClassVar[Mapping[str, Check]] = {"thresholding": one_of(False)}
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
        signal = alphas_cumprod(config).astype(np.float64)
        check_signal(config, signal[timesteps[0]], "DDIM")
        # As in diffusers, the next timestep is a stride away whatever the spacing.
        following = timesteps - config.num_train_timesteps // steps
        last_signal = 1.0 if config.set_alpha_to_one else signal[0]
        next_signal = np.where(following >= 0, signal[following], last_signal)
        self._alphas, self._sigmas = alphas_and_sigmas(signal[timesteps])
        self._next_alphas, self._next_sigmas = alphas_and_sigmas(next_signal)
        self._clip = config.clip_sample_range if config.clip_sample else None

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, epsilon = self._predictions(model_output, x, i)
        if self._clip is not None:
            x0 = mx.clip(x0, -self._clip, self._clip)
        return self._next_alphas[i] * x0 + self._next_sigmas[i] * epsilon, (x0,)
