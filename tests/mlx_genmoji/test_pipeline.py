"""The whole way from a prompt to a picture, against diffusers, and what stands in the way of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.combinations.assemble import put_together
from mlx_genmoji.combinations.combination import Combination
from mlx_genmoji.errors import Cancelled
from mlx_genmoji.families.stable_diffusion import StableDiffusion
from mlx_genmoji.models import ops
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.prompt import PromptPlan, compose
from mlx_genmoji.sticker import Sticker, read_recipe
from train.model.vocabulary import train_clip_vocabulary

pytestmark = pytest.mark.usefixtures("cpu")

SD1_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SCHEDULERS = {
    "ddim": DDIMScheduler(**SD1_NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "euler": EulerDiscreteScheduler(**SD1_NOISE, steps_offset=1, timestep_spacing="leading"),
    "dpm++2m": DPMSolverMultistepScheduler(**SD1_NOISE, steps_offset=1, timestep_spacing="leading"),
    "pndm": PNDMScheduler(**SD1_NOISE, skip_prk_steps=True, steps_offset=1),
    "v": DDIMScheduler(
        **SD1_NOISE,
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    ),
}
CAPTIONS = ["a flying pig", "a red apple on a plate", "an astronaut, waving, at night", "a happy octopus", "two cats"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 1.x model in miniature with random weights, as diffusers writes it."""
    folder = tmp_path_factory.mktemp("model")
    size = train_clip_vocabulary(CAPTIONS, 600, folder / "vocabulary", 77)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "vocabulary")
    torch.manual_seed(0)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            hidden_act="quick_gelu",
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=32,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=16,
    )
    with torch.no_grad():
        for model in (text_encoder, unet, vae):
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        # The text should matter to the picture more than in a random model it does.
        for name, parameter in unet.named_parameters():
            if "attn2" in name:
                parameter.mul_(4)
    pipeline(folder, unet, text_encoder, vae, tokenizer, SCHEDULERS["ddim"])
    return folder


def pipeline(folder: Path, unet: Any, text_encoder: Any, vae: Any, tokenizer: Any, scheduler: Any) -> None:
    StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    """A copy of the model to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "broken"))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(1 / np.mean((a - b) ** 2)))


def drawn_by_both(folder: Path, scheduler: str = "ddim", guidance: float = 7.5, **arguments: Any) -> float:
    """PSNR of our picture against diffusers', for one set of initial noise."""
    noise = np.random.default_rng(5).standard_normal((1, 8, 8, 4)).astype(np.float32)
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, scheduler=SCHEDULERS[scheduler])
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        "a flying pig",
        num_inference_steps=6,
        guidance_scale=guidance,
        latents=torch.from_numpy(noise).permute(0, 3, 1, 2).contiguous(),
        output_type="np",
        **arguments,
    ).images[0]
    SCHEDULERS[scheduler].save_pretrained(folder / "scheduler")
    ours = Genmoji.load(folder).generate(
        "a flying pig", steps=6, guidance=guidance, latents=mx.array(noise), **arguments
    )
    # Both write 8 bits in the end; theirs is asked for unrounded, so round it alike.
    return psnr(np.asarray(ours[0].image) / 255, np.round(expected * 255) / 255)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_picture_is_that_of_diffusers(broken: Path, scheduler: str) -> None:
    assert drawn_by_both(broken, scheduler) >= 60


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 3.0])
def test_guidance_and_negative_prompt_are_those_of_diffusers(broken: Path, guidance: float) -> None:
    assert drawn_by_both(broken, guidance=guidance, negative_prompt="two cats") >= 60


def test_the_gpu_forms_draw_the_same_picture(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "on_cpu", lambda: False)
    assert drawn_by_both(broken) >= 60


