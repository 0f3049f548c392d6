"""Samplers: from noise to latents in a few steps, as a checkpoint's `scheduler_config.json` asks, or by name.

    schedule = make_sampler(config).schedule(steps)
    latents, history = schedule.init_noise_sigma * noise, ()
    for i, timestep in enumerate(schedule.timesteps):
        output = unet(schedule.scale_model_input(latents, i), timestep, ...)
        latents, history = schedule.step(output, i, latents, history)

Nothing here keeps state: what a multistep sampler remembers is `history`, so one schedule serves any number of
generations. Latents are float32, of any shape and layout. Schedules are computed in numpy with the roundings of
diffusers' schedulers, whose timesteps they equal.

Notation, as in the papers: a noisy sample is `x = alpha * x0 + sigma * epsilon` with `alpha**2 = alphas_cumprod` and
`alpha**2 + sigma**2 = 1`. What diffusers calls the `sigmas` of a schedule are the ratios `sigma / alpha`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from .errors import UserError

History = tuple[mx.array, ...]
Check = tuple[Callable[[Any], bool], str]
"""A test of a config field's value, and what passes it, in words."""


def _one_of(*values: Any) -> Check:
    return lambda value: value in values, " or ".join(str(value) for value in values)


def _number(low: float, high: float) -> Check:
    def accepts(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    return accepts, f"a number from {low:g} to {high:g}"


def _whole(check: Check) -> Check:
    return lambda value: isinstance(value, int) and check[0](value), f"whole, {check[1]}"


def _optional(check: Check) -> Check:
    return lambda value: value is None or check[0](value), check[1]


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check[0], value)), f"a list, each {check[1]}"


_FLAG = _one_of(False, True, None)
# Below, 1 - beta is 1 in float32.
_BETA = _number(1e-7, 0.9999)
_SIGMA = _number(1e-6, 1e6)

_SUPPORTED: dict[str, Check] = {
    "num_train_timesteps": _whole(_number(2, 100_000)),
    "beta_start": _BETA,
    "beta_end": _BETA,
    "beta_schedule": _one_of("linear", "scaled_linear", "squaredcos_cap_v2"),
    "trained_betas": _optional(_list_of(_BETA)),
    "rescale_betas_zero_snr": _FLAG,
    "prediction_type": _one_of("epsilon", "v_prediction", "sample"),
    "timestep_spacing": _one_of("leading", "trailing", "linspace"),
    "steps_offset": _whole(_number(0, 100_000)),
    "set_alpha_to_one": _FLAG,
    "clip_sample": _FLAG,
    "clip_sample_range": _number(1e-6, 1e6),
    "interpolation_type": _one_of("linear", "log_linear"),
    "use_karras_sigmas": _FLAG,
    "sigma_min": _optional(_SIGMA),
    "sigma_max": _optional(_SIGMA),
    "final_sigmas_type": _one_of("zero", "sigma_min"),
    "lambda_min_clipped": _number(-math.inf, 100),
    "lower_order_final": _FLAG,
    "euler_at_final": _FLAG,
}


@dataclass(frozen=True)
class NoiseConfig:
    """The fields of a `scheduler_config.json` that are read here, with the defaults of diffusers' classes."""

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

    @classmethod
    def read(cls, config: Mapping[str, Any], **defaults: Any) -> NoiseConfig:
        """Take the fields from `config`, else from `defaults`. Raises UserError, naming the field and its value."""
        named = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        _check(named, _SUPPORTED)
        read = cls(**(defaults | named))
        if read.trained_betas is not None and len(read.trained_betas) != read.num_train_timesteps:
            raise UserError(
                f"scheduler_config.json: trained_betas holds {len(read.trained_betas)} numbers,"
                f" but num_train_timesteps is {read.num_train_timesteps}."
            )
        return read


