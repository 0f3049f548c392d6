"""Samplers: the same timesteps and latents as diffusers' schedulers, from the same configs and model outputs."""

import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import diffusers
import mlx.core as mx
import numpy as np
import pytest
import torch
from scheduler_configs import (
    CONFIGS,
    DPM,
    LCM,
    STABLE_DIFFUSION_1,
    STABLE_DIFFUSION_2,
    STABLE_DIFFUSION_XL,
    STEPS,
    TOLERANCE,
    UNIPC,
    ZERO_SNR,
    Config,
    distance,
    outputs,
    rotated,
)

from mlx_genmoji.errors import UserError
from mlx_genmoji.samplers import (
    NoiseConfig,
    Schedule,
    add_noise,
    alphas_cumprod,
    make_sampler,
    step_noise,
    training_target,
)
from mlx_genmoji.samplers.euler import Euler
from mlx_genmoji.samplers.noise import spaced_timesteps

CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
# The others have a file of their own, test_more_samplers.py.
SAMPLERS = tuple(CLASSES)
# LCM's timesteps are not spaced by the config.
SPACED = [name for name in SAMPLERS if name != "lcm"]


def oracle(name: str, config: Config, steps: int, begin: int = 0) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        scheduler = CLASSES[name].from_config(config)
        scheduler.set_timesteps(steps)
    if name != "ddim":
        scheduler.set_begin_index(begin)
    if hasattr(scheduler, "sigmas") and scheduler.config.rescale_betas_zero_snr:
        # The ratio at zero SNR, 2**12, whose last bit in torch's square root depends on the CPU.
        scheduler.sigmas[scheduler.sigmas > 4095] = 4096.0
    return scheduler


def worst_distance(schedule: Schedule, theirs: Any, begin: int = 0, dtype: torch.dtype = torch.float32) -> float:
    """The largest relative error of the latents, and of what the model is shown, over a whole generation.

    From step `begin` on, the latents are those of a picture. Both sides are given the same noise.
    """
    timesteps = theirs.timesteps[begin:]
    start, picture, *drawn = outputs(2 + 2 * len(timesteps))
    if begin:
        x = schedule.add_noise(mx.array(picture), mx.array(start), begin)
        expected = theirs.add_noise(torch.from_numpy(picture), torch.from_numpy(start), timesteps[:1]).to(dtype)
    else:
        x = mx.array(start) * schedule.init_noise_sigma
        expected = torch.from_numpy(start).to(dtype) * theirs.init_noise_sigma
    worst, history = distance(x, expected), ()
    module = sys.modules[type(theirs).__module__]
    for i, timestep in enumerate(timesteps):
        output, noise = drawn[2 * i : 2 * i + 2]
        scaled = theirs.scale_model_input(expected, timestep)
        worst = max(worst, distance(schedule.scale_model_input(x, begin + i), scaled))
        x, history = schedule.step(mx.array(output), begin + i, x, history, mx.array(noise))
        with pytest.MonkeyPatch.context() as patch:
            if schedule.stochastic:
                patch.setattr(module, "randn_tensor", lambda *_, noise=noise, **__: torch.from_numpy(noise))
            expected = theirs.step(torch.from_numpy(output).to(dtype), timestep, expected).prev_sample
        worst = max(worst, distance(x, expected))
    return worst


def meaningful(name: str, config: Config, steps: int) -> bool:
    """Whether diffusers itself gives a picture: not with a timestep -1, nor with a division by zero.

    Euler ancestral's few steps at zero SNR have a test of their own.
    """
    count, prediction_type = config.get("num_train_timesteps", 1000), config.get("prediction_type", "epsilon")
    zero_snr = config.get("rescale_betas_zero_snr", False)
    if name == "lcm":
        return steps <= config.get("original_inference_steps", 50) and not (zero_snr and prediction_type == "epsilon")
    if name == "euler-ancestral" and (prediction_type == "sample" or (zero_snr and steps < 20)):
        return False
    if config.get("timestep_spacing") == "trailing" and len(np.arange(count, 0, -count / steps)) != steps:
        return False
    scheduler = oracle(name, config, steps)
    first = int(scheduler.timesteps[0])
    if name == "ddim":
        return first < count and not (prediction_type == "epsilon" and scheduler.alphas_cumprod[first] == 0)
    return name not in ("dpm++2m", "unipc") or bool((scheduler.sigmas[:-1].diff() < 0).all())


