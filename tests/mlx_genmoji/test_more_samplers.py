"""The samplers that few checkpoints ask for by themselves: the same latents as diffusers' schedulers."""

import importlib
import math
import sys
import types
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
    STABLE_DIFFUSION_XL,
    STEPS,
    TOLERANCE,
    Config,
    distance,
    outputs,
    rotated,
)

from app.generating import SAMPLER_NAMES
from mlx_genmoji.errors import UserError
from mlx_genmoji.samplers import SAMPLER_OF_CLASS, SAMPLERS, Schedule, make_sampler, sampler_named

CLASSES: dict[str, Any] = {
    "pndm": diffusers.PNDMScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "lms": None,
    "deis": diffusers.DEISMultistepScheduler,
    "dpm2": diffusers.KDPM2DiscreteScheduler,
    "dpm2-ancestral": diffusers.KDPM2AncestralDiscreteScheduler,
    "dpm++2s": diffusers.DPMSolverSinglestepScheduler,
    "dpm++2m-sde": diffusers.DPMSolverMultistepScheduler,
    "ddpm": diffusers.DDPMScheduler,
    "tcd": diffusers.TCDScheduler,
}
# What the scheduler is given, beside the config, to draw as the pipelines of diffusers do.
FIELDS: dict[str, Config] = {"pndm": {"skip_prk_steps": True}, "dpm++2m-sde": {"algorithm_type": "sde-dpmsolver++"}}
NO_SAMPLE = ("pndm", "dpm2", "dpm2-ancestral")
EDM: Config = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0, "prediction_type": "epsilon"}


def quadrature(function: Any, begin: Any, end: Any, epsrel: float) -> tuple[float]:
    """What `scipy.integrate.quad` gives for a polynomial of a degree below 16."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    begin, half = float(begin), (float(end) - float(begin)) / 2
    return (sum(w * float(function(begin + half * (1 + node))) for node, w in zip(nodes, weights, strict=True)) * half,)


@pytest.fixture(scope="module", autouse=True)
def lms() -> Iterator[None]:
    """diffusers' LMS needs SciPy for one integral, which is not among the tests' requirements."""
    module = importlib.import_module("diffusers.schedulers.scheduling_lms_discrete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "integrate", types.SimpleNamespace(quad=quadrature), raising=False)
        patch.setitem(CLASSES, "lms", module.LMSDiscreteScheduler)
        yield


def oracle(name: str, config: Config, steps: int, begin: int = 0) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = CLASSES[name].from_config(config | FIELDS.get(name, {}))
        scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    if hasattr(scheduler, "sigmas") and config.get("rescale_betas_zero_snr"):
        scheduler.sigmas[scheduler.sigmas > 4095] = 4096.0
    return scheduler


def worst_distance(schedule: Schedule, theirs: Any, begin: int = 0) -> float:
    """The largest relative error of the latents and of the model's input over a generation with the same noise."""
    timesteps = theirs.timesteps[begin:]
    start, picture, *drawn = outputs(2 + 2 * len(timesteps))
    if begin:
        x = schedule.add_noise(mx.array(picture), mx.array(start), begin)
        expected = theirs.add_noise(torch.from_numpy(picture), torch.from_numpy(start), timesteps[:1])
    else:
        x = mx.array(start) * schedule.init_noise_sigma
        expected = torch.from_numpy(start) * theirs.init_noise_sigma
    worst = distance(x, expected)
    history: tuple[mx.array, ...] = ()
    module, options = sys.modules[type(theirs).__module__], {}
    if isinstance(theirs, diffusers.TCDScheduler):
        options["eta"] = 0.0
    for i, timestep in enumerate(timesteps):
        output, noise = drawn[2 * i : 2 * i + 2]
        scaled = theirs.scale_model_input(expected, timestep)
        worst = max(worst, distance(schedule.scale_model_input(x, begin + i), scaled))
        drawn_noise = mx.array(noise) if schedule.draws_noise(begin + i) else None
        x, history = schedule.step(mx.array(output), begin + i, x, history, drawn_noise)
        with pytest.MonkeyPatch.context() as patch:
            if hasattr(module, "randn_tensor"):
                patch.setattr(module, "randn_tensor", lambda *_, noise=noise, **__: torch.from_numpy(noise))
            expected = theirs.step(torch.from_numpy(output), timestep, expected, **options).prev_sample
        worst = max(worst, distance(x, expected))
    return worst


