"""PNDM, also called PLMS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..errors import UserError
from . import History, Schedule
from .noise import Check, NoiseConfig, alphas_and_sigmas, alphas_cumprod, one_of, spaced_timesteps

# Adams-Bashforth, by the number of model outputs, newest first.
_WEIGHTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
MAX_KEPT = 5


class PNDM(Schedule):
    """Pseudo linear multistep method of order 4: Liu et al. 2022, https://arxiv.org/abs/2202.09778, without the
    Runge-Kutta steps. `PNDMScheduler` in diffusers with `skip_prk_steps`, as Stable Diffusion 1.x ships it.

    The second timestep occurs twice: the first step is taken once by Euler's method, then again with the mean of two
    predictions. The history is the prediction of x0, the latents where the first step began, and the model outputs of
    up to five steps, newest first.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"timestep_spacing": "leading", "set_alpha_to_one": False}
    checks: ClassVar[Mapping[str, Check]] = {
        "skip_prk_steps": one_of(True, None),
        "prediction_type": one_of("epsilon", "v_prediction"),
    }
    ignored: ClassVar[frozenset[str]] = frozenset({"rescale_betas_zero_snr", "use_karras_sigmas"})
    has_karras: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        timesteps = np.round(spaced_timesteps(config, steps, steps)).astype(np.int64)
        if timesteps[0] >= config.num_train_timesteps:
            raise UserError(
                f"{steps} steps and steps_offset {config.steps_offset} go past the {config.num_train_timesteps}"
                " timesteps of the model; take fewer steps."
            )
        timesteps = np.concatenate([timesteps[:2], timesteps[1:]])
        self.timesteps = timesteps.astype(np.float32)
        signal = alphas_cumprod(config).astype(np.float64)
        self._alphas, self._sigmas = alphas_and_sigmas(signal[timesteps])
        # The last entry, at -1, is where steps past the first timestep end.
        table = np.append(signal, 1.0 if config.set_alpha_to_one else signal[0])
        self._all_alphas, self._all_sigmas = alphas_and_sigmas(table)
        self._stride = config.num_train_timesteps // steps

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        model_output = model_output.astype(mx.float32)
        x0, _ = self._predictions(model_output, x, i)
        timestep = int(self.timesteps[i])
        if len(history) == 3:
            _, begin, first = history
            x = self._transfer((model_output + first) / 2, begin, timestep + self._stride, timestep)
            return x, (x0, begin, model_output, first)
        begin, *past = history[1:] or (x,)
        outputs = [model_output, *past]
        if 3 <= len(outputs) <= MAX_KEPT:
            # The output of the repeated step, the last but one, counts in that step only.
            del outputs[-2]
        weights = _WEIGHTS[min(len(outputs), len(_WEIGHTS)) - 1]
        combined = weights[0] * outputs[0]
        for weight, output in zip(weights[1:], outputs[1:], strict=False):
            combined = combined + weight * output
        following = self._transfer(combined, x, timestep, timestep - self._stride)
        return following, (x0, begin, *(model_output, *past)[:MAX_KEPT])

    def _transfer(self, output: mx.array, x: mx.array, timestep: int, following: int) -> mx.array:
        """Formula (9) of the paper: the latents at timestep `following` from those at `timestep`."""
        following = max(following, -1)
        alpha, sigma = self._all_alphas[timestep], self._all_sigmas[timestep]
        next_alpha, next_sigma = self._all_alphas[following], self._all_sigmas[following]
        if self.prediction_type == "v_prediction":
            output = alpha * output + sigma * x
        divisor = alpha**2 * next_sigma + alpha * sigma * next_alpha
        return next_alpha / alpha * x - (next_alpha**2 - alpha**2) / divisor * output