def _check(config: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for field, (accepts, supported) in checks.items():
        if field in config and not accepts(config[field]):
            value = repr(config[field])[:80]
            raise UserError(f"scheduler_config.json: {field} {value} is not supported, only {supported}.")


def alphas_cumprod(config: Mapping[str, Any] | NoiseConfig) -> np.ndarray:
    """The share of signal in the variance of a sample at each training timestep: float32 `(num_train_timesteps,)`.

    The one noise schedule of training and of sampling, with the roundings of diffusers' schedulers. Raises UserError
    where a field is not supported or the betas leave no signal at all.
    """
    if not isinstance(config, NoiseConfig):
        config = NoiseConfig.read(config)
    signal = _cumulative_product(1 - _betas(config))
    if signal[-1] < 1e-30:
        raise UserError("scheduler_config.json: the betas (beta_start, beta_end, trained_betas) leave no signal.")
    return _rescaled_to_zero_terminal_snr(signal) if config.rescale_betas_zero_snr else signal


def _betas(config: NoiseConfig) -> np.ndarray:
    count = config.num_train_timesteps
    if config.trained_betas is not None:
        return np.array(config.trained_betas, dtype=np.float32)
    if config.beta_schedule == "linear":
        return _linspace(config.beta_start, config.beta_end, count)
    if config.beta_schedule == "scaled_linear":
        return _linspace(config.beta_start**0.5, config.beta_end**0.5, count) ** 2
    # Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672
    signal = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return np.array([min(1 - signal[i + 1] / signal[i], 0.999) for i in range(count)], dtype=np.float32)


def _linspace(start: float, end: float, count: int) -> np.ndarray:
    """`torch.linspace` in float32, which counts from both ends and rounds once per number."""
    first, last = np.float32(start), np.float32(end)
    step = float((last - first) / np.float32(count - 1))
    i = np.arange(count)
    return np.where(i < count // 2, float(first) + step * i, float(last) - step * (count - 1 - i)).astype(np.float32)


def _cumulative_product(factors: np.ndarray) -> np.ndarray:
    # In float64, as torch does it on a CPU.
    return np.cumprod(factors.astype(np.float64)).astype(np.float32)


def _rescaled_to_zero_terminal_snr(signal: np.ndarray) -> np.ndarray:
    """Algorithm 1 of Lin et al. 2023, https://arxiv.org/abs/2305.08891: the last timestep becomes pure noise."""
    alphas = np.sqrt(signal)
    first, last = alphas[0], alphas[-1]
    signal = ((alphas - last) * (first / (first - last))) ** 2
    # To betas and back, for the roundings of diffusers.
    betas = 1 - np.concatenate([signal[:1], signal[1:] / signal[:-1]])
    return _cumulative_product(1 - betas)


class Schedule(ABC):
    """The timesteps of a generation, and the way from each to the next.

    `timesteps` (float32) has as many entries as there are steps; with `lambda_min_clipped` and trailing spacing there
    are fewer than asked for. The first latents are `init_noise_sigma` times standard normal noise.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Where diffusers' scheduler has other defaults than `NoiseConfig`."""
    checks: ClassVar[Mapping[str, Check]] = {}
    """Fields of which only the values here are supported, beyond those of `NoiseConfig`."""

    timesteps: np.ndarray
    init_noise_sigma: float = 1.0

    @abstractmethod
    def __init__(self, config: NoiseConfig, steps: int) -> None:
        self.prediction_type = config.prediction_type

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        """The model's input at step `i`: latents of variance near one."""
        return x

    @abstractmethod
    def step(self, model_output: mx.array, i: int, x: mx.array, history: History = ()) -> tuple[mx.array, History]:
        """From the latents of step `i` to those of step `i + 1`, or to the finished ones.

        `history` is what the previous step returned, empty at the first. Its first entry is the prediction of the
        finished latents, which is good for a preview.
        """

    def _denoised(self, model_output: mx.array, x: mx.array, alpha: float, sigma: float) -> mx.array:
        """x0 as the model predicts it from `x = alpha * x0 + sigma * epsilon`."""
        model_output = model_output.astype(mx.float32)
        if self.prediction_type == "epsilon":
            return (x - sigma * model_output) / alpha
        if self.prediction_type == "v_prediction":
            # Salimans and Ho 2022, https://arxiv.org/abs/2202.00512: v = alpha * epsilon - sigma * x0
            return alpha * x - sigma * model_output
        return model_output


class DDIM(Schedule):
    """DDIM with eta 0: Song et al. 2020, https://arxiv.org/abs/2010.02502, formula (12).

    `DDIMScheduler` in diffusers.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"timestep_spacing": "leading"}
    checks: ClassVar[Mapping[str, Check]] = {"thresholding": _one_of(False)}

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.timesteps = np.round(_spaced(config, steps, steps)).astype(np.float32)
        timesteps = self.timesteps.astype(np.int64)
        if timesteps[0] >= config.num_train_timesteps:
            raise UserError(
                f"{steps} steps and steps_offset {config.steps_offset} go past the {config.num_train_timesteps}"
                " timesteps of the model; take fewer steps."
            )
        signal = alphas_cumprod(config).astype(np.float64)
        if config.prediction_type == "epsilon" and signal[timesteps[0]] == 0:
            raise UserError(
                "scheduler_config.json: prediction_type 'epsilon' is not supported with rescale_betas_zero_snr in DDIM,"
                " only v_prediction or sample."
            )
        # As in diffusers, the next timestep is a stride away whatever the spacing.
        following = timesteps - config.num_train_timesteps // steps
        last_signal = 1.0 if config.set_alpha_to_one else signal[0]
        next_signal = np.where(following >= 0, signal[following], last_signal)
        self._alphas, self._sigmas = _alphas_and_sigmas(signal[timesteps])
        self._next_alphas, self._next_sigmas = _alphas_and_sigmas(next_signal)
        self._clip = config.clip_sample_range if config.clip_sample else None

    def step(self, model_output: mx.array, i: int, x: mx.array, history: History = ()) -> tuple[mx.array, History]:
        alpha, sigma = self._alphas[i], self._sigmas[i]
        x0 = self._denoised(model_output, x, alpha, sigma)
        epsilon = (x - alpha * x0) / sigma
        if self._clip is not None:
            x0 = mx.clip(x0, -self._clip, self._clip)
        return self._next_alphas[i] * x0 + self._next_sigmas[i] * epsilon, (x0,)


class Euler(Schedule):
    """Euler's method on the probability flow ODE: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2
    without churn. `EulerDiscreteScheduler` in diffusers. Its latents are `x0 + (sigma / alpha) * epsilon`.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        "use_exponential_sigmas": _one_of(False, None),
        "use_beta_sigmas": _one_of(False, None),
        "timestep_type": _one_of("discrete"),
    }

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = _sigma_table(config)
        timesteps = _spaced(config, steps, steps).astype(np.float32)
        sigmas = np.interp(timesteps, np.arange(len(table)), table)
        if config.interpolation_type == "log_linear":
            sigmas = np.exp(_linspace(np.log(table[-1]), np.log(table[0]), steps + 1))
        if config.use_karras_sigmas:
            sigmas = _karras_sigmas(config, sigmas[0], sigmas[-1], steps)
            timesteps = _timesteps_of(sigmas, table)
        self.timesteps = timesteps.astype(np.float32)
        self._sigmas: list[float] = _with_final_sigma(config, sigmas, table).tolist()
        largest = max(self._sigmas)
        self.init_noise_sigma = math.hypot(largest, 1) if config.timestep_spacing == "leading" else largest

    def scale_model_input(self, x: mx.array, i: int) -> mx.array:
        return x / math.hypot(self._sigmas[i], 1)

    def step(self, model_output: mx.array, i: int, x: mx.array, history: History = ()) -> tuple[mx.array, History]:
        sigma, next_sigma = self._sigmas[i], self._sigmas[i + 1]
        alpha = 1 / math.hypot(sigma, 1)
        x0 = self._denoised(model_output, alpha * x, alpha, alpha * sigma)
        # Euler's x + (x - x0) / sigma * (next_sigma - sigma), without the difference of large numbers: the first sigma
        # is 4096 with rescale_betas_zero_snr, and float32 would lose three digits.
        return x0 + (next_sigma / sigma) * (x - x0), (x0,)


class DPMSolverPlusPlus2M(Schedule):
    """DPM-Solver++(2M): Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2.

    `DPMSolverMultistepScheduler` in diffusers, with `solver_order` 2 and `solver_type` midpoint.
    """

    checks: ClassVar[Mapping[str, Check]] = {
        # diffusers reads the algorithms and solvers of DEIS and UniPC as these two.
        "algorithm_type": _one_of("dpmsolver++", "deis"),
        "solver_type": _one_of("midpoint", "logrho", "bh1", "bh2"),
        "solver_order": _one_of(2),
        "thresholding": _one_of(False),
        "variance_type": _one_of(None, "fixed_small", "fixed_large"),
        "use_exponential_sigmas": _one_of(False, None),
        "use_beta_sigmas": _one_of(False, None),
        "use_lu_lambdas": _one_of(False, None),
        "use_flow_sigmas": _one_of(False, None),
    }

    def __init__(self, config: NoiseConfig, steps: int) -> None:
        super().__init__(config, steps)
        table = _sigma_table(config)
        # Lambda is -log(sigma / alpha), and falls with the timestep.
        last = int(np.count_nonzero(-np.log(table) >= config.lambda_min_clipped))
        timesteps = np.round(_spaced(config, steps, steps + 1, last))
        sigmas = np.interp(timesteps, np.arange(len(table)), table)
        if config.use_karras_sigmas:
            sigmas = _karras_sigmas(config, table[-1], table[0], steps)
            timesteps = _timesteps_of(sigmas, table)
            if config.beta_schedule != "squaredcos_cap_v2":
                timesteps = np.round(timesteps)
        self.timesteps = timesteps.astype(np.int64).astype(np.float32)
        if not len(sigmas) or (np.diff(sigmas) >= 0).any():
            raise UserError(f"{steps} steps are too many for DPM++ 2M with this model; take fewer steps.")

        ratios = _with_final_sigma(config, sigmas, table).astype(np.float64)
        self._alphas, self._sigmas = _alphas_and_sigmas(1 / (ratios**2 + 1))
        with np.errstate(divide="ignore"):
            h = -np.diff(np.log(ratios))
        self._exp_minus_h: list[float] = (ratios[1:] / ratios[:-1]).tolist()
        # 1 / (2 r) of the paper; without it, a step is of first order.
        self._corrections = [0.0, *(0.5 * h[1:] / h[:-1]).tolist()]
        few = config.lower_order_final and len(sigmas) < 15
        if config.euler_at_final or few or config.final_sigmas_type == "zero":
            self._corrections[-1] = 0.0

    def step(self, model_output: mx.array, i: int, x: mx.array, history: History = ()) -> tuple[mx.array, History]:
        x0 = self._denoised(model_output, x, self._alphas[i], self._sigmas[i])
        correction = self._corrections[i]
        data = x0 + correction * (x0 - history[0]) if history and correction else x0
        decay = self._sigmas[i + 1] / self._sigmas[i]
        return decay * x - self._alphas[i + 1] * (self._exp_minus_h[i] - 1) * data, (x0,)


def _spaced(config: NoiseConfig, steps: int, points: int, last: int | None = None) -> np.ndarray:
    """The noisiest `steps` of `points` timesteps below `last`, falling: Lin et al. 2023, table 2. Not rounded."""
    last = config.num_train_timesteps if last is None else last
    timesteps: np.ndarray
    if config.timestep_spacing == "linspace":
        timesteps = np.linspace(0, last - 1, points)[::-1]
    elif config.timestep_spacing == "leading":
        timesteps = np.arange(points)[::-1] * (last // points) + config.steps_offset
    else:
        timesteps = np.round(np.arange(last, 0, -config.num_train_timesteps / steps)) - 1
    # For some numbers of steps, 61 of 1000 for one, floating point makes trailing spacing end with a timestep -1.
    return timesteps[:steps]


def _sigma_table(config: NoiseConfig) -> np.ndarray:
    """The ratio `sigma / alpha` at each training timestep, rising, float32."""
    signal = alphas_cumprod(config)
    if config.rescale_betas_zero_snr:
        # Not quite zero, so that no ratio is infinite; diffusers has the same number, float16's smallest.
        signal[-1] = 2**-24
    return np.sqrt((1 - signal) / signal)


def _karras_sigmas(config: NoiseConfig, largest: float, smallest: float, steps: int) -> np.ndarray:
    """Karras et al. 2022, formula (5), with rho 7."""
    largest = config.sigma_max if config.sigma_max is not None else float(largest)
    smallest = config.sigma_min if config.sigma_min is not None else float(smallest)
    if steps > 1 and smallest >= largest:
        raise UserError(f"scheduler_config.json: sigma_min {smallest:g} is not below sigma_max {largest:g}.")
    start, end = largest ** (1 / 7), smallest ** (1 / 7)
    return (start + np.linspace(0, 1, steps) * (end - start)) ** 7


def _timesteps_of(sigmas: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.interp(np.log(sigmas), np.log(table), np.arange(len(table)))


def _with_final_sigma(config: NoiseConfig, sigmas: np.ndarray, table: np.ndarray) -> np.ndarray:
    final = table[0] if config.final_sigmas_type == "sigma_min" else 0
    return np.append(sigmas, final).astype(np.float32)


def _alphas_and_sigmas(signal: np.ndarray) -> tuple[list[float], list[float]]:
    # Python's numbers: numpy's would turn an MLX array they are multiplied with into one of their own.
    return np.sqrt(signal).tolist(), np.sqrt(1 - signal).tolist()


SAMPLERS: Mapping[str, type[Schedule]] = {"ddim": DDIM, "euler": Euler, "dpm++2m": DPMSolverPlusPlus2M}

# Stable Diffusion 1.x ships with PNDM, an older multistep method that is not here: DPM++ 2M takes its place.
_SAMPLER_OF_CLASS = {
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "PNDMScheduler": "dpm++2m",
}


@dataclass(frozen=True)
class Sampler:
    """A way of sampling and the noise schedule of a checkpoint: what `make_sampler` returns."""

    name: str
    config: NoiseConfig

    def schedule(self, steps: int) -> Schedule:
        """Plan a generation of `steps` steps. Raises UserError unless they are between 1 and num_train_timesteps."""
        if not 1 <= steps <= self.config.num_train_timesteps:
            raise UserError(f"steps must be from 1 to {self.config.num_train_timesteps}, not {steps}.")
        return SAMPLERS[self.name](self.config, steps)


def make_sampler(config: Mapping[str, Any], name: str | None = None) -> Sampler:
    """The sampler that a `scheduler_config.json` asks for by `_class_name`, or the one called `name`.

    By name, the sampler takes from the config the fields that it knows, as diffusers' `from_config` does. A config of
    `PNDMScheduler` without a name gives "dpm++2m". Raises UserError for an unknown name and for a field, a value or a
    `_class_name` that is not supported.
    """
    names = ", ".join(SAMPLERS)
    if name is None:
        asked = config.get("_class_name")
        name = _SAMPLER_OF_CLASS.get(asked) if isinstance(asked, str) else None
        if name is None:
            raise UserError(
                f"scheduler_config.json: _class_name {asked!r:.80} is not supported; choose a sampler by name: {names}."
            )
    if name not in SAMPLERS:
        raise UserError(f"There is no sampler {name!r}; the samplers are: {names}.")
    schedule = SAMPLERS[name]
    _check(config, schedule.checks)
    return Sampler(name, NoiseConfig.read(config, **schedule.defaults))


def add_noise(x0: mx.array, noise: mx.array, signal: mx.array) -> mx.array:
    """Noisy samples for training, `alpha * x0 + sigma * noise`; `signal` `(B,)` is the `alphas_cumprod` of each."""
    alpha, sigma = _broadcast(signal, x0)
    return alpha * x0 + sigma * noise


def training_target(prediction_type: str, x0: mx.array, noise: mx.array, signal: mx.array) -> mx.array:
    """What a model with this `prediction_type` should say about `add_noise(x0, noise, signal)`."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        alpha, sigma = _broadcast(signal, x0)
        return alpha * noise - sigma * x0
    return x0


def _broadcast(signal: mx.array, x0: mx.array) -> tuple[mx.array, mx.array]:
    signal = signal.reshape(-1, *[1] * (x0.ndim - 1))
    return mx.sqrt(signal), mx.sqrt(1 - signal)