# Every sampler with every config, and each of both with every number of steps.
PAIRS = [
    (name, title, next((steps for steps in rotated(STEPS, i + j) if meaningful(name, config, steps)), None))
    for i, name in enumerate(SAMPLERS)
    for j, (title, config) in enumerate(CONFIGS.items())
]
CASES = [
    pytest.param(name, CONFIGS[title], steps, id=f"{name}-{title}-{steps}")
    for name, title, steps in PAIRS
    if steps is not None
]


@pytest.mark.parametrize(("name", "config", "steps"), CASES)
def test_latents_are_those_of_diffusers(name: str, config: Config, steps: int) -> None:
    schedule = make_sampler(config, name).schedule(steps)
    theirs = oracle(name, config, steps)
    assert_same_timesteps(schedule, theirs)
    assert worst_distance(schedule, theirs) <= TOLERANCE


def test_nearly_all_configs_are_compared_for_nearly_all_samplers() -> None:
    """That `meaningful` does not hide them."""
    assert len(CASES) > 0.95 * len(SAMPLERS) * len(CONFIGS)
    for index in (0, 1):
        parts = [(pair[index], pair[2]) for pair in PAIRS]
        assert len(set(parts)) > 0.8 * len({part for part, _ in parts}) * len(STEPS)


# Those that know `use_karras_sigmas` and `final_sigmas_type`.
SIGMAS = ("euler", "dpm++2m", "unipc")


VARIANTS = [
    *((name, False, "zero") for name in SAMPLERS),
    *((name, karras, "sigma_min") for name in SIGMAS for karras in (False, True)),
    *((name, True, "zero") for name in SIGMAS),
]
SPACINGS = ["leading", "trailing", "linspace"]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]


@pytest.mark.parametrize(
    ("variant", "spacing", "prediction_type", "zero_snr", "steps"),
    [
        (variant, spacing, PREDICTIONS[(i + j) % 3], bool((i + j) % 2), rotated([1, 2, 4, 7, 25], i + 2 * j))
        for i, variant in enumerate(VARIANTS)
        for j, spacing in enumerate(SPACINGS)
    ],
    ids=str,
)
def test_any_two_fields_that_diffusers_accepts_together_give_its_latents(
    variant: tuple[str, bool, str], spacing: str, prediction_type: str, zero_snr: bool, steps: list[int]
) -> None:
    name, karras, final = variant
    config = STABLE_DIFFUSION_1 | {
        "prediction_type": prediction_type,
        "timestep_spacing": spacing,
        "rescale_betas_zero_snr": zero_snr,
        "use_karras_sigmas": karras,
        "final_sigmas_type": final,
    }
    chosen = next((number for number in steps if meaningful(name, config, number)), None)
    if chosen is None:
        assert zero_snr or (name, prediction_type) == ("euler-ancestral", "sample")
        return
    schedule = make_sampler(config, name).schedule(chosen)
    theirs = oracle(name, config, chosen)
    assert_same_timesteps(schedule, theirs)
    assert worst_distance(schedule, theirs) <= TOLERANCE


SOLVERS = [
    (order, solver_type, predict_x0) for order in (1, 2, 3) for solver_type in ("bh1", "bh2") for predict_x0 in (0, 1)
]
# Numbers of steps, and fields that change a step in the middle or the last one.
SOLVER_CASES: list[tuple[Config, int]] = [
    *(({}, steps) for steps in (1, 2, 4, 7, 25)),
    ({"disable_corrector": [0, 2]}, 5),
    ({"lower_order_final": False, "final_sigmas_type": "sigma_min"}, 5),
]


