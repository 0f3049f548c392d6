"""The conversion between a model's noise schedule and Apple's, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from mlx_genmoji.files import read_json
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.samplers import alphas_cumprod
from quantize.export.apple_schedule import APPLE_BETAS, AppleSchedule


def test_a_model_with_apples_betas_keeps_its_timesteps() -> None:
    schedule = AppleSchedule.for_model({**APPLE_BETAS, "prediction_type": "v_prediction"})
    assert schedule.same_timesteps
    assert schedule.prediction_type == "v_prediction"


def test_a_models_timestep_has_the_alpha_of_apples() -> None:
    scheduler = read_json(BUILTIN / "scheduler" / "scheduler_config.json")
    schedule = AppleSchedule.for_model(scheduler)
    assert not schedule.same_timesteps
    model_alphas = np.sqrt(alphas_cumprod(scheduler))
    assert np.allclose(np.interp(schedule.timesteps, np.arange(1000), model_alphas), schedule.alphas, atol=2e-5)
    assert (np.diff(schedule.timesteps) > 0).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_epsilon_is_that_of_the_best_guess(prediction: str) -> None:
    # For data with the variance s**2 the best guess of x0 is known: alpha s**2 / (alpha**2 s**2 + sigma**2) x.
    schedule = AppleSchedule.for_model({**APPLE_BETAS, "prediction_type": prediction})
    timesteps, s = np.array([1, 500, 999]), 0.7
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4))
    alpha, sigma = (
        numbers[timesteps].astype(np.float64)[:, None, None, None] for numbers in (schedule.alphas, schedule.sigmas)
    )
    x0 = alpha * s**2 / (alpha**2 * s**2 + sigma**2) * x
    epsilon = (x - alpha * x0) / sigma
    output = {"epsilon": epsilon, "v_prediction": alpha * epsilon - sigma * x0, "sample": x0}[prediction]
    assert np.allclose(schedule.epsilon(output, x, timesteps), epsilon, rtol=1e-3, atol=1e-5)
