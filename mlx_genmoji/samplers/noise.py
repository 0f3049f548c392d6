"""The noise schedule of a model, for training and sampling; the noise that a seed gives.

`NoiseConfig` has the fields of a `scheduler_config.json` that say so, and those that samplers use.

The second half plans a generation: its timesteps, and its sigmas, the ratios `sigma / alpha` of noise to signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import mlx.core as mx
import numpy as np

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


def alphas_cumprod(config: Mapping[str, Any] | NoiseConfig) -> np.ndarray:
    """The signal `alpha**2` at each training timestep: float32, `(num_train_timesteps,)`, decreasing.

    config: the fields of `scheduler_config.json`. Values are rounded as in diffusers' schedulers. Raises UserError if a
    field is not supported or the betas leave no signal at all.
    """
    if not isinstance(config, NoiseConfig):
        config = NoiseConfig.read(config)
    signal = _cumulative_product(1 - _betas(config))
    if signal[-1] < 1e-30:
        raise UserError("scheduler_config.json: the betas (beta_start, beta_end, trained_betas) leave no signal.")
    return _rescaled_to_zero_terminal_snr(signal) if config.rescale_betas_zero_snr else signal


def _betas(config: NoiseConfig) -> np.ndarray:
    """The variance of the noise that each training timestep adds: float32, `(num_train_timesteps,)`."""
    count = config.num_train_timesteps
    if config.trained_betas is not None:
        return np.array(config.trained_betas, dtype=np.float32)
    if config.beta_schedule == "linear":
        return linspace(config.beta_start, config.beta_end, count)
    if config.beta_schedule == "scaled_linear":
        return linspace(config.beta_start**0.5, config.beta_end**0.5, count) ** 2
    # Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672
    signal = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return np.array([min(1 - signal[i + 1] / signal[i], 0.999) for i in range(count)], dtype=np.float32)


def linspace(start: float, end: float, count: int) -> np.ndarray:
    """`count` evenly spaced numbers, rounded as by `torch.linspace` in float32, which computes from both ends."""
    first, last = np.float32(start), np.float32(end)
    step = float((last - first) / np.float32(count - 1))
    i = np.arange(count)
    return np.where(i < count // 2, float(first) + step * i, float(last) - step * (count - 1 - i)).astype(np.float32)


def _cumulative_product(factors: np.ndarray) -> np.ndarray:
    """The cumulative product, computed in float64 as by torch on a CPU; returned in float32."""
    return np.cumprod(factors.astype(np.float64)).astype(np.float32)


def _rescaled_to_zero_terminal_snr(signal: np.ndarray) -> np.ndarray:
    """Rescale the signal so that the last timestep is pure noise: Lin et al. 2023, https://arxiv.org/abs/2305.08891,
    algorithm 1.
    """
    alphas = np.sqrt(signal)
    first, last = alphas[0], alphas[-1]
    signal = ((alphas - last) * (first / (first - last))) ** 2
    # To betas and back, for the roundings of diffusers.
    betas = 1 - np.concatenate([signal[:1], signal[1:] / signal[:-1]])
    return _cumulative_product(1 - betas)


def add_noise(x0: mx.array, noise: mx.array, signal: mx.array) -> mx.array:
    """Noisy latents for training, `alpha * x0 + sigma * noise`, of the shape of `x0`, (B, ...).

    noise: standard normal, of the same shape. signal: `alphas_cumprod` at each sample's timestep, (B,).
    """
    alpha, sigma = _broadcast(signal, x0)
    return alpha * x0 + sigma * noise


def training_target(prediction_type: str, x0: mx.array, noise: mx.array, signal: mx.array) -> mx.array:
    """The target of a model's output for the input `add_noise(x0, noise, signal)`, of the shape of `x0`.

    prediction_type: "epsilon", "v_prediction" or "sample".
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        alpha, sigma = _broadcast(signal, x0)
        return alpha * noise - sigma * x0
    return x0


def step_noise(seed: int, i: int, shape: tuple[int, ...]) -> mx.array:
    """Standard normal noise of `shape` for step `i`; the same whatever the number of steps and of pictures."""
    # The seed is hashed before the step is added, so that another pair with the same sum has other noise.
    key = mx.random.split(mx.random.key(seed))[1] + mx.array([0, i], mx.uint32)
    return mx.random.normal(shape, key=key)


def _broadcast(signal: mx.array, x0: mx.array) -> tuple[mx.array, mx.array]:
    """alpha and sigma of `signal` (B,), with as many axes as `x0` has."""
    signal = signal.reshape(-1, *[1] * (x0.ndim - 1))
    return mx.sqrt(signal), mx.sqrt(1 - signal)


