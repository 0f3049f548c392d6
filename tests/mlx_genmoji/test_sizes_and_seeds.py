"""Sizes, clip skip, spacing and torch's noise: the pictures of diffusers, for every family of Stable Diffusion."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    TCDScheduler,
)
from PIL import Image

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.models import ops
from mlx_genmoji.sticker import Sticker

pytestmark = pytest.mark.usefixtures("cpu")

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD_2 = {"use_linear_projection": True, "attention_head_dim": (4, 8)}
PROMPT = "a flying pig"
OWN = 16
"""The models' own side in pixels; the latents have half as many."""

Make = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make(tmp_path: Path, write_pipeline: Callable[..., Path]) -> Make:
    return lambda kind, scheduler, **fields: write_pipeline(tmp_path / kind.__name__, kind, scheduler, **fields)


@pytest.fixture
def family(make: Make, request: pytest.FixtureRequest) -> tuple[Path, Any]:
    """A folder of the family, and its pipeline in diffusers."""
    if request.param == "sd1":
        scheduler: Any = DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        return make(StableDiffusionPipeline, scheduler), StableDiffusionPipeline
    if request.param == "sd2":
        scheduler = DDIMScheduler(**NOISE, prediction_type="v_prediction", clip_sample=False, steps_offset=1)
        return make(StableDiffusionPipeline, scheduler, **SD_2), StableDiffusionPipeline
    return make(StableDiffusionXLPipeline, EulerDiscreteScheduler(**NOISE, steps_offset=1)), StableDiffusionXLPipeline


FAMILIES = pytest.mark.parametrize("family", ["sd1", "sd2", "xl"], indirect=True)


def pixels(sticker: Sticker) -> np.ndarray:
    return np.asarray(sticker.image) / 255


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    error = np.mean((ours - np.round(theirs * 255) / 255) ** 2)
    return float(10 * np.log10(1 / max(error, 1e-12)))


def drawn_by_diffusers(folder: Path, kind: Any, seed: int | None = None, **options: Any) -> np.ndarray:
    pipeline = kind.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    # The pipelines refuse sides that are no multiples of 8; their models take any.
    pipeline.check_inputs = lambda *_, **__: None
    if not hasattr(pipeline.text_encoder, "text_model"):
        # transformers 5 has the norm in the model itself, where diffusers' `clip_skip` does not look for it.
        norm = types.SimpleNamespace(final_layer_norm=pipeline.text_encoder.final_layer_norm)
        pipeline.text_encoder.text_model = norm
    if seed is not None:
        options["generator"] = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "np"} | options
    picture: np.ndarray = pipeline(PROMPT, **options).images[0]
    return picture


def drawn(folder: Path, **options: Any) -> Sticker:
    return Genmoji.load(folder).generate(PROMPT, **{"steps": 4, "guidance": 5.0} | options)[0]