def test_a_wrong_padding_id_is_noticed(broken: Path) -> None:
    theirs = StableDiffusionPipeline.from_pretrained(broken, safety_checker=None)
    wrong = json.loads((broken / "tokenizer" / "tokenizer_config.json").read_text()) | {"pad_token": "!"}
    right = Genmoji.load(broken).text.tokenizers[0](["pig"])
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (broken / "tokenizer" / name).write_text(json.dumps(wrong))
    padded = Genmoji.load(broken).text.tokenizers[0](["pig"])
    expected = theirs.tokenizer(["pig"], padding="max_length", return_tensors="np").input_ids
    assert np.array_equal(right, expected) and not np.array_equal(padded, expected)
    ours = Genmoji.load(broken)
    noise = np.random.default_rng(5).standard_normal((1, 8, 8, 4)).astype(np.float32)
    image = theirs(
        "a flying pig",
        num_inference_steps=6,
        latents=torch.from_numpy(noise).permute(0, 3, 1, 2).contiguous(),
        output_type="np",
    ).images[0]
    picture = ours.generate("a flying pig", steps=6, guidance=7.5, latents=mx.array(noise))[0].image
    assert psnr(np.asarray(picture) / 255, np.round(image * 255) / 255) < 60


@pytest.mark.parametrize("later", [-1, 1])
def test_timesteps_off_by_one_are_noticed(broken: Path, later: int, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = StableDiffusion.predict
    monkeypatch.setattr(StableDiffusion, "predict", lambda self, x, t, *rest: predict(self, x, t + later, *rest))
    assert drawn_by_both(broken) < 60


def test_a_folder_with_pndm_is_drawn_with_it_as_in_diffusers(broken: Path) -> None:
    assert drawn_by_both(broken, "pndm") >= 60
    assert Genmoji.load(broken).generate("pig", steps=4, seed=1)[0].recipe["sampler"] == "pndm"


def pixels(sticker: Sticker) -> list[int]:
    return np.asarray(sticker.image).ravel().tolist()


def test_candidate_i_of_a_seed_can_be_made_alone(folder: Path) -> None:
    genmoji = Genmoji.load(folder)
    three = genmoji.generate("a flying pig", count=3, seed=7, steps=3)
    alone = [genmoji.generate("a flying pig", seed=seed, steps=3)[0] for seed in (7, 8, 9)]
    assert [pixels(s) for s in three] == [pixels(s) for s in alone]
    assert [s.recipe for s in three] == [s.recipe for s in alone]
    assert pixels(three[0]) != pixels(three[1])


def test_a_recipe_says_what_reproduces_the_picture(folder: Path, tmp_path: Path) -> None:
    genmoji = Genmoji.load(folder)
    sticker = genmoji.generate("pig", steps=3, skin_tone="dark", person_type="woman", negative_prompt="cats")[0]
    sticker.save(tmp_path / "pig.png")
    recipe = read_recipe(tmp_path / "pig.png")
    assert recipe == sticker.recipe
    assert recipe["final_prompt"] == "woman pig, dark skin tone" and len(recipe["model"]["sha256"]) == 64
    assert str(folder.parent) not in json.dumps(recipe)
    arguments = ("prompt", "seed", "steps", "guidance", "negative_prompt", "skin_tone", "person_type", "sampler")
    again = genmoji.generate(**{name: recipe[name] for name in arguments})[0]
    assert pixels(again) == pixels(sticker)


def test_a_recipe_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    Genmoji.load(folder).generate("pig", steps=1)[0].save(tmp_path / "pig.png", recipe=False)
    assert read_recipe(tmp_path / "pig.png") is None


def test_the_callback_hears_of_every_step(folder: Path) -> None:
    heard: list[tuple[int, int, tuple[int, ...]]] = []
    Genmoji.load(folder).generate(
        "pig", count=2, steps=3, callback=lambda step, steps, latents: heard.append((step, steps, latents.shape))
    )
    assert heard == [(i, 6, (1, 8, 8, 4)) for i in range(6)]


def test_a_long_prompt_says_what_fell_off(folder: Path) -> None:
    with pytest.warns(UserWarning, match="octopus"):
        Genmoji.load(folder).generate("a happy cat " * 30 + "octopus", steps=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"count": 0}, "count"),
        ({"seed": -1}, "seed"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": -1.0}, "guidance"),
        ({"skin_tone": "green"}, "green"),
        ({"person_type": "zombie"}, "zombie"),
        ({"sampler": "magic"}, "magic"),
        ({"template": "pig"}, "template"),
        ({"latents": mx.zeros((1, 4, 4, 4))}, "latents"),
        ({"latents": mx.full((1, 8, 8, 4), float("nan"))}, "latents"),
    ],
)
def test_a_bad_argument_is_named(folder: Path, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        Genmoji.load(folder).generate(**({"prompt": "pig", "steps": 1} | arguments))
    assert "\n" not in str(error.value)


def test_weights_that_give_no_picture_are_an_error(folder: Path) -> None:
    genmoji = Genmoji.load(folder)
    genmoji.unet.conv_out.bias = mx.full((4,), float("inf"))
    with pytest.raises(UserError, match="not a number"):
        genmoji.generate("pig", steps=1)


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "pickled":
        path.rename(path.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("model_index.json", "missing"),
        ("model_index.json", "truncated"),
        ("scheduler/scheduler_config.json", "missing"),
        ("tokenizer/tokenizer_config.json", "truncated"),
        ("unet/config.json", "missing"),
        ("unet/diffusion_pytorch_model.safetensors", "missing"),
        ("unet/diffusion_pytorch_model.safetensors", "truncated"),
        ("text_encoder/model.safetensors", "pickled"),
        ("vae/diffusion_pytorch_model.safetensors", "pickled"),
    ],
)
def test_a_damaged_folder_is_answered_in_one_line(broken: Path, file: str, how: str) -> None:
    damage(broken / file, how)
    with pytest.raises(UserError, match=Path(file).parts[0] if how != "pickled" else r"\.bin") as error:
        Genmoji.load(broken)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "StableDiffusion3Pipeline"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "zigzag"}, "zigzag"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet/config.json", {"layers_per_block": 2}, "missing"),
        ("unet/config.json", {"sample_size": "8"}, "sample_size"),
        ("unet/config.json", {"sample_size": [8]}, "sample_size"),
        ("unet/config.json", {"sample_size": -8}, "sample_size"),
        ("text_encoder/config.json", {"hidden_act": "relu"}, "hidden_act"),
        ("vae/config.json", {"latent_channels": 5}, "misshaped"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 99}, "max_position_embeddings"),
    ],
)
def test_what_a_config_asks_for_and_is_not_supported_is_named(
    broken: Path, file: str, change: dict[str, Any], named: str
) -> None:
    path = broken / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=named):
        Genmoji.load(broken)


