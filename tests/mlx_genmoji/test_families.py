"""Every kind of pipeline against diffusers' own, in miniature: text, pictures and masks in, the same picture out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image

from mlx_genmoji import Cancelled, Genmoji, UserError
from mlx_genmoji.samplers import step_noise
from mlx_genmoji.sticker import Sticker, read_recipe

pytestmark = pytest.mark.usefixtures("cpu")

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPT = "a flying pig"
SIDE = 16
"""Pixels; the latents have half as many a side."""

Make = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make(tmp_path: Path, write_pipeline: Callable[..., Path]) -> Make:
    """Writes a folder of a diffusers pipeline class with random weights: `make(kind, scheduler, **unet fields)`."""
    return lambda kind, scheduler, **fields: write_pipeline(tmp_path / kind.__name__, kind, scheduler, **fields)


def psnr(folder: Path, kind: type, mine: dict[str, Any], theirs: dict[str, Any], steps: int = 5) -> float:
    """Of our picture against that of diffusers' pipeline `kind`."""
    pipeline = kind.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(PROMPT, num_inference_steps=steps, output_type="np", **theirs).images[0]
    drawn = Genmoji.load(folder).generate(PROMPT, steps=steps, **mine)[0].image
    error = np.mean((np.asarray(drawn) / 255 - np.round(expected * 255) / 255) ** 2)
    return float(10 * np.log10(1 / max(error, 1e-12)))


