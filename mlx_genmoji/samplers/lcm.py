"""Latent consistency (LCM) and trajectory consistency (TCD)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..errors import UserError
from . import History, Schedule
from .noise import Check, NoiseConfig, alphas_and_sigmas, alphas_cumprod, check_signal, number, one_of, whole

_SIGMA_DATA = 0.5


class LCM(Schedule):
    """Multistep latent consistency sampling: Luo et al. 2023, https://arxiv.org/abs/2310.04378, algorithm 3.

    Equal to `LCMScheduler` in diffusers. The model was distilled at `original_inference_steps` timesteps; the sampler
    uses a few of them. Each step predicts x0 directly; all steps but the last add new noise to it.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
    }
    checks: ClassVar[Mapping[str, Check]] = {
        "original_inference_steps": whole(number(1, 100_000)),
        "timestep_scaling": number(1e-6, 1e6),
        "thresholding": one_of(False),
    }
    stochastic: ClassVar[bool] = True
    has_spacing: ClassVar[bool] = False
    has_karras: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        original, trained = config.original_inference_steps, config.num_train_timesteps
        if original > trained:
            raise UserError(
                f"scheduler_config.json: original_inference_steps is {original}, but num_train_timesteps {trained}."
            )
        if steps > original:
            raise UserError(
                f"{type(self).__name__} takes up to {original} steps (original_inference_steps), not {steps}."
            )
        self._config = config
        self._is_whole = True
        self._clip = config.clip_sample_range if config.clip_sample else None
        self._choose(original)

    def _choose(self, count: int) -> None:
        """Choose the timesteps, evenly among the `count` least noisy ones that the model was distilled at."""
        config = self._config
        distilled = np.arange(count, 0, -1) * (config.num_train_timesteps // config.original_inference_steps) - 1
        timesteps = distilled[np.floor(np.linspace(0, count, self._steps, endpoint=False)).astype(np.int64)]
        self.timesteps = timesteps.astype(np.float32)
        signal = alphas_cumprod(config).astype(np.float64)[timesteps]
        check_signal(config, signal[0], type(self).__name__)
        self._alphas, self._sigmas = alphas_and_sigmas(signal)
        self._scaled: list[float] = (timesteps * float(config.timestep_scaling)).tolist()

    def of_strength(self, strength: float) -> LCM:
        """The schedule for image to image with a `strength` from 0 to 1, as in diffusers' LCM pipeline.

        It has as many steps as this one and starts at less noise. Raises UserError if the model was distilled at fewer
        steps below that noise.
        """
        self._check_strength(strength)
        original = self._config.original_inference_steps
        count = int(original * strength)
        if count < self._steps:
            raise UserError(
                f"A strength of {strength:g} leaves {count} of the {original} steps that {type(self).__name__} was"
                f" distilled at, not the {self._steps} asked for; take more strength or fewer steps."
            )
        schedule = copy(self)
        schedule._choose(count)
        schedule._is_whole = False
        return schedule

    def start(self, strength: float) -> int:
        return super().start(strength) if self._is_whole else 0

    def draws_noise(self, i: int) -> bool:
        return i + 1 < len(self.timesteps)

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        if self._clip is not None:
            x0 = mx.clip(x0, -self._clip, self._clip)
        # The boundary condition of a consistency model: Song et al. 2023, https://arxiv.org/abs/2303.01469, appendix C.
        length = math.hypot(self._scaled[i], _SIGMA_DATA)
        c_skip, c_out = (_SIGMA_DATA / length) ** 2, self._scaled[i] / length
        x0 = c_out * x0 + c_skip * x
        if i + 1 == len(self.timesteps):
            return x0, (x0,)
        return self.add_noise(x0, self._drawn(noise), i + 1), (x0,)


class TCD(LCM):
    """Trajectory consistency: Zheng et al. 2024, https://arxiv.org/abs/2402.19159, algorithm 4 with gamma 0.

    `TCDScheduler` in diffusers, whose pipelines pass an `eta` of 0. The timesteps are those of LCM.
    """

    stochastic: ClassVar[bool] = False

    def _choose(self, count: int) -> None:
        super()._choose(count)
        # The last step ends at timestep 0, not without noise.
        signal = alphas_cumprod(self._config).astype(np.float64)[:1]
        alphas, sigmas = alphas_and_sigmas(signal)
        self._alphas, self._sigmas = self._alphas + alphas, self._sigmas + sigmas

    def draws_noise(self, i: int) -> bool:
        return False

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, epsilon = self._predictions(model_output, x, i)
        return self.add_noise(x0, epsilon, i + 1), (x0,)