def assert_timesteps(schedule: Schedule, theirs: Any) -> None:
    """Equal; those between the model's timesteps, read from a table of sigmas, to a thousandth."""
    expected = theirs.timesteps.numpy()
    assert len(schedule.timesteps) == len(expected)
    np.testing.assert_allclose(schedule.timesteps, expected, rtol=1e-5, atol=2e-3)


def meaningful(name: str, config: Config, steps: int) -> bool:
    """Whether diffusers itself gives a picture, from whole digits."""
    count, prediction_type = config.get("num_train_timesteps", 1000), config.get("prediction_type", "epsilon")
    if prediction_type == "sample" and name in NO_SAMPLE:
        return False
    zero_snr = config.get("rescale_betas_zero_snr", False)
    if zero_snr and prediction_type == "epsilon":
        return False
    if name == "dpm2-ancestral" and (steps == 2 or config.get("beta_schedule") == "squaredcos_cap_v2"):
        # diffusers computes sigma_down in float32 as a difference of nearly equal numbers.
        return False
    if name in ("lcm", "tcd"):
        return steps <= config.get("original_inference_steps", 50)
    if config.get("timestep_spacing") == "trailing" and len(np.arange(count, 0, -count / steps)) != steps:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = oracle(name, config, steps)
    if name in ("deis", "dpm++2m-sde"):
        return bool((scheduler.sigmas[:-1].diff() < 0).all())
    return int(scheduler.timesteps[0]) < count


NUMBERS = [(name, title) for name in CLASSES for title in CONFIGS]


@pytest.mark.parametrize(("name", "title"), NUMBERS)
def test_latents_are_those_of_diffusers(name: str, title: str) -> None:
    config = CONFIGS[title]
    if config.get("prediction_type") == "sample" and name in NO_SAMPLE:
        with pytest.raises(UserError, match="prediction_type 'sample' is not supported, only epsilon or v_prediction"):
            make_sampler(config, name)
        return
    first = list(CONFIGS).index(title) + list(CLASSES).index(name)
    steps = next((number for number in rotated(STEPS, first) if meaningful(name, config, number)), None)
    if steps is None:
        assert name == "dpm2-ancestral" or config.get("rescale_betas_zero_snr")
        return
    schedule = make_sampler(config, name).schedule(steps)
    theirs = oracle(name, config, steps)
    assert_timesteps(schedule, theirs)
    assert worst_distance(schedule, theirs) <= TOLERANCE