def noise() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((1, SIDE // 2, SIDE // 2, 4)).astype(np.float32)


def for_both(guidance: float, negative_prompt: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    mine: dict[str, Any] = {"latents": mx.array(noise()), "guidance": guidance, "negative_prompt": negative_prompt}
    theirs: dict[str, Any] = {
        "latents": torch.from_numpy(noise()).permute(0, 3, 1, 2).contiguous(),
        "guidance_scale": guidance,
    }
    return mine, theirs | ({"negative_prompt": negative_prompt} if negative_prompt else {})


@pytest.mark.parametrize(("guidance", "negative_prompt"), [(1.0, ""), (5.0, ""), (7.5, "two cats")])
def test_xl_draws_what_diffusers_draws(make: Make, guidance: float, negative_prompt: str) -> None:
    folder = make(StableDiffusionXLPipeline, EulerDiscreteScheduler(**NOISE, steps_offset=1))
    mine, theirs = for_both(guidance, negative_prompt)
    assert psnr(folder, StableDiffusionXLPipeline, mine, theirs) >= 60


def test_xl_without_zeros_for_an_empty_prompt(make: Make) -> None:
    folder = make(StableDiffusionXLPipeline, EulerDiscreteScheduler(**NOISE))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": False}))
    assert psnr(folder, StableDiffusionXLPipeline, *for_both(5.0)) >= 60


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(**NOISE, prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        DDIMScheduler(
            **NOISE, prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
        ),
        UniPCMultistepScheduler(**NOISE, prediction_type="v_prediction"),
        DPMSolverMultistepScheduler(**NOISE, prediction_type="sample", use_karras_sigmas=True),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_sd2_draws_what_diffusers_draws(make: Make, scheduler: Any, guidance: float) -> None:
    folder = make(StableDiffusionPipeline, scheduler, use_linear_projection=True, attention_head_dim=(4, 8))
    mine, theirs = for_both(guidance, "a happy octopus")
    assert psnr(folder, StableDiffusionPipeline, mine, theirs) >= 60


def test_a_distilled_unet_without_a_middle_draws_what_diffusers_draws(make: Make) -> None:
    folder = make(
        StableDiffusionPipeline,
        DDIMScheduler(**NOISE, clip_sample=False, steps_offset=1),
        mid_block_type=None,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    assert psnr(folder, StableDiffusionPipeline, *for_both(7.5)) >= 60


@pytest.mark.parametrize("guidance", [1.0, 8.5])
def test_one_step_of_lcm_is_that_of_diffusers(make: Make, guidance: float) -> None:
    # One step draws no noise, so that both start and end alike.
    folder = make(LatentConsistencyModelPipeline, LCMScheduler(**NOISE), time_cond_proj_dim=16)
    assert psnr(folder, LatentConsistencyModelPipeline, *for_both(guidance), steps=1) >= 60


def test_lcm_has_its_own_defaults(make: Make) -> None:
    folder = make(LatentConsistencyModelPipeline, LCMScheduler(**NOISE), time_cond_proj_dim=16)
    recipe = Genmoji.load(folder).generate(PROMPT, seed=1)[0].recipe
    assert (recipe["steps"], recipe["guidance"], recipe["sampler"]) == (4, 8.5, "lcm")


@pytest.mark.parametrize(
    "scheduler", [LCMScheduler(**NOISE), EulerAncestralDiscreteScheduler(**NOISE, timestep_spacing="trailing")]
)
def test_candidates_of_a_stochastic_sampler_can_be_made_alone(make: Make, scheduler: Any) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, scheduler))
    two = genmoji.generate(PROMPT, count=2, seed=7, steps=3)
    assert pixels(genmoji.generate(PROMPT, seed=8, steps=3)[0]) == pixels(two[1]) != pixels(two[0])


@pytest.fixture
def picture() -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@pytest.fixture
def mask() -> Image.Image:
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[4:12, 6:] = 255
    return Image.fromarray(values)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler])
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
def test_a_picture_becomes_what_diffusers_makes_of_it(
    make: Make, picture: Image.Image, scheduler: Any, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(StableDiffusionPipeline, scheduler(**NOISE, steps_offset=1))
    theirs_noise = torch.from_numpy(noise()).permute(0, 3, 1, 2).contiguous()
    module = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: theirs_noise)
    mine = {"image": picture, "strength": strength, "latents": mx.array(noise()), "guidance": 7.5}
    theirs = {"image": picture, "strength": strength, "guidance_scale": 7.5}
    assert psnr(folder, StableDiffusionImg2ImgPipeline, mine, theirs, steps=6) >= 60


@pytest.mark.parametrize("strength", [0.5, 0.81, 1.0])
def test_a_picture_is_changed_in_few_steps_as_diffusers_does(
    make: Make, picture: Image.Image, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(LatentConsistencyModelPipeline, LCMScheduler(**NOISE), time_cond_proj_dim=16)
    theirs_noise = torch.from_numpy(noise()).permute(0, 3, 1, 2).contiguous()
    module = LatentConsistencyModelImg2ImgPipeline.__module__
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: theirs_noise)
    steps = iter(range(3))

    def of_step(shape: Any, **_: Any) -> torch.Tensor:
        drawn_noise = np.array(step_noise(7, next(steps), (shape[0], *shape[2:], shape[1])))
        return torch.from_numpy(drawn_noise).permute(0, 3, 1, 2)

    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", of_step)
    mine = {"image": picture, "strength": strength, "latents": mx.array(noise()), "guidance": 8.5, "seed": 7}
    theirs = {"image": picture, "strength": strength, "guidance_scale": 8.5}
    assert psnr(folder, LatentConsistencyModelImg2ImgPipeline, mine, theirs, steps=4) >= 60


def test_a_strength_that_leaves_too_few_distilled_steps_is_said(make: Make, picture: Image.Image) -> None:
    genmoji = Genmoji.load(make(LatentConsistencyModelPipeline, LCMScheduler(**NOISE), time_cond_proj_dim=16))
    with pytest.raises(UserError, match="leaves 3 of the 50 steps"):
        genmoji.generate(PROMPT, image=picture, strength=0.07, steps=4)


@pytest.mark.parametrize("kind", [StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_masked_picture_is_repainted_as_diffusers_does(
    make: Make,
    picture: Image.Image,
    mask: Image.Image,
    kind: type,
    strength: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make(kind, DDIMScheduler(**NOISE, clip_sample=False, steps_offset=1), in_channels=9)
    mine, theirs = for_both(6.0)
    module = kind.__module__
    theirs_noise = theirs["latents"]
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: theirs_noise)
    del theirs["latents"]
    theirs |= {"image": picture, "mask_image": mask, "strength": strength, "height": SIDE, "width": SIDE}
    mine |= {"image": picture, "mask": mask, "strength": strength}
    assert psnr(folder, kind, mine, theirs, steps=6) >= 60


def test_what_does_not_go_together_is_said(make: Make, picture: Image.Image, mask: Image.Image) -> None:
    plain = Genmoji.load(make(StableDiffusionPipeline, DDIMScheduler(**NOISE)))
    repainting = Genmoji.load(make(StableDiffusionInpaintPipeline, DDIMScheduler(**NOISE), in_channels=9))
    for genmoji, arguments, named in (
        (plain, {"mask": mask, "image": picture}, "takes no mask"),
        (plain, {"strength": 0.5}, "give an image"),
        (plain, {"image": picture, "strength": 0.0}, "none of the 2 steps"),
        (plain, {"image": picture, "strength": 1.5}, "from 0 to 1"),
        (repainting, {"image": picture}, "an image and a mask"),
        (repainting, {}, "an image and a mask"),
    ):
        with pytest.raises(UserError, match=named):
            genmoji.generate(PROMPT, steps=2, **arguments)


def test_a_picture_of_any_shape_and_kind_is_taken(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, DDIMScheduler(**NOISE)))
    for mode, size in (("RGBA", (40, 9)), ("L", (3, 50)), ("P", (16, 16)), ("1", (1, 1)), ("CMYK", (20, 20))):
        assert genmoji.generate(PROMPT, image=Image.new(mode, size), steps=2, seed=1)[0].image.size == (SIDE, SIDE)


def test_previews_come_from_the_small_autoencoder(make: Make, tmp_path: Path) -> None:
    folder = make(StableDiffusionPipeline, DDIMScheduler(**NOISE))
    torch.manual_seed(3)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    tiny.save_pretrained(tmp_path / "tiny")
    genmoji = Genmoji.load(folder, preview=tmp_path / "tiny")
    seen: list[mx.array] = []
    genmoji.generate(PROMPT, seed=1, steps=3, callback=lambda step, steps, latents: seen.append(latents))
    with torch.no_grad():
        latents = torch.from_numpy(np.asarray(seen[0])).permute(0, 3, 1, 2)
        decoded = tiny.decode(latents).sample[0].permute(1, 2, 0).numpy()
    expected = np.round(np.clip(decoded / 2 + 0.5, 0, 1) * 255)
    assert np.abs(np.asarray(genmoji.preview(seen[0])).astype(int) - expected).max() <= 1


def test_the_last_latents_that_a_callback_hears_are_those_of_the_sticker(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, EulerDiscreteScheduler(**NOISE)))
    seen: list[mx.array] = []
    (sticker,) = genmoji.generate(PROMPT, seed=1, steps=3, callback=lambda *heard: seen.append(heard[2]))
    assert np.array_equal(np.asarray(genmoji.preview(seen[-1])), np.asarray(sticker.image))


def test_a_callback_can_stop(make: Make) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, DDIMScheduler(**NOISE)))
    heard: list[int] = []

    def stop(step: int, steps: int, latents: mx.array) -> bool:
        heard.append(step)
        return step < 1

    with pytest.raises(Cancelled):
        genmoji.generate(PROMPT, count=2, steps=5, callback=stop)
    assert heard == [0, 1]