def test_a_scheduler_that_is_not_supported_is_named_and_can_be_overruled(broken: Path) -> None:
    path = broken / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "SASolverScheduler"}))
    genmoji = Genmoji.load(broken)
    with pytest.raises(UserError, match=r"SASolverScheduler.*euler"):
        genmoji.generate("pig", steps=1)
    assert genmoji.generate("pig", steps=1, sampler="euler")[0].recipe["sampler"] == "euler"


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"sample_size": 8}, (8, 8, 4)),
        ({"sample_size": [8, 16]}, (8, 16, 4)),
        ({"sample_size": None}, (64, 64, 4)),
        ({"sample_size": 32, "_diffusers_version": "0.2.2"}, (64, 64, 4)),
        ({"sample_size": 96, "_diffusers_version": "0.2.2"}, (96, 96, 4)),
        ({"sample_size": 32, "_diffusers_version": "0.10.0"}, (32, 32, 4)),
    ],
)
def test_the_size_is_the_unets_as_diffusers_reads_it(
    broken: Path, fields: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    path = broken / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert Genmoji.load(broken).latents_shape == shape


@pytest.mark.parametrize(
    ("defaults", "named"),
    [
        ({"stepz": 3}, "stepz"),
        ({"steps": "many"}, "steps"),
        ({"template": "pig"}, "template"),
        ({"parts": ["3d"]}, "parts"),
        ({"parts": {"3d": "someone"}}, "parts"),
    ],
)
def test_mistakes_in_genmoji_json_are_named(broken: Path, defaults: dict[str, Any], named: str) -> None:
    (broken / "genmoji.json").write_text(json.dumps(defaults))
    with pytest.raises(UserError, match=named):
        Genmoji.load(broken).generate("pig", steps=1)


def test_a_folders_own_defaults_are_used(broken: Path) -> None:
    (broken / "genmoji.json").write_text(json.dumps({"template": "emoji of {prompt}", "steps": 2, "guidance": 2}))
    recipe = Genmoji.load(broken).generate("pig")[0].recipe
    assert (recipe["final_prompt"], recipe["steps"], recipe["guidance"]) == ("emoji of pig", 2, 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("pig", "{prompt}"), "pig"),
        (("  flying \n pig ", "{prompt}, 3d"), "flying pig, 3d"),
        (("astronaut", "{prompt}, 3d", "dark", "woman"), "woman astronaut, dark skin tone, 3d"),
        (("Woman dancing", "{prompt}", None, "woman"), "Woman dancing"),
        (("a woman, dancing", "{prompt}", None, "woman"), "a woman, dancing"),
        (("woman dancing", "{prompt}", None, "man"), "woman dancing"),
        (("{0} %s", "{prompt}"), "{0} %s"),
    ],
)
def test_the_final_prompt_is_composed(arguments: tuple[str, ...], expected: str) -> None:
    assert compose(*arguments) == expected


