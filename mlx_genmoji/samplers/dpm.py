"""The DPM-Solver++ sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from . import History, Schedule
from .noise import FLAG, OFF, Check, NoiseConfig, alphas_and_sigmas, multistep_sigmas, one_of, sigma_table, with_final

_UNUSED: Mapping[str, Check] = {
    "thresholding": one_of(False),
    "variance_type": one_of(None, "fixed_small", "fixed_large"),
    "use_exponential_sigmas": OFF,
    "use_beta_sigmas": OFF,
    "use_lu_lambdas": OFF,
    "use_flow_sigmas": OFF,
}


class DPMSolverPlusPlus2M(Schedule):
    """DPM-Solver++(2M), of second order: Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2.

    Equal to `DPMSolverMultistepScheduler` in diffusers with `solver_order` 2 and `solver_type` midpoint. Its history is
    the x0 that the previous step predicted.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        # diffusers reads the algorithms and solvers of DEIS and UniPC as these two.
        "algorithm_type": one_of("dpmsolver++", "deis"),
        "solver_type": one_of("midpoint", "logrho", "bh1", "bh2"),
        "solver_order": one_of(2),
        **_UNUSED,
    }

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        # Lambda is -log(sigma / alpha), and falls with the timestep.
        last = int(np.count_nonzero(-np.log(table) >= config.lambda_min_clipped))
        self.timesteps, sigmas = multistep_sigmas(
            config, steps, table, last=last, rounded=config.beta_schedule != "squaredcos_cap_v2"
        )
        ratios = with_final(sigmas, config, table[0]).astype(np.float64)
        self._alphas, self._sigmas = alphas_and_sigmas(1 / (ratios**2 + 1))
        with np.errstate(divide="ignore"):
            h = -np.diff(np.log(ratios))
        self._exp_minus_h: list[float] = (ratios[1:] / ratios[:-1]).tolist()
        # 1 / (2 r) of the paper; without it, a step is of first order.
        self._corrections = [0.0, *(0.5 * h[1:] / h[:-1]).tolist()]
        few = config.lower_order_final and len(sigmas) < 15
        if config.euler_at_final or few or config.final_sigmas_type == "zero":
            self._corrections[-1] = 0.0

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        data = self._corrected(x0, i, history)
        decay = self._sigmas[i + 1] / self._sigmas[i]
        return decay * x - self._alphas[i + 1] * (self._exp_minus_h[i] - 1) * data, (x0,)

    def _corrected(self, x0: mx.array, i: int, history: History) -> mx.array:
        """The prediction of x0, extrapolated along that of the step before."""
        correction = self._corrections[i]
        return x0 + correction * (x0 - history[0]) if history and correction else x0


class DPMSolverPlusPlus2MSDE(DPMSolverPlusPlus2M):
    """SDE-DPM-Solver++(2M): the same with part of the noise drawn anew at each step; Lu et al. 2022, appendix.

    `DPMSolverMultistepScheduler` in diffusers, with the `algorithm_type` sde-dpmsolver++.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        **DPMSolverPlusPlus2M.checks,
        "algorithm_type": one_of("sde-dpmsolver++", "dpmsolver++", "deis"),
    }
    stochastic: ClassVar[bool] = True

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        data = self._corrected(x0, i, history)
        decay = self._exp_minus_h[i]
        kept = self._sigmas[i + 1] / self._sigmas[i] * decay
        share = 1 - decay**2
        added = self._sigmas[i + 1] * math.sqrt(max(share, 0))
        return kept * x + self._alphas[i + 1] * share * data + added * self._drawn(noise), (x0,)


class DPMSolverPlusPlus2S(Schedule):
    """DPM-Solver++(2S): Lu et al. 2022, algorithm 1. Pairs of steps: the first of each pair is of first order, and the
    second takes both at once, from where the pair began. `DPMSolverSinglestepScheduler` in diffusers.

    Its history is the prediction of x0, and the latents where the pair began.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        "algorithm_type": one_of("dpmsolver++", "deis"),
        "solver_type": one_of("midpoint", "logrho", "bh1", "bh2"),
        "solver_order": one_of(2),
        "lower_order_final": FLAG,
        **_UNUSED,
    }
    defaults: ClassVar[Mapping[str, Any]] = {"lower_order_final": False}
    ignored: ClassVar[frozenset[str]] = frozenset({"rescale_betas_zero_snr", "timestep_spacing", "steps_offset"})
    has_spacing: ClassVar[bool] = False

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        last = int(np.count_nonzero(-np.log(table) >= config.lambda_min_clipped))
        self.timesteps, sigmas = multistep_sigmas(config, steps, table, last=last)
        ratios = with_final(sigmas, config, table[0]).astype(np.float64)
        self._alphas, self._sigmas = alphas_and_sigmas(1 / (ratios**2 + 1))
        self._ratios: list[float] = ratios.tolist()
        zero = config.final_sigmas_type == "zero"
        self._second_order = [i % 2 == 1 for i in range(steps)]
        if zero or ((config.lower_order_final or steps % 2) and steps % 2 == 0):
            self._second_order[-1] = False

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        if not (history and self._second_order[i]):
            return self._whole_step(x, x0, i, i + 1), (x0, x)
        before, begin = history
        with np.errstate(divide="ignore"):
            here, middle, end = -np.log(np.array(self._ratios[i - 1 : i + 2]))
        # 1 / (2 r) of the paper.
        correction = float(0.5 * (end - here) / (middle - here))
        return self._whole_step(begin, before + correction * (x0 - before), i - 1, i + 1), (x0, begin)

    def _whole_step(self, x: mx.array, data: mx.array, i: int, end: int) -> mx.array:
        """The latents of step `end` from those of step `i`, with `data` as the prediction of x0 on the way."""
        decay = self._ratios[end] / self._ratios[i]
        return self._sigmas[end] / self._sigmas[i] * x - self._alphas[end] * (decay - 1) * data