@pytest.mark.parametrize(
    ("solver", "spacing", "prediction_type", "karras", "case"),
    [
        (solver, spacing, PREDICTIONS[(i + j) % 3], bool((i + j) % 2), SOLVER_CASES[(5 * i + j) % 7])
        for i, solver in enumerate(SOLVERS)
        for j, spacing in enumerate(SPACINGS)
    ],
    ids=str,
)
def test_every_solver_of_unipc_is_that_of_diffusers(
    solver: tuple[int, str, int], spacing: str, prediction_type: str, karras: bool, case: tuple[Config, int]
) -> None:
    """Against diffusers' own arithmetic in float64: of the third order its float32 leaves four digits.

    With a last sigma of zero, diffusers divides by zero in bh1, and wherever the noise is what is predicted.
    """
    order, solver_type, predict_x0 = solver
    config = UNIPC | {
        "solver_order": order,
        "solver_type": solver_type,
        "predict_x0": bool(predict_x0),
        "prediction_type": prediction_type,
        "timestep_spacing": spacing,
        "use_karras_sigmas": karras,
        "final_sigmas_type": "zero" if solver_type == "bh2" and predict_x0 else "sigma_min",
    }
    fields, steps = case
    if karras and order == 3:
        # Karras' last step to sigma_min has no length, and diffusers divides by that.
        fields = {name: value for name, value in fields.items() if name == "disable_corrector"}
    schedule = make_sampler(config | fields, "unipc").schedule(steps)
    theirs = oracle("unipc", config | fields, steps)
    theirs.sigmas = theirs.sigmas.double()
    assert_same_timesteps(schedule, theirs)
    assert worst_distance(schedule, theirs, dtype=torch.float64) <= TOLERANCE


@pytest.mark.parametrize("predict_x0", [False, True])
@pytest.mark.parametrize("solver_type", ["bh1", "bh2"])
@pytest.mark.parametrize("solver_order", [1, 2, 3])
def test_unipc_ends_with_the_prediction_of_x0_where_the_last_sigma_is_zero(
    solver_order: int, solver_type: str, predict_x0: bool
) -> None:
    """In every solver, where diffusers has not-a-numbers in most."""
    config = UNIPC | {"solver_order": solver_order, "solver_type": solver_type, "predict_x0": predict_x0}
    for lower_order_final in (False, True):
        schedule = make_sampler(config | {"lower_order_final": lower_order_final}, "unipc").schedule(6)
        start, *model_outputs = outputs(7)
        x, history = mx.array(start), ()
        for i, output in enumerate(model_outputs):
            x, history = schedule.step(mx.array(output), i, x, history)
        corrected, ratio = history[1], oracle("unipc", config, 6).sigmas[5].item()
        x0 = history[0] if predict_x0 else corrected * math.hypot(ratio, 1) - ratio * mx.array(model_outputs[-1])
        assert distance(x, np.array(x0)) <= TOLERANCE


@pytest.mark.parametrize(
    "variant",
    [
        {"original_inference_steps": 30},
        {"original_inference_steps": 7},
        {"original_inference_steps": 1000},
        {"timestep_scaling": 0.01},
        {"timestep_scaling": 1},
        {"clip_sample": True, "clip_sample_range": 0.5},
        {"num_train_timesteps": 50},
        {"num_train_timesteps": 777, "original_inference_steps": 33},
    ],
    ids=str,
)
def test_lcm_takes_its_distilled_timesteps_and_boundary_condition_as_diffusers_does(variant: Config) -> None:
    config = LCM | variant
    for steps in filter(lambda steps: meaningful("lcm", config, steps), (1, 2, 3, 4, 8, 25, 33, 50)):
        schedule = make_sampler(config).schedule(steps)
        theirs = oracle("lcm", config, steps)
        assert_same_timesteps(schedule, theirs)
        assert worst_distance(schedule, theirs) <= TOLERANCE


