"""Scheduler configs, as their makers ship them and variants, and what the tests of samplers share."""

import math
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import torch

TOLERANCE = 1e-5
Config = dict[str, Any]

# As their makers ship them.
STABLE_DIFFUSION_1: Config = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
STABLE_DIFFUSION_2: Config = STABLE_DIFFUSION_1 | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
STABLE_DIFFUSION_XL: Config = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
TURBO: Config = STABLE_DIFFUSION_XL | {"timestep_spacing": "trailing"}
ZERO_SNR: Config = STABLE_DIFFUSION_2 | {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
DPM: Config = STABLE_DIFFUSION_XL | {
    "_class_name": "DPMSolverMultistepScheduler",
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "lower_order_final": True,
    "lambda_min_clipped": -math.inf,
    "variance_type": None,
}
LCM: Config = STABLE_DIFFUSION_1 | {
    "_class_name": "LCMScheduler",
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
UNIPC: Config = DPM | {
    "_class_name": "UniPCMultistepScheduler",
    "solver_type": "bh2",
    "predict_x0": True,
    "disable_corrector": [],
    "timestep_spacing": "linspace",
}
SHORT: Config = {"num_train_timesteps": 50, "beta_start": 0.001, "beta_end": 0.3, "clip_sample": False}

CONFIGS: dict[str, Config] = {
    "stable diffusion 1": STABLE_DIFFUSION_1,
    "stable diffusion 2": STABLE_DIFFUSION_2,
    "stable diffusion xl": STABLE_DIFFUSION_XL,
    "turbo": TURBO,
    "zero snr": ZERO_SNR,
    "dpm": DPM,
    "defaults": {},
    "short": SHORT,
    "short, offset": SHORT | {"steps_offset": 3, "timestep_spacing": "leading"},
    "sample": STABLE_DIFFUSION_1 | {"prediction_type": "sample"},
    "clipped": STABLE_DIFFUSION_1 | {"clip_sample": True, "clip_sample_range": 0.7},
    "alpha to one": STABLE_DIFFUSION_1 | {"set_alpha_to_one": True, "steps_offset": 0},
    "linspace": STABLE_DIFFUSION_1 | {"timestep_spacing": "linspace"},
    "leading": STABLE_DIFFUSION_1 | {"timestep_spacing": "leading", "steps_offset": 0},
    "leading v": STABLE_DIFFUSION_2 | {"timestep_spacing": "leading"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False, "timestep_spacing": "leading"},
    "cosine, clipped lambda": {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False, "lambda_min_clipped": -5.1},
    "cosine, clipped lambda, trailing": {
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": False,
        "lambda_min_clipped": -5.1,
        "timestep_spacing": "trailing",
    },
    "trained betas": {"trained_betas": np.linspace(0.002, 0.05, 200).tolist(), "num_train_timesteps": 200},
    "karras": STABLE_DIFFUSION_XL | {"use_karras_sigmas": True},
    "karras, trailing v": ZERO_SNR | {"use_karras_sigmas": True},
    "karras, linspace": DPM | {"use_karras_sigmas": True, "timestep_spacing": "linspace"},
    "karras, limits": DPM | {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 9.5},
    "karras, cosine": {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True, "clip_sample": False},
    "log-linear": STABLE_DIFFUSION_XL | {"interpolation_type": "log_linear"},
    "sigma min": STABLE_DIFFUSION_XL | {"final_sigmas_type": "sigma_min"},
    "sigma min, linspace": DPM | {"final_sigmas_type": "sigma_min", "timestep_spacing": "linspace"},
    "higher order final": DPM | {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    "euler at final": DPM | {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
}
STEPS = [1, 2, 4, 10, 25, 47]


def outputs(count: int) -> Iterator[np.ndarray]:
    noise = np.random.default_rng(0)
    for _ in range(count):
        yield noise.standard_normal((2, 4, 3, 4)).astype(np.float32)


def distance(actual: mx.array, expected: torch.Tensor | np.ndarray) -> float:
    wanted = np.asarray(expected, np.float64)
    return float(np.linalg.norm(np.array(actual) - wanted) / np.linalg.norm(wanted))


def rotated(values: list[Any], by: int) -> list[Any]:
    """The values, beginning with another one for each number: how each pair is covered without every combination."""
    by %= len(values)
    return values[by:] + values[:by]
