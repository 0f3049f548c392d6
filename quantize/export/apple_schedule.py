"""Converts the timesteps and predictions of a UNet, so that Apple's schedulers can use it.

Apple's schedulers support one kind of model: it predicts epsilon at whole timesteps below 1000, with the betas of the
first Stable Diffusion (`DPMSolverMultistepScheduler.swift`, `PNDMScheduler.swift`). In theirs as in every model's
training, noisy latents are x = alpha * x0 + sigma * epsilon with alpha**2 + sigma**2 = 1. So noisy latents of Apple's
schedule are also latents of the model's, at the timestep, whole or not, with the same alpha: only the timestep and the
prediction have to be converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_genmoji.samplers import NoiseConfig, alphas_cumprod

APPLE_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}

# The relative difference below which two schedules are the same: betas in files have few digits.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class AppleSchedule:
    """The numbers of each of Apple's timesteps; float32 (1000,)."""

    timesteps: np.ndarray
    """The model's timestep with the same alpha."""
    alphas: np.ndarray
    sigmas: np.ndarray
    prediction_type: str
    """What the model predicts: epsilon, v_prediction or sample."""

    @classmethod
    def for_model(cls, scheduler: Mapping[str, Any]) -> AppleSchedule:
        """For a model with this `scheduler_config.json`. Raises UserError where that is not supported."""
        config = NoiseConfig.read(scheduler)
        theirs, ours = (alphas_cumprod(betas).astype(np.float64) for betas in (APPLE_BETAS, config))
        with np.errstate(divide="ignore"):
            log_snrs = [np.log(signal) - np.log1p(-signal) for signal in (theirs, ours)]
        model_timesteps = np.arange(len(ours))
        timesteps = np.interp(-log_snrs[0], -log_snrs[1], model_timesteps)
        if len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=TOLERANCE, atol=0):
            timesteps = model_timesteps.astype(np.float64)
        timesteps, alphas, sigmas = (
            numbers.astype(np.float32) for numbers in (timesteps, np.sqrt(theirs), np.sqrt(1 - theirs))
        )
        return cls(timesteps, alphas, sigmas, config.prediction_type)

    @property
    def same_timesteps(self) -> bool:
        """Whether the model's timesteps are Apple's."""
        return bool(np.array_equal(self.timesteps, np.arange(len(self.timesteps))))

    def epsilon(self, output: Any, sample: Any, timesteps: np.ndarray) -> Any:
        """The epsilon (B, ...) of the model's output for noisy samples at Apple's timesteps, integers (B,)."""
        alphas, sigmas = (
            numbers[timesteps].reshape(-1, *[1] * (sample.ndim - 1)) for numbers in (self.alphas, self.sigmas)
        )
        if self.prediction_type == "epsilon":
            return output
        if self.prediction_type == "v_prediction":
            return alphas * output + sigmas * sample
        return (sample - alphas * output) / sigmas