def test_a_compiled_step_draws_the_same(folder, monkeypatch):
    genmoji = Genmoji.load(folder)
    expected = np.asarray(genmoji.generate("a flying pig", seed=3, steps=2)[0].image).astype(int)
    compiled = Genmoji.load(folder)
    compilations = []
    compile = mx.compile
    monkeypatch.setattr("mlx_genmoji.families.stable_diffusion.on_cpu", lambda: False)
    monkeypatch.setattr(mx, "compile", lambda *args, **options: compilations.append(args) or compile(*args, **options))
    for seed in (3, 4):
        drawn = np.asarray(compiled.generate("a flying pig", seed=seed, steps=2)[0].image)
        assert (np.abs(drawn - expected).max() <= 1) == (seed == 3)
    assert len(compilations) == 1
    # A changed weight is seen by what has been compiled.
    compiled.unet.conv_out.bias = compiled.unet.conv_out.bias + 1
    drawn = np.asarray(compiled.generate("a flying pig", seed=3, steps=2)[0].image)
    assert np.abs(drawn - expected).max() > 1


@pytest.fixture
def by_parts(broken: Path) -> Genmoji:
    """The model, as one that draws combinations by parts."""
    defaults = {"template": "{prompt}, 3d", "steps": 2, "plan_fields": [], "parts": {"3d": "fluent", "flat": "noto"}}
    (broken / "genmoji.json").write_text(json.dumps(defaults))
    return Genmoji.load(broken)


def captions(sticker: Sticker) -> list[str]:
    return [part.text for part in Combination.from_dict(sticker.recipe["combination"]).parts]


def test_a_combination_is_drawn_by_parts_and_put_together(by_parts: Genmoji) -> None:
    calls = []
    drawn = by_parts.generate("flying pig", count=2, seed=7, callback=lambda *call: calls.append(call[:2]))
    assert calls == [(moment, 8) for moment in range(8)]
    for seed, sticker in zip((7, 8), drawn, strict=True):
        assert captions(sticker) == ["pig, 3d", "wing, 3d"]
        assert (sticker.recipe["final_prompt"], sticker.recipe["seed"]) == ("flying pig, 3d", seed)
        combination = Combination.from_dict(sticker.recipe["combination"])
        alone = {
            part: by_parts.generate(part.text, template="{prompt}", seed=seed)[0].image for part in combination.parts
        }
        assert sticker.image.tobytes() == put_together(combination, alone).tobytes()
    assert drawn[0].image.size == by_parts.size


def test_a_combination_is_drawn_again_from_its_file(by_parts: Genmoji, tmp_path: Path) -> None:
    drawn = by_parts.generate("two dogs", seed=3)[0]
    drawn.save(tmp_path / "dogs.png")
    again = by_parts.replay(read_recipe(tmp_path / "dogs.png"))
    assert again.image.tobytes() == drawn.image.tobytes() and again.recipe == drawn.recipe
    for damage in ({"joined": []}, {"joined": [{"kind": "count"}]}, 3):
        with pytest.raises(UserError, match="'combination'"):
            by_parts.replay(drawn.recipe | {"combination": damage})