@FAMILIES
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (24, 16), (18, 30), (50, 34), (96, 40)])
def test_a_picture_of_any_size_is_that_of_diffusers(family: tuple[Path, Any], size: tuple[int, int]) -> None:
    """Also where the latents' sides are odd, so that halving and doubling them is not the same size again."""
    folder, kind = family
    width, height = size
    noise = np.random.default_rng(3).standard_normal((1, height // 2, width // 2, 4)).astype(np.float32)
    latents = torch.from_numpy(noise).permute(0, 3, 1, 2).contiguous()
    theirs = drawn_by_diffusers(folder, kind, width=width, height=height, latents=latents)
    sticker = drawn(folder, width=width, height=height, latents=mx.array(noise))
    assert sticker.image.size == size
    assert psnr(pixels(sticker), theirs) >= 60


@pytest.mark.parametrize("family", ["sd1", "xl"], indirect=True)
@pytest.mark.parametrize("size", [(32, 24), (18, 30)])
def test_the_gpu_forms_draw_any_size(
    family: tuple[Path, Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kind = family
    theirs = drawn_by_diffusers(folder, kind, seed=1, width=size[0], height=size[1])
    monkeypatch.setattr(ops, "on_cpu", lambda: False)
    assert psnr(pixels(drawn(folder, seed=1, noise="torch", width=size[0], height=size[1])), theirs) >= 60


@pytest.mark.parametrize(("side", "family"), [(128, "sd1"), (128, "xl")], indirect=["family"])
def test_large_pictures_are_those_of_diffusers(family: tuple[Path, Any], side: int) -> None:
    folder, kind = family
    theirs = drawn_by_diffusers(folder, kind, seed=5, width=side, height=side, num_inference_steps=1)
    assert psnr(pixels(drawn(folder, seed=5, size=side, noise="torch", steps=1)), theirs) >= 60


def test_the_size_conditions_of_xl_are_those_of_the_picture(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionXLPipeline, EulerDiscreteScheduler(**NOISE)))
    seen: list[list[float]] = []
    predict = genmoji.family.predict

    def spy(latents: mx.array, timestep: float, conditions: Any, *others: Any) -> mx.array:
        seen.extend(np.array(conditions.added["time_ids"]).tolist())
        return predict(latents, timestep, conditions, *others)

    genmoji.family.predict = spy  # type: ignore[method-assign]
    genmoji.generate(PROMPT, seed=1, steps=1, width=40, height=24)
    assert seen == [[24, 40, 0, 0, 24, 40]] * 2


def test_a_size_between_the_latents_is_refused_with_the_nearest(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, DDIMScheduler(**NOISE)))
    with pytest.raises(UserError, match="multiples of 2 pixels, not 33 x 16; the nearest are 32 x 16"):
        genmoji.generate(PROMPT, width=33)
    with pytest.raises(UserError, match="width must be a whole number from 1 to 4096 pixels, not 0"):
        genmoji.generate(PROMPT, width=0)
    with pytest.raises(UserError, match="height must be a whole number from 1 to 4096 pixels, not 5000"):
        genmoji.generate(PROMPT, height=5000)
    with pytest.raises(UserError, match="either the size of a square picture, or its width and height"):
        genmoji.generate(PROMPT, size=16, height=16)
    with pytest.raises(UserError, match=r"latents must have the shape \(1, 16, 8, 4\), not \(1, 8, 8, 4\)"):
        genmoji.generate(PROMPT, height=32, latents=mx.zeros((1, 8, 8, 4)))


def test_a_size_far_from_the_model_s_is_drawn_and_said(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, DDIMScheduler(**NOISE)))
    assert genmoji.generate(PROMPT, seed=1, steps=1, width=20)[0].notes == ()
    (note,) = genmoji.generate(PROMPT, seed=1, steps=1, size=64)[0].notes
    assert note.startswith("64 x 64 is far from the 16 x 16 pixels that the model StableDiffusionPipeline draws")


def test_the_built_in_model_says_what_it_draws() -> None:
    genmoji = Genmoji.load()
    with pytest.raises(UserError, match="draws pictures of 128 x 128 pixels and no other size"):
        genmoji.generate("pig", size=512)
    assert genmoji.generate("pig", seed=1, steps=1, size=128)[0].image.size == (128, 128)


@FAMILIES
@pytest.mark.parametrize("clip_skip", [0, 1])
def test_clip_skip_is_that_of_diffusers(family: tuple[Path, Any], clip_skip: int) -> None:
    folder, kind = family
    theirs = drawn_by_diffusers(folder, kind, seed=2, clip_skip=clip_skip, negative_prompt="two cats")
    options = {"seed": 2, "noise": "torch", "negative_prompt": "two cats"}
    assert psnr(pixels(drawn(folder, clip_skip=clip_skip, **options)), theirs) >= 60
    other = psnr(pixels(drawn(folder, clip_skip=1 - clip_skip, **options)), theirs)
    assert other < 60


def test_more_skipped_layers_than_there_are_is_said(make: Make) -> None:
    folder = make(StableDiffusionPipeline, DDIMScheduler(**NOISE))
    layers = len(Genmoji.load(folder).text.encoders[0].text_model.encoder.layers)
    with pytest.raises(UserError, match=f"clip_skip 50 leaves no layer of the text encoder: give at most {layers}"):
        drawn(folder, clip_skip=50)
    with pytest.raises(UserError, match="clip_skip must be a whole number from 0 to 100, not -1"):
        drawn(folder, clip_skip=-1)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("karras", [False, True])
def test_spacing_and_karras_sigmas_are_those_of_diffusers(make: Make, spacing: str, karras: bool) -> None:
    folder = make(StableDiffusionXLPipeline, EulerDiscreteScheduler(**NOISE, steps_offset=1))
    sticker = drawn(folder, seed=3, noise="torch", spacing=spacing, karras=karras)
    changed = EulerDiscreteScheduler(**NOISE, steps_offset=1, timestep_spacing=spacing, use_karras_sigmas=karras)
    changed.save_pretrained(folder / "scheduler")
    assert psnr(pixels(sticker), drawn_by_diffusers(folder, StableDiffusionXLPipeline, seed=3)) >= 60


@FAMILIES
@pytest.mark.parametrize("seed", [0, 7, 2**32 + 1])
def test_a_seed_with_torch_s_noise_is_the_picture_of_diffusers(family: tuple[Path, Any], seed: int) -> None:
    folder, kind = family
    theirs = drawn_by_diffusers(folder, kind, seed=seed)
    assert psnr(pixels(drawn(folder, seed=seed, noise="torch")), theirs) >= 60
    assert psnr(pixels(drawn(folder, seed=seed)), theirs) < 40


STOCHASTIC = [
    EulerAncestralDiscreteScheduler(**NOISE),
    LCMScheduler(**NOISE),
    DDPMScheduler(**NOISE, clip_sample=False, steps_offset=1),
    DPMSolverMultistepScheduler(**NOISE, algorithm_type="sde-dpmsolver++"),
    KDPM2AncestralDiscreteScheduler(**NOISE, steps_offset=1),
]


@pytest.mark.parametrize("scheduler", STOCHASTIC, ids=lambda scheduler: type(scheduler).__name__)
def test_the_steps_noise_of_torch_is_that_of_diffusers_too(make: Make, scheduler: Any) -> None:
    folder = make(StableDiffusionPipeline, scheduler)
    theirs = drawn_by_diffusers(folder, StableDiffusionPipeline, seed=11)
    assert psnr(pixels(drawn(folder, seed=11, noise="torch")), theirs) >= 60


@pytest.mark.parametrize("scheduler", [PNDMScheduler(**NOISE, skip_prk_steps=True), TCDScheduler(**NOISE)])
def test_samplers_that_draw_no_noise_are_those_of_diffusers(make: Make, scheduler: Any) -> None:
    folder = make(StableDiffusionPipeline, scheduler)
    theirs = drawn_by_diffusers(folder, StableDiffusionPipeline, seed=11)
    assert psnr(pixels(drawn(folder, seed=11, noise="torch")), theirs) >= 60


def vary(folder: Path) -> None:
    """Give the encoder's latents a variance, which those of the fixture do not have."""
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.latent_channels :] = -2
    vae.save_pretrained(folder / "vae")


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image_with_torch_s_noise_is_that_of_diffusers(make: Make, xl: bool, strength: float) -> None:
    """Which first samples the picture's latents, then draws the noise, then that of each step."""
    kind: Any = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    folder = make(kind, EulerAncestralDiscreteScheduler(**NOISE))
    vary(folder)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (OWN, OWN, 3), np.uint8))
    kind = StableDiffusionXLImg2ImgPipeline if xl else StableDiffusionImg2ImgPipeline
    theirs = drawn_by_diffusers(folder, kind, seed=9, image=picture, strength=strength, num_inference_steps=6)
    ours = drawn(folder, seed=9, noise="torch", image=picture, strength=strength, steps=6)
    assert psnr(pixels(ours), theirs) >= 50


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_repainting_with_torch_s_noise_is_that_of_diffusers(make: Make, strength: float) -> None:
    folder = make(StableDiffusionInpaintPipeline, EulerAncestralDiscreteScheduler(**NOISE), in_channels=9)
    vary(folder)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (OWN, OWN, 3), np.uint8))
    mask = Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 4))
    options = {"image": picture, "mask_image": mask, "strength": strength, "width": OWN, "height": OWN}
    theirs = drawn_by_diffusers(folder, StableDiffusionInpaintPipeline, seed=9, num_inference_steps=6, **options)
    ours = drawn(folder, seed=9, noise="torch", image=picture, mask=mask, strength=strength, steps=6)
    assert psnr(pixels(ours), theirs) >= 50