def pixels(sticker: Sticker) -> list[int]:
    return np.asarray(sticker.image).ravel().tolist()


def test_a_recipe_replays_to_the_bit(make: Make, picture: Image.Image, tmp_path: Path) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, EulerAncestralDiscreteScheduler(**NOISE)))
    for more in ({}, {"image": picture, "strength": 0.5}, {"sampler": "unipc", "template": "{prompt}, 3d"}):
        two = genmoji.generate("{pig}", count=2, steps=3, seed=9, skin_tone="dark", negative_prompt="cats", **more)
        two[1].save(tmp_path / "pig.png")
        recipe = read_recipe(tmp_path / "pig.png")
        assert recipe is not None
        again = genmoji.replay(recipe, image=more.get("image"))
        assert pixels(again) == pixels(two[1])
        assert again.recipe == two[1].recipe


def test_a_recipe_that_would_give_another_sticker_is_refused(make: Make, picture: Image.Image) -> None:
    genmoji = Genmoji.load(make(StableDiffusionPipeline, DDIMScheduler(**NOISE)))
    plain = genmoji.generate(PROMPT, steps=1, seed=1)[0].recipe
    of_picture = genmoji.generate(PROMPT, steps=1, seed=1, image=picture, strength=1.0)[0].recipe
    of_noise = genmoji.generate(PROMPT, steps=1, latents=mx.array(noise()))[0].recipe
    for recipe, arguments, named in (
        (plain | {"model": {"name": "other", "sha256": "0"}}, {}, "other weights, those of 'other'"),
        (plain, {"image": picture}, "started from no image"),
        (of_picture, {}, "needs the image .* none was given"),
        (of_picture, {"image": Image.new("RGB", (8, 8))}, "another one was given"),
        (of_noise, {}, "noise that a program gave"),
        ({"prompt": "pig"}, {}, "incomplete"),
    ):
        with pytest.raises(UserError, match=named) as error:
            genmoji.replay(recipe, **arguments)
        assert "\n" not in str(error.value)


def test_a_checkpoint_in_one_file_is_answered_with_the_command_that_makes_a_folder_of_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"genmoji convert .*model\.safetensors -o FOLDER"):
        Genmoji.load(tmp_path / "model.safetensors")