@pytest.mark.parametrize("title", ["stable diffusion 1", "stable diffusion 2", "karras", "turbo"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_number_of_steps_is_that_of_diffusers(name: str, title: str) -> None:
    config = CONFIGS[title]
    for steps in filter(lambda steps: meaningful(name, config, steps), [1, 2, 3, 4, 5, 6, 7, 14, 15, 16, 25, 30]):
        schedule = make_sampler(config, name).schedule(steps)
        theirs = oracle(name, config, steps)
        assert_timesteps(schedule, theirs)
        assert worst_distance(schedule, theirs) <= TOLERANCE


@pytest.mark.parametrize("title", ["stable diffusion 1", "stable diffusion 2", "karras"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_picture_is_noised_and_denoised_as_in_image_to_image_of_diffusers(name: str, title: str) -> None:
    config = CONFIGS[title]
    for steps, strength in [(4, 0.5), (10, 0.3), (25, 0.8), (25, 0.04), (20, 0.29), (30, 0.999)]:
        begin = (steps - min(int(steps * strength), steps)) * getattr(CLASSES[name], "order", 1)
        schedule = make_sampler(config, name).schedule(steps)
        assert schedule.start(strength) == begin
        assert worst_distance(schedule, oracle(name, config, steps, begin), begin) <= TOLERANCE


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_has_the_orders_of_diffusers(order: int) -> None:
    config = DPM | {"solver_order": order, "timestep_spacing": "linspace"}
    for fields, steps in [({}, 5), ({}, 20), ({"lower_order_final": False}, 6), ({"use_karras_sigmas": True}, 12)]:
        schedule = make_sampler(config | fields, "deis").schedule(steps)
        assert worst_distance(schedule, oracle("deis", config | fields, steps)) <= TOLERANCE


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 5, 6, 17, 18])
def test_single_step_solver_pairs_its_steps_as_diffusers_does(final: str, lower: bool, steps: int) -> None:
    config = DPM | {"final_sigmas_type": final, "lower_order_final": lower}
    schedule = make_sampler(config, "dpm++2s").schedule(steps)
    assert worst_distance(schedule, oracle("dpm++2s", config, steps)) <= TOLERANCE


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_ddpm_has_the_variances_of_diffusers(variance_type: str) -> None:
    config = STABLE_DIFFUSION_1 | {"variance_type": variance_type}
    schedule = make_sampler(config, "ddpm").schedule(12)
    assert worst_distance(schedule, oracle("ddpm", config, 12)) <= TOLERANCE


@pytest.mark.parametrize("class_name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("fields", [{}, {"sigma_schedule": "exponential", "sigma_max": 120.0}], ids=str)
def test_models_trained_on_sigmas_are_drawn_as_diffusers_draws_them(
    class_name: str, prediction_type: str, fields: Config
) -> None:
    """Playground 2.5 and CosXL."""
    config = EDM | {"_class_name": class_name, "prediction_type": prediction_type} | fields
    for steps, final in [(1, "zero"), (4, "zero"), (20, "zero"), (6, "sigma_min"), (18, "sigma_min")]:
        if final == "sigma_min" and class_name != "EDMEulerScheduler":
            # diffusers' last step from sigma_min to sigma_min has no length, and it divides by that.
            continue
        config |= {"final_sigmas_type": final}
        theirs = getattr(diffusers, class_name).from_config(config)
        theirs.set_timesteps(steps)
        schedule = make_sampler(config).schedule(steps)
        np.testing.assert_allclose(schedule.timesteps, theirs.timesteps.numpy(), rtol=1e-5, atol=1e-5)
        assert worst_distance(schedule, theirs) <= TOLERANCE


def test_a_model_trained_on_sigmas_has_no_other_samplers() -> None:
    config = EDM | {"_class_name": "EDMEulerScheduler"}
    assert make_sampler(config, "dpm++2m").edm
    with pytest.raises(UserError, match=r"trained on sigmas \(EDM\): it draws with euler or dpm\+\+2m, not heun"):
        make_sampler(config, "heun")


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_perfect_model_is_followed_to_its_picture(name: str, prediction_type: str) -> None:
    """With the truth as every answer, each step predicts the same x0, and the last latents are it."""
    config = STABLE_DIFFUSION_1 | {"prediction_type": prediction_type, "timestep_spacing": "leading"}
    if name in ("pndm", "lms"):
        # Multistep methods that extrapolate the noise are exact in the limit of many steps only.
        return
    schedule = make_sampler(config, name).schedule(8)
    x0, noise, *drawn = (mx.array(part) for part in outputs(20))
    x = schedule.add_noise(x0, noise, 0)
    history: tuple[mx.array, ...] = ()
    for i in range(len(schedule.timesteps)):
        alpha, sigma = (
            float(np.array(schedule.add_noise(mx.array(part), mx.array(1 - part), i))) for part in (1.0, 0.0)
        )
        truth = (x - alpha * x0) / sigma
        if prediction_type == "v_prediction":
            length = math.hypot(alpha, sigma)
            truth = (alpha * truth - sigma * x0) / length
        x, history = schedule.step(truth, i, x, history, drawn[i])
        assert mx.allclose(history[0], x0, atol=2e-3)
    assert mx.allclose(x, x0, atol=0.1)


@pytest.mark.parametrize("name", CLASSES)
def test_half_precision_answers_give_float32_latents(name: str) -> None:
    schedule = make_sampler(STABLE_DIFFUSION_1, name).schedule(3)
    x = mx.ones((1, 2, 2, 4))
    history: tuple[mx.array, ...] = ()
    for i in range(len(schedule.timesteps)):
        x, history = schedule.step(mx.ones((1, 2, 2, 4), mx.float16), i, x, history, mx.ones((1, 2, 2, 4)))
        assert x.dtype == history[0].dtype == mx.float32


@pytest.mark.parametrize(
    ("config", "name", "planted"),
    [
        (LCM, "tcd", {"original_inference_steps": 49}),
        (STABLE_DIFFUSION_1, "pndm", {"set_alpha_to_one": True}),
        (DPM, "deis", {"solver_order": 3}),
        (STABLE_DIFFUSION_1, "ddpm", {"variance_type": "fixed_large"}),
        (STABLE_DIFFUSION_XL, "heun", {"use_karras_sigmas": True}),
        (STABLE_DIFFUSION_XL, "dpm2", {"steps_offset": 0}),
    ],
    ids=str,
)
def test_the_comparison_sees_a_field_that_is_misread(config: Config, name: str, planted: Config) -> None:
    schedule, theirs = make_sampler(config | planted, name).schedule(8), oracle(name, config, 8)
    assert worst_distance(schedule, theirs) > 10 * TOLERANCE


def test_the_runge_kutta_steps_of_pndm_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="skip_prk_steps False is not supported, only True"):
        make_sampler(STABLE_DIFFUSION_1 | {"skip_prk_steps": False})


def test_every_class_name_and_every_name_has_a_sampler() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES
    for name in SAMPLER_NAMES:
        assert make_sampler(STABLE_DIFFUSION_1, name).name == name
    for class_name, name in SAMPLER_OF_CLASS.items():
        assert hasattr(diffusers, class_name)
        assert sampler_named(class_name).name == name
    assert make_sampler(DPM | {"algorithm_type": "sde-dpmsolver++"}).name == "dpm++2m-sde"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ 2M Karras", ("dpm++2m", True, None)),
        ("DPM++ 2M", ("dpm++2m", None, None)),
        ("dpmpp_2m", ("dpm++2m", None, None)),
        ("DPM++ 2M SDE Karras", ("dpm++2m-sde", True, None)),
        ("dpmpp_2m_sde", ("dpm++2m-sde", None, None)),
        ("DPM++ SDE Karras", ("dpm++2s", True, None)),
        ("DPM++ 2S a", ("dpm++2s", None, None)),
        ("DPM2 a Karras", ("dpm2-ancestral", True, None)),
        ("dpm_2_ancestral", ("dpm2-ancestral", None, None)),
        ("Euler a", ("euler-ancestral", None, None)),
        ("euler_ancestral", ("euler-ancestral", None, None)),
        ("Euler SGM Uniform", ("euler", None, "trailing")),
        ("EULER", ("euler", None, None)),
        ("PLMS", ("pndm", None, None)),
        ("uni_pc", ("unipc", None, None)),
        ("LMS Karras", ("lms", True, None)),
        ("EulerDiscreteScheduler", ("euler", None, None)),
    ],
)
def test_names_of_other_programs_are_known(name: str, expected: tuple[Any, ...]) -> None:
    assert sampler_named(name) == expected