def test_candidates_of_torch_s_noise_can_be_made_alone(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, EulerAncestralDiscreteScheduler(**NOISE)))
    two = genmoji.generate(PROMPT, count=2, seed=7, steps=3, noise="torch")
    alone = genmoji.generate(PROMPT, seed=8, steps=3, noise="torch")[0]
    assert np.array_equal(pixels(alone), pixels(two[1])) and not np.array_equal(pixels(two[0]), pixels(two[1]))


OPTIONS: dict[str, Any] = {
    "width": 24,
    "height": 32,
    "clip_skip": 1,
    "spacing": "trailing",
    "karras": True,
    "prompt_weights": True,
    "long_prompts": True,
    "noise": "torch",
}


def test_a_recipe_with_every_option_replays_to_the_bit(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, EulerDiscreteScheduler(**NOISE)))
    sticker = genmoji.generate("a (flying:1.3) pig", seed=4, steps=3, **OPTIONS)[0]
    assert {name: sticker.recipe[name] for name in OPTIONS} == OPTIONS
    assert np.array_equal(pixels(genmoji.replay(sticker.recipe)), pixels(sticker))
    plain = genmoji.generate("a (flying:1.3) pig", seed=4, steps=3)[0]
    assert not set(OPTIONS) & set(plain.recipe)


