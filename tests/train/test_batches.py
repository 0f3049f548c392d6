"""The batches of diffusion models, recomputed by hand from the dataset's rows: for an adapter and for a whole model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import train
from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import load_model
from mlx_genmoji.families.stable_diffusion import TextTowers
from train.adapter.objective import LoRAObjective
from train.adapter.recipe import LoRARecipe
from train.adapter.run import load_objective
from train.data.dataset import Dataset, to_model
from train.denoising import DenoisingObjective, every_caption
from train.fit.optimizers import make_optimizer
from train.fit.step import Stepper
from train.model.unet import DiffusionObjective, DiffusionRecipe, Parts
from train.recipe import Loop, build, read_recipe
from train.texts import FrozenTexts

pytestmark = pytest.mark.usefixtures("cpu")

Make = Callable[..., DenoisingObjective]


@pytest.fixture
def whole_model(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> Make:
    """The objective of a whole model, of which one step was trained."""
    quick = ["loop.steps=1", "loop.sample_every=0"]
    train.run(vae_recipe, overrides=quick)
    folder = train.run(diffusion_recipe, overrides=quick)

    def make(*overrides: str) -> DiffusionObjective:
        recipe = build(DiffusionRecipe, read_recipe(diffusion_recipe, ["loop.batch_size=8", *overrides]))
        vae: Any = load_model(recipe.vae)
        dataset = Dataset(recipe.data, recipe.output.parent / "cache")
        latents = np.asarray(vae.encode(mx.array(to_model(dataset.pictures[:])))[0])
        unet, encoder = (load_model(folder / part) for part in ("unet", "text_encoder"))
        tokenizer = Genmoji.load(folder).text.tokenizers[0]
        return DiffusionObjective(recipe, dataset, latents, Parts(unet, encoder, vae, tokenizer))  # type: ignore[arg-type]

    return make


@pytest.fixture
def adapter(lora_recipe: Path) -> Make:
    """The objective of an adapter."""

    def make(*overrides: str) -> LoRAObjective:
        recipe = build(LoRARecipe, read_recipe(lora_recipe, ["loop.batch_size=8", *overrides]))
        return load_objective(recipe)

    return make


@pytest.fixture(params=["adapter", "whole_model"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.getfixturevalue(request.param)
    return made


@pytest.mark.parametrize("frozen", [True, False])
def test_a_whole_model_learns_each_caption_with_the_latents_of_its_own_picture(whole_model: Make, frozen: bool) -> None:
    run = whole_model(f"text_frozen={str(frozen).lower()}", "caption_dropout=0.4")
    assert isinstance(run, DiffusionObjective)
    noisy, timesteps, target, weights, *texts = run.batch(3)
    samples = run.samples(3)
    assert {"", *run.dataset.captions} > {sample.caption for sample in samples} > {""}
    for place, sample in enumerate(samples):
        number = run.dataset.captions[sample.row]
        assert sample.caption in ("", number)
        picture = mx.array(to_model(run.dataset.pictures[sample.row : sample.row + 1]))
        clean = np.asarray(run.parts.vae.encode(picture)[0])[0]
        alpha, sigma = np.sqrt(run.signal[sample.timestep]), np.sqrt(1 - run.signal[sample.timestep])
        np.testing.assert_allclose(noisy[place], alpha * clean + sigma * sample.noise, atol=1e-4)
        np.testing.assert_allclose(target[place], alpha * sample.noise - sigma * clean, atol=1e-4)
        expected = run.parts.text_encoder(mx.array(run.parts.tokenizer([sample.caption]))).last_hidden_state
        states = run.texts.conditions(run.model, run.size, [text[place : place + 1] for text in texts]).states
        np.testing.assert_allclose(states, expected, atol=1e-4)
    assert timesteps.tolist() == [sample.timestep for sample in samples] and mx.array_equal(weights, mx.ones(8))


def test_as_many_captions_are_dropped_as_the_recipe_says(make: Make) -> None:
    for share in (0.0, 0.3, 1.0):
        run = make(f"caption_dropout={share}")
        dropped = [sample.caption == "" for step in range(60) for sample in run.samples(step)]
        assert np.mean(dropped) == pytest.approx(share, abs=0.08), share


def test_each_timestep_of_a_batch_is_from_a_part_of_the_schedule_of_its_own(make: Make) -> None:
    run = make()
    for step in range(10):
        parts = [sample.timestep * 8 // len(run.signal) for sample in run.samples(step)]
        assert parts == list(range(8))


def test_a_shift_moves_the_median_timestep(make: Make) -> None:
    for shift in (1.0, 3.0):
        run = make(f"timestep_shift={shift}")
        timesteps = [sample.timestep for step in range(20) for sample in run.samples(step)]
        assert np.median(timesteps) / len(run.signal) == pytest.approx(shift / (1 + shift), abs=0.02)


def test_min_snr_and_a_noise_offset_reach_the_batch(make: Make) -> None:
    plain, weighted = make(), make("min_snr_gamma=1", "noise_offset=0.5")
    assert plain.prediction_type == ("v_prediction" if isinstance(plain, DiffusionObjective) else "epsilon")
    snr = plain.signal[[s.timestep for s in plain.samples(0)]]
    snr = snr / (1 - snr)
    divisor = snr + 1 if plain.prediction_type == "v_prediction" else snr
    np.testing.assert_allclose(weighted.batch(0)[3], np.minimum(snr, 1) / divisor, rtol=1e-3)
    moved = weighted.samples(0)[0].noise - plain.samples(0)[0].noise
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0, 0], moved.shape), atol=1e-6)
    assert np.abs(moved).max() > 0.01


def test_the_text_encoder_and_the_captions_are_known_to_the_cache(
    lora_recipe: Path, write_base: Callable[..., Path], tmp_path: Path, base: Path
) -> None:
    """Two bases over one cache: each has its own text encoder's states."""
    weights = write_base(tmp_path / "other") / "text_encoder" / "model.safetensors"
    arrays: Any = mx.load(str(weights))
    mx.save_safetensors(str(weights), {name: array * 1.5 for name, array in arrays.items()})
    for folder in (base, tmp_path / "other"):
        recipe = build(LoRARecipe, read_recipe(lora_recipe, [f"base={folder}"]))
        run = load_objective(recipe)
        caption = every_caption(run.dataset)[2]
        (states,) = run.texts.rows([caption])
        expected = Genmoji.load(folder).text("x", caption, (16, 16)).states[:1]
        np.testing.assert_allclose(states, expected, atol=1e-4)