def spaced_timesteps(config: NoiseConfig, steps: int, points: int, last: int | None = None) -> np.ndarray:
    """The timesteps of a generation, decreasing, not rounded: Lin et al. 2023, table 2.

    The timesteps below `last` (the number of training timesteps if None) are divided into `points` points, of which the
    first `steps` are returned.
    """
    last = config.num_train_timesteps if last is None else last
    timesteps: np.ndarray
    if config.timestep_spacing == "linspace":
        timesteps = np.linspace(0, last - 1, points)[::-1]
    elif config.timestep_spacing == "leading":
        timesteps = np.arange(points)[::-1] * (last // points) + config.steps_offset
    else:
        timesteps = np.round(np.arange(last, 0, -config.num_train_timesteps / steps)) - 1
    # For some numbers of steps, such as 61 of 1000, rounding errors make trailing spacing end with a timestep -1.
    return timesteps[:steps]


def sigma_table(config: NoiseConfig) -> np.ndarray:
    """The ratio `sigma / alpha` at each training timestep: float32, `(num_train_timesteps,)`, increasing."""
    signal = alphas_cumprod(config)
    if not config.rescale_betas_zero_snr:
        return np.sqrt((1 - signal) / signal)
    # As in diffusers, the last signal is 2**-24, float16's smallest number, so that the last ratio is finite.
    return np.append(np.sqrt((1 - signal[:-1]) / signal[:-1]), np.float32(2**12))


def multistep_sigmas(
    config: NoiseConfig, steps: int, table: np.ndarray, *, last: int | None = None, rounded: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Whole timesteps and their ratios `sigma / alpha` for a multistep solver, both decreasing, `(steps,)` each.

    table: see `sigma_table`. last: see `spaced_timesteps`. rounded: whether a Karras ratio between two timesteps is
    given the nearer of them; otherwise the lower one. Raises UserError if the ratios do not decrease.
    """
    timesteps = np.round(spaced_timesteps(config, steps, steps + 1, last))
    sigmas = np.interp(timesteps, np.arange(len(table)), table)
    if config.use_karras_sigmas:
        sigmas = karras_sigmas(config, table[-1], table[0], steps)
        timesteps = timesteps_of(sigmas, table)
        if rounded:
            timesteps = np.round(timesteps)
    if not len(sigmas) or (np.diff(sigmas) >= 0).any():
        raise UserError(f"{steps} steps are too many for this sampler with this model; take fewer steps.")
    return timesteps.astype(np.int64).astype(np.float32), sigmas


def karras_sigmas(config: NoiseConfig, largest: float, smallest: float, steps: int) -> np.ndarray:
    """`steps` ratios from `largest` down to `smallest`: Karras et al. 2022, formula (5), with rho 7.

    `sigma_max` and `sigma_min` of the config come first. Raises UserError if the smallest is not below the largest.
    """
    largest = config.sigma_max if config.sigma_max is not None else float(largest)
    smallest = config.sigma_min if config.sigma_min is not None else float(smallest)
    if steps > 1 and smallest >= largest:
        raise UserError(f"scheduler_config.json: sigma_min {smallest:g} is not below sigma_max {largest:g}.")
    start, end = largest ** (1 / 7), smallest ** (1 / 7)
    return (start + np.linspace(0, 1, steps) * (end - start)) ** 7


def timesteps_of(sigmas: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The timesteps that have the ratios `sigmas`, interpolated in `table` (see `sigma_table`) on a log scale."""
    return np.interp(np.log(sigmas), np.log(table), np.arange(len(table)))


def with_final(sigmas: np.ndarray, config: NoiseConfig, smallest: float) -> np.ndarray:
    """The ratios with the one after the last step appended: `smallest` if `final_sigmas_type` is "sigma_min", else 0.

    float32, one more than `sigmas`.
    """
    final = smallest if config.final_sigmas_type == "sigma_min" else 0
    return np.append(sigmas, final).astype(np.float32)


def alphas_and_sigmas(signal: np.ndarray) -> tuple[list[float], list[float]]:
    """alpha and sigma of each step, from its signal `alpha**2`."""
    # Python floats: multiplied with a NumPy float, an MLX array would become a NumPy array.
    return np.sqrt(signal).tolist(), np.sqrt(1 - signal).tolist()


def check_signal(config: NoiseConfig, signal: float, sampler: str) -> None:
    """Raise UserError if a model that predicts epsilon starts at pure noise, where x0 cannot be computed from epsilon.

    signal: that of the first step. sampler: its name in the message.
    """
    if config.prediction_type == "epsilon" and signal == 0:
        raise UserError(
            "scheduler_config.json: prediction_type 'epsilon' is not supported with rescale_betas_zero_snr in"
            f" {sampler}, only v_prediction or sample."
        )