def test_a_sampler_s_name_of_a1111_is_kept_in_the_recipe_as_what_it_means(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, EulerDiscreteScheduler(**NOISE)))
    sticker = genmoji.generate(PROMPT, seed=4, steps=5, sampler="DPM++ 2M Karras")[0]
    assert (sticker.recipe["sampler"], sticker.recipe["karras"]) == ("dpm++2m", True)
    assert np.array_equal(pixels(genmoji.replay(sticker.recipe)), pixels(sticker))
    same = genmoji.generate(PROMPT, seed=4, steps=5, sampler="DPMSolverMultistepScheduler", karras=True)[0]
    assert np.array_equal(pixels(same), pixels(sticker))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", "16", "'width' must be a whole number, not '16'"),
        ("width", True, "'width' must be a whole number, not True"),
        ("height", -8, "height must be a whole number from 1 to 4096 pixels, not -8"),
        ("height", 15, "multiples of 2 pixels, not 16 x 15"),
        ("clip_skip", 1.5, "'clip_skip' must be a whole number"),
        ("spacing", "even", "no spacing 'even'; there are leading, trailing, linspace"),
        ("spacing", ["leading"], "'spacing' must be a text"),
        ("karras", "yes", "'karras' must be true or false, not 'yes'"),
        ("karras", 1, "'karras' must be true or false, not 1"),
        ("prompt_weights", None, "'prompt_weights' must be true or false"),
        ("noise", "cuda", "no noise 'cuda'; there are mlx and torch"),
        ("noise", {}, "'noise' must be a text"),
    ],
)
def test_a_recipe_s_options_are_checked(make: Make, field: str, value: Any, message: str) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, EulerDiscreteScheduler(**NOISE)))
    recipe = genmoji.generate(PROMPT, seed=4, steps=1)[0].recipe
    with pytest.raises(UserError, match=message):
        genmoji.replay({**recipe, field: value})