@pytest.mark.parametrize("name", ["DPM++ 3M SDE", "DPM adaptive", "Restart", "DPM++ 2M Exponential", "", "Karras"])
def test_a_sampler_that_is_not_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=r"There is no sampler .*; the samplers are: ddim, euler"):
        make_sampler(STABLE_DIFFUSION_1, name)


@pytest.mark.parametrize(
    "class_name", ["DPMSolverSDEScheduler", "SASolverScheduler", "FlowMatchEulerDiscreteScheduler"]
)
def test_a_scheduler_that_is_not_here_is_refused_by_name(class_name: str) -> None:
    with pytest.raises(UserError, match=f"_class_name '{class_name}' is not supported; choose a sampler by name: ddim"):
        make_sampler(STABLE_DIFFUSION_1 | {"_class_name": class_name})


@pytest.mark.parametrize("name", ["euler", "euler-ancestral", "dpm++2m", "ddim", "unipc", "heun", "lms", "pndm"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_spacing_and_karras_replace_the_fields_of_the_config(name: str, spacing: str) -> None:
    fields = {"timestep_spacing": spacing}
    ours = make_sampler(STABLE_DIFFUSION_XL, name, spacing=spacing)
    assert ours == make_sampler(STABLE_DIFFUSION_XL | fields, name)
    assert make_sampler(STABLE_DIFFUSION_XL, "euler", karras=True).config.use_karras_sigmas
    karras = STABLE_DIFFUSION_XL | {"use_karras_sigmas": True}
    assert not make_sampler(karras, "euler", karras=False).config.use_karras_sigmas


def test_four_steps_of_a_lightning_adapter_have_the_timesteps_that_it_was_distilled_at() -> None:
    schedule = make_sampler(STABLE_DIFFUSION_XL, spacing="trailing").schedule(4)
    assert schedule.timesteps.tolist() == [999, 749, 499, 249]
    theirs = diffusers.EulerDiscreteScheduler.from_config(STABLE_DIFFUSION_XL, timestep_spacing="trailing")
    theirs.set_timesteps(4)
    assert_timesteps(schedule, theirs)
    assert worst_distance(schedule, theirs) <= TOLERANCE


def test_what_a_sampler_does_not_know_is_refused() -> None:
    with pytest.raises(UserError, match="lcm chooses its timesteps itself: leave out the spacing"):
        make_sampler(STABLE_DIFFUSION_1, "lcm", spacing="trailing")
    with pytest.raises(UserError, match="euler-ancestral has no Karras sigmas"):
        make_sampler(STABLE_DIFFUSION_1, "Euler a Karras")
    with pytest.raises(UserError, match="no spacing 'even'; there are leading, trailing, linspace"):
        make_sampler(STABLE_DIFFUSION_1, "euler", spacing="even")
