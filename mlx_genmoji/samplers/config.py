"""NoiseConfig: the fields of a `scheduler_config.json`, and checks of which values are supported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import UserError

Check = tuple[Callable[[Any], bool], str]
"""A predicate of a config field's value, and a description of the supported values for the error message."""


def one_of(*values: Any) -> Check:
    return lambda value: value in values, " or ".join(str(value) for value in values)


def number(low: float, high: float) -> Check:
    def accepts(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    return accepts, f"a number from {low:g} to {high:g}"


def whole(check: Check) -> Check:
    return lambda value: isinstance(value, int) and check[0](value), f"whole, {check[1]}"


def optional(check: Check) -> Check:
    return lambda value: value is None or check[0](value), check[1]


def list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check[0], value)), f"a list, each {check[1]}"


FLAG = one_of(False, True, None)
OFF = one_of(False, None)
# In float32, 1 - beta is 1 for any smaller beta.
_BETA = number(1e-7, 0.9999)
_SIGMA = number(1e-6, 1e6)

_SUPPORTED: dict[str, Check] = {
    "num_train_timesteps": whole(number(2, 100_000)),
    "beta_start": _BETA,
    "beta_end": _BETA,
    "beta_schedule": one_of("linear", "scaled_linear", "squaredcos_cap_v2"),
    "trained_betas": optional(list_of(_BETA)),
    "rescale_betas_zero_snr": FLAG,
    "prediction_type": one_of("epsilon", "v_prediction", "sample"),
    "timestep_spacing": one_of("leading", "trailing", "linspace"),
    "steps_offset": whole(number(0, 100_000)),
    "set_alpha_to_one": FLAG,
    "clip_sample": FLAG,
    "clip_sample_range": number(1e-6, 1e6),
    "interpolation_type": one_of("linear", "log_linear"),
    "use_karras_sigmas": FLAG,
    "sigma_min": optional(_SIGMA),
    "sigma_max": optional(_SIGMA),
    "final_sigmas_type": one_of("zero", "sigma_min"),
    "lambda_min_clipped": number(-math.inf, 100),
    "lower_order_final": FLAG,
    "euler_at_final": FLAG,
    "sigma_data": _SIGMA,
    "sigma_schedule": one_of("karras", "exponential"),
    "rho": number(1, 100),
}


@dataclass(frozen=True)
class NoiseConfig:
    """The fields of a `scheduler_config.json` that samplers use, with the defaults of diffusers' classes.

    The last seven are checked by the samplers that use them: two by `LCM` and `TCD`, four by `UniPC`, one by `DDPM`.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: list[float] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    interpolation_type: str = "linear"
    use_karras_sigmas: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: str = "zero"
    lambda_min_clipped: float = -math.inf
    lower_order_final: bool = True
    euler_at_final: bool = False
    sigma_data: float = 0.5
    """This one and the next two: of the EDM samplers."""
    sigma_schedule: str = "karras"
    rho: float = 7.0
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    solver_order: int = 2
    solver_type: str = "bh2"
    predict_x0: bool = True
    disable_corrector: list[int] = field(default_factory=list)
    variance_type: str | None = None

    @classmethod
    def read(cls, config: Mapping[str, Any], **defaults: Any) -> NoiseConfig:
        """The fields of `config`, completed by `defaults`. Raises UserError with the name and value of a bad field."""
        named = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        check(named, _SUPPORTED)
        noise_config = cls(**(defaults | named))
        betas, timesteps = noise_config.trained_betas, noise_config.num_train_timesteps
        if betas is not None and len(betas) != timesteps:
            raise UserError(
                f"scheduler_config.json: trained_betas holds {len(betas)} numbers,"
                f" but num_train_timesteps is {timesteps}."
            )
        return noise_config


def check(config: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Raise UserError for the first field whose value does not pass its check, naming both."""
    for name, (accepts, supported) in checks.items():
        if name in config and not accepts(config[name]):
            value = repr(config[name])[:80]
            raise UserError(f"scheduler_config.json: {name} {value} is not supported, only {supported}.")
