"""The DPM-Solver++ sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import mlx.core as mx
import numpy as np

from . import History, Schedule
from .noise import OFF, Check, NoiseConfig, alphas_and_sigmas, multistep_sigmas, one_of, sigma_table, with_final


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
        "thresholding": one_of(False),
        "variance_type": one_of(None, "fixed_small", "fixed_large"),
        "use_exponential_sigmas": OFF,
        "use_beta_sigmas": OFF,
        "use_lu_lambdas": OFF,
        "use_flow_sigmas": OFF,
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
        correction = self._corrections[i]
        data = x0 + correction * (x0 - history[0]) if history and correction else x0
        decay = self._sigmas[i + 1] / self._sigmas[i]
        return decay * x - self._alphas[i + 1] * (self._exp_minus_h[i] - 1) * data, (x0,)
