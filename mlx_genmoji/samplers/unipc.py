"""The UniPC sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import mlx.core as mx
import numpy as np

from . import History, Schedule
from .noise import (
    FLAG,
    OFF,
    Check,
    NoiseConfig,
    alphas_and_sigmas,
    list_of,
    multistep_sigmas,
    number,
    one_of,
    sigma_table,
    whole,
    with_final,
)


class UniPC(Schedule):
    """UniPC of order 1 to 3: Zhao et al. 2023, https://arxiv.org/abs/2302.04867, algorithms 5 to 8.

    A step predicts the next latents (UniP). The step after it first corrects them with its own model output (UniC) and
    then predicts in turn. Equal to `UniPCMultistepScheduler` in diffusers.

    The history is: the prediction of x0; the latents of the previous step; the model's predictions at up to
    `solver_order` steps, newest first. These are of x0, or of the noise if `predict_x0` is false.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        "solver_order": one_of(1, 2, 3),
        # diffusers reads the solvers of DPM-Solver as bh2.
        "solver_type": one_of("bh1", "bh2", "midpoint", "heun", "logrho"),
        "predict_x0": FLAG,
        "disable_corrector": list_of(whole(number(0, 100_000))),
        "solver_p": one_of(None),
        "thresholding": one_of(False),
        "use_exponential_sigmas": OFF,
        "use_beta_sigmas": OFF,
        "use_flow_sigmas": OFF,
        "use_dynamic_shifting": OFF,
    }

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        self.timesteps, sigmas = multistep_sigmas(config, steps, table)
        smallest = sigmas[-1] if config.use_karras_sigmas else table[0]
        ratios = with_final(sigmas, config, smallest).astype(np.float64)
        self._alphas, self._sigmas = alphas_and_sigmas(1 / (ratios**2 + 1))
        with np.errstate(divide="ignore"):
            self._lambdas: list[float] = (-np.log(ratios)).tolist()
        self._config = config

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, epsilon = self._predictions(model_output, x, i)
        prediction = x0 if self._config.predict_x0 else epsilon
        models: History = ()
        if history:
            _, before, *earlier = history
            models = tuple(earlier)
            if i - 1 not in self._config.disable_corrector:
                x = self._advance(i - 1, before, models, prediction)
        models = (prediction, *models)[: self._config.solver_order]
        return self._advance(i, x, models), (x0, x, *models)

    def _advance(self, i: int, x: mx.array, models: History, ahead: mx.array | None = None) -> mx.array:
        """Compute the latents of step `i + 1` from those of step `i`.

        models: the predictions at step `i` and before, newest first. ahead: the prediction at step `i + 1`; with it the
        result is UniC's, without it UniP's. Variables are named as in the paper; h is the logarithm of the factor of x,
        with diffusers' sign.
        """
        scales, other = (self._sigmas, self._alphas) if self._config.predict_x0 else (self._alphas, self._sigmas)
        kept = scales[i + 1] / scales[i]
        gain = kept * other[i] - other[i + 1]
        here, there = self._lambdas[i], self._lambdas[i + 1]
        h = here - there if self._config.predict_x0 else there - here
        earlier = range(1, self._order(i, len(models)))
        r = [(self._lambdas[i - k] - here) / (there - here) for k in earlier]
        differences = [(models[k] - models[0]) / r[k - 1] for k in earlier]
        if ahead is not None:
            r.append(1.0)
            differences.append(ahead - models[0])
        x = kept * x - gain * models[0]
        if not differences:
            return x
        b = gain if self._config.solver_type != "bh1" else other[i + 1] * h
        for rho, difference in zip(_rho(r, h, b / other[i + 1]), differences, strict=True):
            x = x - b * rho * difference
        return x

    def _order(self, i: int, known: int) -> int:
        """The order of the solver at step `i`, with `known` predictions in the history."""
        if self._lambdas[i + 1] in (math.inf, self._lambdas[i]):
            return 1
        left = len(self.timesteps) - i if self._config.lower_order_final else known
        return min(self._config.solver_order, left, known)


def _rho(r: list[float], h: float, b: float) -> list[float]:
    """The weights of the differences of predictions, by solving the paper's equation (5).

    r: the places of the earlier predictions relative to the step; h: the step in log SNR / 2; b: the paper's B(h).
    """
    if len(r) == 1:
        return [0.5]
    # h phi_k+1(h) of the paper, from k = 1 on.
    h_phi, right_side = math.expm1(h) / h - 1, []
    for k in range(1, len(r) + 1):
        right_side.append(h_phi * math.factorial(k) / b)
        h_phi = h_phi / h - 1 / math.factorial(k + 1)
    rho: list[float] = np.linalg.solve(np.vander(r, increasing=True).T, right_side).tolist()
    return rho