def test_a_whole_sticker_is_drawn_again_as_a_whole(by_parts: Genmoji) -> None:
    drawn = by_parts.generate("flying pig", seed=3, combine=False)[0]
    again = by_parts.replay(drawn.recipe)
    assert again.image.tobytes() == drawn.image.tobytes() and again.recipe == drawn.recipe


def test_the_style_says_how_the_parts_are_drawn(by_parts: Genmoji) -> None:
    sets = {
        template: by_parts.generate("flying pig", seed=1, template=template)[0].recipe["combination"]["source"]
        for template in ("{prompt}, 3d", "{prompt}, flat", "a twemoji of {prompt}", "a {prompt}")
    }
    assert list(sets.values()) == ["fluent", "noto", "twemoji", "noto"]


def test_a_skin_tone_is_of_people_alone(by_parts: Genmoji) -> None:
    person = {"skin_tone": "dark", "person_type": "woman"}
    assert captions(by_parts.generate("astronaut riding a horse", seed=1, **person)[0]) == [
        "woman astronaut, dark skin tone, 3d",
        "horse, 3d",
    ]
    assert captions(by_parts.generate("flying pig", seed=1, **person)[0]) == ["pig, 3d", "wing, 3d"]
    dark_skinned = by_parts.generate("astronaut with dark skin on a rocket", seed=1)[0]
    assert captions(dark_skinned) == ["astronaut, dark skin tone, 3d", "rocket, 3d"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"combine": False},
        {"template": "{prompt}"},
        {"image": Image.new("RGB", (16, 16), "pink")},
        {"latents": mx.zeros((1, 8, 8, 4))},
        {"rewrite": PromptPlan("flying pig", final_prompt="my own flying pig")},
    ],
)
def test_what_is_drawn_as_a_whole(by_parts: Genmoji, arguments: dict[str, Any]) -> None:
    assert "combination" not in by_parts.generate("flying pig", seed=1, **arguments)[0].recipe


def test_a_plan_is_drawn_by_parts_where_the_model_takes_no_more_of_it(by_parts: Genmoji, broken: Path) -> None:
    plan = PromptPlan("flying pig", pose="waving")
    assert captions(by_parts.generate("flying pig", seed=1, rewrite=plan)[0]) == ["pig, 3d", "wing, 3d"]
    defaults = json.loads((broken / "genmoji.json").read_text()) | {"plan_fields": ["pose"]}
    (broken / "genmoji.json").write_text(json.dumps(defaults))
    assert "combination" not in Genmoji.load(broken).generate("flying pig", seed=1, rewrite=plan)[0].recipe


def test_a_model_that_does_not_say_so_draws_as_a_whole(folder: Path) -> None:
    drawn = Genmoji.load(folder).generate("flying pig", seed=1, steps=1, template="{prompt}, 3d")[0]
    assert "combination" not in drawn.recipe


def test_a_combination_can_be_cancelled(by_parts: Genmoji) -> None:
    calls = []

    def stop(step: int, steps: int, latents: mx.array) -> bool:
        calls.append(step)
        return step < 2

    with pytest.raises(Cancelled):
        by_parts.generate("flying pig", seed=1, callback=stop)
    assert calls == [0, 1, 2]


def test_the_captions_of_a_combination_are_looked_at_as_prompts_are(by_parts: Genmoji) -> None:
    parsed = Combination.from_dict(by_parts.generate("flying pig", seed=1)[0].recipe["combination"])
    with pytest.raises(UserError, match="is not drawn"):
        by_parts.generate("flying pig", seed=1, combine=parsed.captioned(lambda part: f"naked woman with {part.text}"))


def test_the_built_in_model_draws_by_parts() -> None:
    defaults = json.loads((BUILTIN / "genmoji.json").read_text(encoding="utf-8"))
    assert defaults["parts"] == {"3d": "fluent", "flat": "noto"}
