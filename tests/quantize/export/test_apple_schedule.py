"""What is converted between a model's own noise schedule and Apple's, held against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from mlx_genmoji.files import read_json
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.samplers import alphas_cumprod
from quantize.export.apple_schedule import APPLES, Levels


def test_a_model_with_apples_betas_keeps_its_timesteps() -> None:
    levels = Levels.of({**APPLES, "prediction_type": "v_prediction"})
    assert levels.same_timesteps
    assert levels.prediction_type == "v_prediction"


def test_at_the_timestep_that_a_model_is_told_its_signal_is_as_strong() -> None:
    scheduler = read_json(BUILTIN / "scheduler" / "scheduler_config.json")
    levels = Levels.of(scheduler)
    assert not levels.same_timesteps
    own = np.sqrt(alphas_cumprod(scheduler))
    assert np.allclose(np.interp(levels.timesteps, np.arange(1000), own), levels.alphas, atol=2e-5)
    assert (np.diff(levels.timesteps) > 0).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_epsilon_is_that_of_the_best_guess(prediction: str) -> None:
    # Of data with the variance s**2 the best guess of x0 is known: alpha s**2 / (alpha**2 s**2 + sigma**2) x.
    levels = Levels.of({**APPLES, "prediction_type": prediction})
    timesteps, s = np.array([1, 500, 999]), 0.7
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4))
    alpha, sigma = (
        level[timesteps].astype(np.float64)[:, None, None, None] for level in (levels.alphas, levels.sigmas)
    )
    x0 = alpha * s**2 / (alpha**2 * s**2 + sigma**2) * x
    epsilon = (x - alpha * x0) / sigma
    said = {"epsilon": epsilon, "v_prediction": alpha * epsilon - sigma * x0, "sample": x0}[prediction]
    assert np.allclose(levels.epsilon(said, x, timesteps), epsilon, rtol=1e-3, atol=1e-5)
