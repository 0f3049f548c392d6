"""LMS, a linear multistep method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from . import History
from .euler import EulerLatents
from .noise import OFF, Check, NoiseConfig, karras_sigmas, sigma_table, spaced_timesteps, timesteps_of

ORDER = 4


class LMS(EulerLatents):
    """The Adams-Bashforth method of order 4 on the probability flow ODE: `sample_lms` of
    https://github.com/crowsonkb/k-diffusion. `LMSDiscreteScheduler` in diffusers.

    Its history is the prediction of x0 and the last derivatives, newest first.
    """

    checks: ClassVar[Mapping[str, Check]] = {"use_exponential_sigmas": OFF, "use_beta_sigmas": OFF}
    defaults: ClassVar[Mapping[str, Any]] = {}
    ignored: ClassVar[frozenset[str]] = frozenset(
        {"rescale_betas_zero_snr", "final_sigmas_type", "sigma_min", "sigma_max"}
    )

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = sigma_table(config)
        timesteps = spaced_timesteps(config, steps, steps).astype(np.float32)
        sigmas = np.interp(timesteps, np.arange(len(table)), table)
        if config.use_karras_sigmas:
            sigmas = karras_sigmas(config, sigmas[0], sigmas[-1], steps)
            timesteps = timesteps_of(sigmas, table)
        self._set_sigmas(config, timesteps, np.append(sigmas, 0))
        self._coefficients = [_coefficients(self._sigmas, i) for i in range(len(sigmas))]

    def step(
        self, model_output: mx.array, i: int, x: mx.array, history: History = (), noise: mx.array | None = None
    ) -> tuple[mx.array, History]:
        x0, _ = self._predictions(model_output, x, i)
        derivatives = ((x - x0) / self._sigmas[i], *history[1:])[:ORDER]
        # After a start from a picture there are fewer derivatives than coefficients; diffusers then drops the last.
        for coefficient, derivative in zip(self._coefficients[i], derivatives, strict=False):
            x = x + coefficient * derivative
        return x, (x0, *derivatives)


def _coefficients(sigmas: list[float], i: int) -> list[float]:
    """The weights of the derivatives at step `i`, newest first: integrals of Lagrange's polynomials over the step."""
    order = min(i + 1, ORDER)
    # Counted from the step's sigma, where the numbers are small and keep their digits.
    nodes = [sigmas[i - k] - sigmas[i] for k in range(order)]
    end = sigmas[i + 1] - sigmas[i]
    weights = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        scale = float(np.prod([node - other for other in others]))
        integral = np.polyint(np.poly(others)) if others else np.array([1.0, 0.0])
        weights.append(float(np.polyval(integral, end)) / scale)
    return weights
