"""What a UNet has to be told and what has to be made of its answer, so that Apple's schedulers can use it.

They know one way: the prediction of epsilon at whole timesteps below 1000, with the betas of the first Stable Diffusion
(`DPMSolverMultistepScheduler.swift`, `PNDMScheduler.swift`). Latents are x = alpha * x0 + sigma * epsilon with alpha**2
+ sigma**2 = 1 in theirs and in every model's training, so a latent of theirs is one of the model's at the timestep,
whole or not, at which the model's signal is as strong: only the timestep and the prediction have to be converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_genmoji.samplers import NoiseConfig, alphas_cumprod

APPLES = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}

# Betas are written with a few digits, and rounded by whoever reads them.
SAME = 1e-4


@dataclass(frozen=True)
class Levels:
    """For each of Apple's timesteps; float32 (1000,)."""

    timesteps: np.ndarray
    """Those of the model."""
    alphas: np.ndarray
    sigmas: np.ndarray
    prediction_type: str
    """What the model predicts: epsilon, v_prediction or sample."""

    @classmethod
    def of(cls, scheduler: Mapping[str, Any]) -> Levels:
        """Of a `scheduler_config.json`. Raises UserError where it is not supported."""
        config = NoiseConfig.read(scheduler)
        theirs, ours = (alphas_cumprod(which).astype(np.float64) for which in (APPLES, config))
        with np.errstate(divide="ignore"):
            strengths = [np.log(signal) - np.log1p(-signal) for signal in (theirs, ours)]
        own = np.arange(len(ours))
        timesteps = np.interp(-strengths[0], -strengths[1], own)
        if len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=SAME, atol=0):
            timesteps = own.astype(np.float64)
        single = [part.astype(np.float32) for part in (timesteps, np.sqrt(theirs), np.sqrt(1 - theirs))]
        return cls(single[0], single[1], single[2], config.prediction_type)

    @property
    def same_timesteps(self) -> bool:
        return bool(np.array_equal(self.timesteps, np.arange(len(self.timesteps))))

    def epsilon(self, output: Any, sample: Any, timesteps: np.ndarray) -> Any:
        """epsilon (B, ...) of what the model says of samples at Apple's timesteps, whole numbers (B,)."""
        alphas, sigmas = (
            level[timesteps].reshape(-1, *[1] * (sample.ndim - 1)) for level in (self.alphas, self.sigmas)
        )
        if self.prediction_type == "epsilon":
            return output
        if self.prediction_type == "v_prediction":
            return alphas * output + sigmas * sample
        return (sample - alphas * output) / sigmas