@pytest.mark.parametrize("title", ["stable diffusion 1", "zero snr", "sample", "karras", "short, offset"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_is_noised_and_denoised_as_in_image_to_image_of_diffusers(name: str, title: str) -> None:
    config = CONFIGS[title]
    compared = 0
    for steps, strength in [(4, 0.5), (10, 0.3), (25, 0.8), (25, 0.04), (20, 0.29), (30, 0.999), (40, 1.0)]:
        if not meaningful(name, config, steps):
            continue
        begin = steps - min(int(steps * strength), steps)
        schedule = make_sampler(config, name).schedule(steps)
        assert schedule.start(strength) == begin
        assert worst_distance(schedule, oracle(name, config, steps, begin), begin) <= TOLERANCE
        compared += 1
    assert compared >= 5 or (name, title) in {("euler-ancestral", "sample"), ("euler-ancestral", "zero snr")}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_can_be_changed_by_all_steps(name: str) -> None:
    """The first latents are then the noised picture, which at the first timestep still shows."""
    schedule = make_sampler(STABLE_DIFFUSION_1, name).schedule(5)
    theirs = oracle(name, STABLE_DIFFUSION_1, 5)
    picture, noise = outputs(2)
    expected = theirs.add_noise(torch.from_numpy(picture), torch.from_numpy(noise), theirs.timesteps[:1])
    assert schedule.start(1) == 0
    assert distance(schedule.add_noise(mx.array(picture), mx.array(noise), 0), expected) <= TOLERANCE


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(UserError, match="strength must be from 0 to 1"):
        make_sampler(DPM).schedule(10).start(strength)


@pytest.mark.parametrize(("steps", "strength"), [(10, 0.0), (10, 0.09), (1, 0.99)])
def test_a_strength_that_leaves_no_step_is_refused(steps: int, strength: float) -> None:
    with pytest.raises(UserError, match=f"leaves none of the {steps} steps; take more strength or more steps"):
        make_sampler(DPM).schedule(steps).start(strength)


def assert_same_timesteps(schedule: Schedule, theirs: Any) -> None:
    timesteps = theirs.timesteps.numpy()
    assert schedule.timesteps.dtype == np.float32
    if isinstance(schedule, Euler) and theirs.config.use_karras_sigmas:
        # Not whole numbers, but read from a table of torch's float32 square roots, whose last bit depends on the CPU.
        np.testing.assert_allclose(schedule.timesteps, timesteps, rtol=1e-5, atol=1e-3)
    else:
        np.testing.assert_array_equal(schedule.timesteps, timesteps)


@pytest.mark.parametrize(("karras", "offset"), [(False, 0), (False, 1), (False, 5), (True, 1)])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", SPACED)
def test_timesteps_are_those_of_diffusers_for_any_number_of_steps(
    name: str, spacing: str, karras: bool, offset: int
) -> None:
    config = STABLE_DIFFUSION_1 | {"timestep_spacing": spacing, "steps_offset": offset, "use_karras_sigmas": karras}
    for steps in filter(lambda steps: meaningful(name, config, steps), [1, 2, 3, 7, 13, 25, 47, 61, 199, 333]):
        schedule = make_sampler(config, name).schedule(steps)
        assert_same_timesteps(schedule, oracle(name, config, steps))
        assert len(schedule.timesteps) == steps


@pytest.mark.parametrize("name", SPACED)
def test_trailing_spacing_never_ends_with_a_timestep_below_zero(name: str) -> None:
    """As diffusers' does, by a rounding error, for 61 of 1000."""
    config = STABLE_DIFFUSION_1 | {"timestep_spacing": "trailing"}
    theirs = oracle(name, config, 61).timesteps.numpy()
    assert theirs[-1] == -1
    np.testing.assert_array_equal(make_sampler(config, name).schedule(61).timesteps, theirs[:-1])


@pytest.mark.parametrize("title", CONFIGS)
def test_the_noise_schedule_is_that_of_diffusers(title: str) -> None:
    theirs = diffusers.DDIMScheduler.from_config(CONFIGS[title]).alphas_cumprod.numpy()
    # Rescaling takes square roots, and torch's differ in the last bit from CPU to CPU.
    tolerance = 1e-5 if CONFIGS[title].get("rescale_betas_zero_snr") else 0
    np.testing.assert_allclose(alphas_cumprod(CONFIGS[title]), theirs, rtol=tolerance)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("steps", STEPS)
def test_euler_ancestral_keeps_its_digits_where_the_first_sigma_is_in_the_thousands(
    steps: int, prediction_type: str
) -> None:
    """With few steps at zero SNR, diffusers' float32 is 1e-4 off, so the oracle here is the method in float64."""
    config = ZERO_SNR | {"prediction_type": prediction_type}
    theirs = oracle("euler-ancestral", config, steps)
    schedule = make_sampler(config, "euler-ancestral").schedule(steps)
    sigmas = theirs.sigmas.numpy().astype(np.float64)
    assert sigmas[0] > 4000
    start, *drawn = outputs(2 * steps + 1)
    exact = start.astype(np.float64) * sigmas[0]
    x, history = mx.array(start) * schedule.init_noise_sigma, ()
    for i, (output, noise) in enumerate(zip(drawn[::2], drawn[1::2], strict=True)):
        sigma, following = sigmas[i], sigmas[i + 1]
        x0 = output.astype(np.float64)
        if prediction_type == "v_prediction":
            x0 = exact / (sigma**2 + 1) - x0 * sigma / (sigma**2 + 1) ** 0.5
        up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        exact += (exact - x0) / sigma * ((following**2 - up**2) ** 0.5 - sigma) + up * noise
        x, history = schedule.step(mx.array(output), i, x, history, mx.array(noise))
        assert distance(x, exact) <= TOLERANCE


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", SPACED)
def test_the_comparison_sees_timesteps_off_by_one(
    name: str, spacing: str, shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug: without it the same comparison passes, with it every error is a hundred times the tolerance."""
    config = STABLE_DIFFUSION_1 | {"timestep_spacing": spacing, "num_train_timesteps": 1100}
    theirs = oracle(name, config, 10)
    assert worst_distance(make_sampler(config, name).schedule(10), theirs) <= TOLERANCE

    def off_by_one(config: NoiseConfig, steps: int, points: int, last: int | None = None) -> np.ndarray:
        return np.clip(spaced_timesteps(config, steps, points, last) + shift, 0, 1098)

    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("mlx_genmoji.samplers.") and hasattr(module, "spaced_timesteps"):
            monkeypatch.setattr(module, "spaced_timesteps", off_by_one)
    schedule = make_sampler(config, name).schedule(10)
    assert (schedule.timesteps != theirs.timesteps.numpy()).any()
    assert worst_distance(schedule, oracle(name, config, 10)) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("config", "planted"),
    [
        (LCM, {"original_inference_steps": 49}),
        (LCM, {"timestep_scaling": 0.01}),
        (UNIPC, {"solver_type": "bh1"}),
        (UNIPC, {"solver_order": 3}),
        (UNIPC, {"disable_corrector": [1]}),
        (UNIPC, {"lower_order_final": False, "final_sigmas_type": "sigma_min"}),
        (UNIPC, {"predict_x0": False}),
    ],
    ids=str,
)
def test_the_comparison_sees_a_field_that_is_misread(config: Config, planted: Config) -> None:
    theirs = oracle(make_sampler(config).name, config, 8)
    assert worst_distance(make_sampler(config | planted).schedule(8), theirs) > 100 * TOLERANCE


def test_one_schedule_serves_two_generations_at_once() -> None:
    schedule = make_sampler(DPM).schedule(5)
    first, second = (list(outputs(6)), list(outputs(12))[6:])

    def generate(parts: list[np.ndarray]) -> Iterator[mx.array]:
        x, history = mx.array(parts[0]), ()
        for i, output in enumerate(parts[1:]):
            x, history = schedule.step(mx.array(output), i, x, history)
            yield x

    interleaved = list(zip(generate(first), generate(second), strict=True))[-1]
    assert mx.array_equal(interleaved[0], list(generate(first))[-1])
    assert mx.array_equal(interleaved[1], list(generate(second))[-1])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_model_is_followed_to_its_picture(name: str, prediction_type: str) -> None:
    """With the truth as every answer, each step predicts the same x0, and the last latents are it."""
    config = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "prediction_type": prediction_type}
    schedule = make_sampler(STABLE_DIFFUSION_1 | config, name).schedule(8)
    x0, noise, *drawn = (mx.array(part) for part in outputs(10))
    x, history = schedule.add_noise(x0, noise, 0), ()
    for i, timestep in enumerate(schedule.timesteps):
        alpha, sigma = (schedule.add_noise(mx.array(part), mx.array(1 - part), i).item() for part in (1.0, 0.0))
        truth = (x - alpha * x0) / sigma
        signal = mx.array([float(alphas_cumprod(STABLE_DIFFUSION_1)[int(timestep)])])
        x, history = schedule.step(training_target(prediction_type, x0, truth, signal), i, x, history, drawn[i])
        assert mx.allclose(history[0], x0, atol=1e-3)
    assert mx.allclose(x, x0, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_half_precision_answers_give_float32_latents(name: str) -> None:
    schedule = make_sampler(STABLE_DIFFUSION_1, name).schedule(3)
    x, history = mx.ones((1, 2, 2, 4)), ()
    for i in range(3):
        x, history = schedule.step(mx.ones((1, 2, 2, 4), mx.float16), i, x, history, mx.ones((1, 2, 2, 4)))
        assert x.dtype == history[0].dtype == mx.float32


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_training_adds_the_noise_and_asks_for_the_target_of_diffusers(prediction_type: str) -> None:
    scheduler = diffusers.DDPMScheduler.from_config(ZERO_SNR)
    x0, noise = outputs(2)
    timesteps = torch.tensor([3, 999])
    signal = mx.array(alphas_cumprod(ZERO_SNR)[timesteps.numpy()])
    noisy = scheduler.add_noise(torch.from_numpy(x0), torch.from_numpy(noise), timesteps)
    assert distance(add_noise(mx.array(x0), mx.array(noise), signal), noisy) <= 1e-6
    target = {
        "epsilon": torch.from_numpy(noise),
        "v_prediction": scheduler.get_velocity(torch.from_numpy(x0), torch.from_numpy(noise), timesteps),
        "sample": torch.from_numpy(x0),
    }[prediction_type]
    assert distance(training_target(prediction_type, mx.array(x0), mx.array(noise), signal), target) <= 1e-6


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (STABLE_DIFFUSION_1, "pndm"),
        (STABLE_DIFFUSION_2, "ddim"),
        (STABLE_DIFFUSION_XL, "euler"),
        (DPM, "dpm++2m"),
        (LCM, "lcm"),
        (UNIPC, "unipc"),
        (STABLE_DIFFUSION_XL | {"_class_name": "EulerAncestralDiscreteScheduler"}, "euler-ancestral"),
    ],
)
def test_the_config_names_its_sampler(config: Config, name: str) -> None:
    assert make_sampler(config).name == name
    assert make_sampler(config, "euler").name == "euler"


def test_an_unknown_sampler_is_told_the_names() -> None:
    with pytest.raises(UserError, match=r"no sampler 'restart'.*ddim, euler, euler-ancestral, dpm\+\+2m, lcm, unipc"):
        make_sampler(STABLE_DIFFUSION_1, "restart")


@pytest.mark.parametrize("class_name", ["DPMSolverSDEScheduler", None, 3, ["DDIMScheduler"]])
def test_an_unsupported_class_is_named_and_can_be_overruled(class_name: object) -> None:
    config = STABLE_DIFFUSION_1 | {"_class_name": class_name}
    with pytest.raises(UserError, match=r"_class_name.*is not supported.*ddim, euler") as error:
        make_sampler(config)
    assert repr(class_name) in str(error.value)
    assert make_sampler(config, "ddim").name == "ddim"


@pytest.mark.parametrize("steps", [0, -1, 1001])
@pytest.mark.parametrize("name", SAMPLERS)
def test_impossible_numbers_of_steps_are_refused(name: str, steps: int) -> None:
    with pytest.raises(UserError, match=rf"steps must be from 1 to 1000, not {steps}"):
        make_sampler(STABLE_DIFFUSION_1, name).schedule(steps)


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "unipc"])
def test_more_steps_than_the_model_has_timesteps_for_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="take fewer steps"):
        make_sampler(STABLE_DIFFUSION_1, name).schedule(1000)


def test_more_steps_than_a_model_was_distilled_at_are_refused() -> None:
    with pytest.raises(UserError, match=r"up to 50 steps \(original_inference_steps\), not 51"):
        make_sampler(LCM).schedule(51)
    with pytest.raises(UserError, match="original_inference_steps is 60, but num_train_timesteps 50"):
        make_sampler(LCM | {"original_inference_steps": 60, "num_train_timesteps": 50}).schedule(4)


@pytest.mark.parametrize("name", ["ddim", "lcm"])
def test_pure_noise_is_not_divided_by_its_zero_signal(name: str) -> None:
    config = ZERO_SNR | {"prediction_type": "epsilon"}
    with pytest.raises(UserError, match=r"prediction_type 'epsilon'.*rescale_betas_zero_snr"):
        make_sampler(config, name).schedule(10)


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_a_stochastic_sampler_needs_noise(name: str) -> None:
    schedule = make_sampler(STABLE_DIFFUSION_1, name).schedule(4)
    x = output = mx.ones((1, 2, 2, 4))
    assert schedule.stochastic == (name in ("euler-ancestral", "lcm"))
    if schedule.stochastic:
        with pytest.raises(ValueError, match="needs noise"):
            schedule.step(output, 0, x)
    else:
        x, _ = schedule.step(output, 0, x)
        assert mx.isfinite(x).all()


def test_the_noise_of_a_step_depends_on_the_seed_and_the_step_alone() -> None:
    shape = (1, 16, 16, 4)
    drawn = {(seed, i): step_noise(seed, i, shape) for seed in (0, 1, 7, 2**40) for i in (0, 1, 2, 24)}
    for (seed, i), noise in drawn.items():
        assert mx.array_equal(noise, step_noise(seed, i, shape))
        assert abs(noise.mean().item()) < 0.15
        assert 0.9 < noise.var().item() < 1.1
    flat = np.stack([np.array(noise).ravel() for noise in drawn.values()])
    first = np.stack([np.array(mx.random.normal(shape, key=mx.random.key(seed))).ravel() for seed in (0, 1, 7, 2**40)])
    correlations = np.corrcoef(np.concatenate([flat, first]))
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.2


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *(
            (name, field, value)
            for name in SAMPLERS
            for field, value in [
                ("beta_schedule", "sigmoid"),
                ("prediction_type", "flow_prediction"),
                ("prediction_type", ["epsilon"]),
                ("timestep_spacing", None),
                ("num_train_timesteps", 0),
                ("num_train_timesteps", "1000"),
                ("num_train_timesteps", 10**18),
                ("num_train_timesteps", 1000.5),
                ("beta_start", -0.1),
                ("beta_end", math.nan),
                ("beta_end", 10**400),
                ("beta_end", None),
                ("trained_betas", [0.1, "x"]),
                ("trained_betas", 7),
                ("steps_offset", -1),
                ("steps_offset", {}),
                ("clip_sample_range", 0),
                ("rescale_betas_zero_snr", "yes"),
                ("use_karras_sigmas", []),
                ("sigma_min", 0),
                ("final_sigmas_type", "one"),
                ("interpolation_type", "cubic"),
                ("lambda_min_clipped", "-inf"),
            ]
        ),
        ("ddim", "thresholding", True),
        ("euler", "timestep_type", "continuous"),
        ("euler", "use_exponential_sigmas", True),
        ("euler", "use_beta_sigmas", True),
        ("dpm++2m", "thresholding", True),
        ("dpm++2m", "algorithm_type", "sde-dpmsolver++"),
        ("dpm++2m", "solver_type", "heun"),
        ("dpm++2m", "solver_order", 3),
        ("dpm++2m", "variance_type", "learned_range"),
        ("dpm++2m", "use_lu_lambdas", True),
        ("dpm++2m", "use_flow_sigmas", True),
        ("dpm++2m", "use_exponential_sigmas", True),
        ("dpm++2m", "use_beta_sigmas", True),
        ("lcm", "original_inference_steps", 0),
        ("lcm", "original_inference_steps", "50"),
        ("lcm", "timestep_scaling", 0),
        ("lcm", "thresholding", True),
        ("unipc", "solver_order", 4),
        ("unipc", "solver_order", "2"),
        ("unipc", "solver_type", "bh3"),
        ("unipc", "predict_x0", "yes"),
        ("unipc", "disable_corrector", [-1]),
        ("unipc", "disable_corrector", 3),
        ("unipc", "disable_corrector", None),
        ("unipc", "solver_p", {"_class_name": "DDIMScheduler"}),
        ("unipc", "thresholding", True),
        ("unipc", "use_flow_sigmas", True),
        ("unipc", "use_beta_sigmas", True),
        ("unipc", "use_exponential_sigmas", True),
    ],
)
def test_an_unsupported_value_is_one_line_that_names_field_and_value(name: str, field: str, value: object) -> None:
    with pytest.raises(UserError) as error:
        make_sampler(STABLE_DIFFUSION_1 | {field: value}, name)
    assert "\n" not in str(error.value)
    assert f"{field} {repr(value)[:80]} is not supported, only" in str(error.value)


def test_a_field_another_sampler_would_refuse_does_not_matter() -> None:
    assert make_sampler(DPM | {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, "ddim").name == "ddim"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"trained_betas": [0.1, 0.2]}, "trained_betas holds 2 numbers, but num_train_timesteps is 1000"),
        ({"beta_end": 0.99}, "leave no signal"),
        ({"beta_end": 0.99, "rescale_betas_zero_snr": True}, "leave no signal"),
        ({"use_karras_sigmas": True, "sigma_min": 9, "sigma_max": 1}, "sigma_min 9 is not below sigma_max 1"),
        ({"lambda_min_clipped": 50}, "take fewer steps"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(config: Config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_sampler(config, "dpm++2m").schedule(10)