def test_texts_are_cached_by_their_key(base: Path, tmp_path: Path) -> None:
    class Encoded(TextTowers):
        """Counts what is encoded."""

        count = 0

        def encode(self, ids: Any) -> Any:
            Encoded.count += 1
            return super().encode(ids)

    text = Genmoji.load(base).text
    towers = Encoded(text.tokenizers, text.encoders)
    for key, captions, expected in (("a", ["x"], 1), ("a", ["x"], 1), ("b", ["x"], 2), ("a", ["y"], 3)):
        FrozenTexts(towers, captions, tmp_path, [key])
        assert Encoded.count == expected


def test_a_dropout_is_another_one_in_each_step(adapter: Make) -> None:
    run = adapter("lora.dropout=0.5", "lora.targets=[attention]", "sample_prompts=[]")
    trained = run.model.trainable_parameters()
    run.model.update(_filled(trained))
    stepper = Stepper(run, run.recipe.loop, 1)
    batch = run.batch(0)
    first, again, other = (stepper.differentiate(batch, step)[0] for step in (0, 0, 1))
    assert first == again != other


def _filled(tree: Any) -> Any:
    """Adapters that change their layers, so that a dropout shows in the loss."""
    from mlx.utils import tree_map

    return tree_map(lambda array: 0.3 * mx.ones_like(array), tree)


def test_the_mean_of_the_weights_warms_up(vae_recipe: Path, tmp_path: Path) -> None:
    """After few steps it must not be the first weights: its decay is at most (n + 1) / (n + 10)."""
    overrides = ["loop.ema_decay=0.999", "loop.steps=3", "loop.checkpoint_every=1", "loop.keep=3"]
    train.run(vae_recipe, overrides=overrides)
    files = sorted((tmp_path / "runs" / "vae" / "checkpoints").glob("*.safetensors"))
    states: list[Any] = [mx.load(str(file)) for file in files]
    for step in (1, 2):
        decay = min(0.999, (step + 1) / (step + 10))
        for name in ("encoder.conv_in.weight", "decoder.conv_out.bias"):
            expected = decay * states[step - 1][f"mean/{name}"] + (1 - decay) * states[step][f"model/{name}"]
            np.testing.assert_allclose(states[step][f"mean/{name}"], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion"])
def test_weights_decay_whatever_the_gradients(name: Any) -> None:
    """By the learning rate times `weight_decay`, of the weight: without gradients, nothing else changes it."""
    loop = Loop(steps=1, batch_size=1, learning_rate=0.1, weight_decay=0.5, optimizer=name)
    weight = {"weight": mx.full((4, 4), 2.0)}
    optimizer = make_optimizer(loop)
    optimizer.init(weight)
    after = optimizer.apply_gradients({"weight": mx.zeros((4, 4))}, weight)["weight"]
    assert mx.allclose(after, mx.full((4, 4), 2.0 * (1 - 0.1 * 0.5)), atol=1e-6)
