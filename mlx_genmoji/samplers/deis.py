"""DEIS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import mlx.core as mx
import numpy as np

from . import History, Schedule
from .noise import OFF, Check, NoiseConfig, alphas_and_sigmas, multistep_sigmas, one_of, sigma_table

MAX_FEW_STEPS = 15


class DEIS(Schedule):
    """DEIS in log-rho, of order 1 to 3: Zhang and Chen 2022, https://arxiv.org/abs/2204.13902, section 4.

    `DEISMultistepScheduler` in diffusers. Its history is the prediction of x0, and the predictions of the noise of up
    to `solver_order` steps, newest first.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        # diffusers reads the algorithms and solvers of DPM-Solver and UniPC as these two.
        "algorithm_type": one_of("deis", "dpmsolver", "dpmsolver++"),
        "solver_type": one_of("logrho", "midpoint", "heun", "bh1", "bh2"),
        "solver_order": one_of(1, 2, 3),
        "thresholding": one_of(False),
        "use_exponential_sigmas": OFF,
        "use_beta_sigmas": OFF,
        "use_flow_sigmas": OFF,
    }
    ignored: ClassVar[frozenset[str]] = frozenset({"rescale_betas_zero_snr", "final_sigmas_type", "lambda_min_clipped"})

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        self.timesteps, sigmas = multistep_sigmas(config, steps, table)
        last = sigmas[-1] if config.use_karras_sigmas else table[0]
        ratios = np.append(sigmas, last).astype(np.float32).astype(np.float64)
        self._alphas, self._sigmas = alphas_and_sigmas(1 / (ratios**2 + 1))
        self._ratios: list[float] = ratios.tolist()
        self._solver_order, self._lower_order_final = config.solver_order, config.lower_order_final

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, epsilon = self._predictions(model_output, x, i)
        outputs = (epsilon, *history[1:])[: self._solver_order]
        order = self._order(i, len(outputs))
        change = x / self._alphas[i]
        for output, weight in zip(outputs, self._weights(i, order), strict=False):
            change = change + weight * output
        return self._alphas[i + 1] * change, (x0, *outputs)

    def _order(self, i: int, known: int) -> int:
        left = len(self.timesteps) - i
        few = self._lower_order_final and len(self.timesteps) < MAX_FEW_STEPS
        return min(known, left) if few else known

    def _weights(self, i: int, order: int) -> list[float]:
        """The weights of the noise predictions, newest first: integrals over rho, the ratio of noise to signal, of
        Lagrange's polynomials in its logarithm.
        """
        begin, end = self._ratios[i], self._ratios[i + 1]
        nodes = [float(np.log(self._ratios[i - k])) for k in range(order)]
        weights = []
        for j, node in enumerate(nodes):
            others = [other for k, other in enumerate(nodes) if k != j]
            scale = float(np.prod([node - other for other in others])) if others else 1.0
            polynomial = np.poly(others) if others else np.array([1.0])
            weights.append((_integral(polynomial, end) - _integral(polynomial, begin)) / scale)
        return weights


def _integral(polynomial: np.ndarray, rho: float) -> float:
    """The antiderivative of `polynomial(log(rho))` at rho: of log(rho)**n it is rho times the sum over k of
    (-1)**k n! / (n - k)! log(rho)**(n - k).
    """
    total, derivative, sign = 0.0, polynomial, 1.0
    while len(derivative) and derivative.any():
        total += sign * float(np.polyval(derivative, np.log(rho)))
        derivative, sign = np.polyder(derivative), -sign
        if len(derivative) == 1 and not derivative.any():
            break
    return rho * total
