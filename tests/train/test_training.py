"""Training: what is learned, what survives a kill, and what a recipe's mistakes are answered with."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import yaml
from mlx.utils import tree_flatten
from PIL import Image

import train
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.checkpoint.components import load_model
from train.data import latents
from train.data.dataset import Dataset, read_picture, to_model
from train.data.latents import dataset_latents, encode_all
from train.fit.optimizers import learning_rate
from train.fit.step import Stepper
from train.model.autoencoder import AutoencoderObjective, AutoencoderRecipe, reconstruction_loss, standardise
from train.model.decoder import DecoderObjective, DecoderRecipe
from train.model.inner_layers import InnerAutoencoder, InnerLayersObjective, InnerLayersRecipe, first_block, widened
from train.recipe import Data, Loop, build, read_recipe
from train.sheets import to_pixels

# On a GPU the gradient of an embedding is summed in any order, so weights are not the same to the last bit.
pytestmark = pytest.mark.usefixtures("cpu")


def weights(folder: Path) -> dict[str, mx.array]:
    return dict(tree_flatten(load_model(folder).parameters()))


def assert_equal(a: dict[str, mx.array], b: dict[str, mx.array]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert mx.array_equal(a[name], b[name]), name


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("*.safetensors"))


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


STEADY = ["loop.batch_size=8", "loop.decay_steps=30", "loop.threads=1"]


def test_an_autoencoder_learns_its_pictures(vae_recipe: Path, tmp_path: Path) -> None:
    folder = train.run(vae_recipe, overrides=["loop.steps=60", *STEADY])
    data = build(AutoencoderRecipe, read_recipe(vae_recipe, [])).data
    pictures = mx.array(to_model(Dataset(data, tmp_path / "cache").pictures[:]))
    # The best that a decoder could do which ignores its latents.
    same_for_all = reconstruction_loss(mx.mean(pictures, axis=0, keepdims=True) - pictures, 1.0)
    model = load_model(folder)
    latents = model.encode(pictures)[0]
    loss = reconstruction_loss(model.decode(latents) - pictures, 1.0)
    assert loss < 0.9 * same_for_all
    assert loss < 0.85 * reconstruction_loss(model.decode(mx.roll(latents, 3, axis=0)) - pictures, 1.0)


def test_a_diffusion_model_learns_its_latents(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe)
    train.run(diffusion_recipe, overrides=["loop.steps=60", "loop.log_every=12", "loop.sample_every=0", *STEADY])
    losses = [entry["loss"] for entry in log(tmp_path / "runs" / "model")]
    assert losses[-1] < 0.8 * losses[0]


TEXT_LOOP = "text_loop={steps: 4, batch_size: 4, learning_rate: 0.01, threads: 2, checkpoint_every: 2, log_every: 2}"


def test_the_text_side_learns_what_a_caption_tells(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe)
    overrides = [TEXT_LOOP, "text_loop.steps=200", "text_loop.decay_steps=100", "loop.steps=1", "loop.sample_every=0"]
    train.run(diffusion_recipe, overrides=overrides)
    losses = [entry["loss"] for entry in log(tmp_path / "runs" / "model" / "text")]
    # One vector for all captions leaves the variance of the latents, which standardising made 1.
    assert losses[-1] < 0.5 < 0.9 < losses[0]


def test_the_diffusion_model_starts_from_the_text_side_so_learned(
    vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path
) -> None:
    train.run(vae_recipe)
    still = ["loop.steps=1", "loop.sample_every=0", "loop.learning_rate=0"]
    folder = train.run(diffusion_recipe, overrides=[TEXT_LOOP, *still])
    fitted = mx.load(str(checkpoints(tmp_path / "runs" / "model" / "text")[-1]))
    for part, name in (("text_encoder", "text_model.final_layer_norm.weight"), ("unet", "add_embedding.proj.weight")):
        expected = fitted[f"model/text_encoder.{name}" if part == "text_encoder" else f"model/{name}"]
        assert mx.array_equal(weights(folder / part)[name], expected.astype(mx.float16).astype(mx.float32))


def test_a_run_stopped_in_its_text_phase_resumes_to_the_same_weights(
    vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path
) -> None:
    train.run(vae_recipe)
    undisturbed = train.run(diffusion_recipe, overrides=[TEXT_LOOP, f"output={tmp_path}/runs/undisturbed"])
    train.run(diffusion_recipe, overrides=[TEXT_LOOP, "loop.steps=1"])
    shutil.rmtree(tmp_path / "runs" / "model" / "model")
    shutil.rmtree(tmp_path / "runs" / "model" / "checkpoints")
    shutil.rmtree(tmp_path / "runs" / "model" / "text" / "checkpoints")
    train.run(diffusion_recipe, overrides=[TEXT_LOOP, "text_loop.steps=2", f"output={tmp_path}/runs/stopped"])
    shutil.copytree(
        tmp_path / "runs" / "stopped" / "text" / "checkpoints", tmp_path / "runs" / "model" / "text" / "checkpoints"
    )
    resumed = train.run(diffusion_recipe, resume=True, overrides=[TEXT_LOOP])
    for part in ("unet", "text_encoder"):
        assert_equal(weights(resumed / part), weights(undisturbed / part))


def test_a_frozen_text_encoder_stays_as_its_phase_left_it_and_the_rest_learns_the_same_way(
    vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path
) -> None:
    train.run(vae_recipe)
    overrides = [TEXT_LOOP, "loop.steps=3", "loop.sample_every=0", "loop.warmup_steps=0"]
    free = train.run(diffusion_recipe, overrides=[*overrides, f"output={tmp_path}/runs/free"])
    frozen = train.run(diffusion_recipe, overrides=[*overrides, "text_frozen=true"])
    fitted = mx.load(str(checkpoints(tmp_path / "runs" / "model" / "text")[-1]))
    for name, weight in weights(frozen / "text_encoder").items():
        assert mx.array_equal(weight, fitted[f"model/text_encoder.{name}"].astype(mx.float16).astype(mx.float32)), name
    losses = [log(tmp_path / "runs" / name)[0]["loss"] for name in ("free", "model")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert not mx.array_equal(
        weights(free / "text_encoder")["text_model.final_layer_norm.weight"],
        weights(frozen / "text_encoder")["text_model.final_layer_norm.weight"],
    )


def test_a_decoder_learns_more_and_leaves_the_latents_as_they_were(vae_recipe: Path, tmp_path: Path) -> None:
    vae = train.run(vae_recipe)
    raw = {key: value for key, value in read_recipe(vae_recipe, []).items() if key in ("data", "loop")}
    raw |= {"objective": "decoder", "output": str(tmp_path / "runs" / "decoder"), "vae": str(vae)}
    path = tmp_path / "decoder.yaml"
    path.write_text(yaml.safe_dump(raw))
    taught = load_model(train.run(path, overrides=["loop.steps=100", "loop.log_every=10"]))
    losses = [entry["loss"] for entry in log(tmp_path / "runs" / "decoder")]
    assert losses[-1] < 0.8 * losses[0]
    before = weights(vae)
    for name, weight in dict(tree_flatten(taught.parameters())).items():
        assert mx.array_equal(weight, before[name]) != name.startswith("decoder."), name
    # Of what it was, a part can be kept.
    after = dict(tree_flatten(taught.parameters()))
    mixed = load_model(train.run(path, overrides=["loop.steps=100", "loop.log_every=10", "kept=0.25"], resume=True))
    for name, weight in dict(tree_flatten(mixed.parameters())).items():
        assert mx.allclose(weight, 0.75 * after[name] + 0.25 * before[name], atol=1e-6), name
    with pytest.raises(UserError, match="kept is 1"):
        train.run(path, overrides=["kept=1"])
    for scales in (0, 5, 6, 10**9):
        with pytest.raises(UserError, match=f"'scales' is {scales}, it must be 1 or more"):
            train.run(path, overrides=[f"scales={scales}"])


def test_what_is_wrong_at_the_sides_can_count_more_most_of_all_in_corners() -> None:
    def extra(row: int, column: int) -> float:
        difference = np.zeros((1, 16, 16, 3), np.float32)
        difference[:, row, column] = 1
        wrong = mx.array(difference)
        return (reconstruction_loss(wrong, 1.0, border_weight=0.5) - reconstruction_loss(wrong, 1.0)).item()

    assert extra(8, 8) == 0
    assert extra(0, 8) > 0
    assert extra(15, 15) == pytest.approx(2 * extra(0, 8))


def test_a_decoder_learns_from_what_a_model_draws(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> None:
    vae = train.run(vae_recipe)
    model = train.run(diffusion_recipe, overrides=["loop.sample_every=0"])
    raw = read_recipe(diffusion_recipe, [])
    raw = {"objective": "decoder", "data": raw["data"], "loop": raw["loop"] | {"sample_every": 2, "steps": 4}}
    raw |= {"output": str(tmp_path / "runs" / "decoder"), "vae": str(vae), "model": str(model), "drawn": 1.0}
    path = tmp_path / "decoder.yaml"
    path.write_text(yaml.safe_dump(raw))
    taught = train.run(path)
    assert Genmoji.load(taught).generate("thing", steps=1)[0].image.size == (16, 16)
    for part, same in (("unet", True), ("text_encoder", True), ("vae", False)):
        before, after = weights(model / part), weights(taught / part)
        assert all(mx.array_equal(after[name], weight) for name, weight in before.items()) == same, part
    (kept,) = (tmp_path / "runs" / "cache").glob("drawn-*.npy")
    drawn = np.load(kept)
    objective = DecoderObjective(build(DecoderRecipe, raw), Dataset(build(Data, raw["data"]), kept.parent))
    genmoji = Genmoji.load(model)
    noise = np.random.default_rng((0, 0)).standard_normal(drawn.shape, np.float32)
    seen: list[mx.array] = []
    for index, caption in enumerate(objective.dataset.captions):
        latents = mx.array(noise[index : index + 1])
        genmoji.generate(caption, template="{prompt}", latents=latents, callback=lambda *heard: seen.append(heard[2]))
    finished = np.concatenate(seen[genmoji.defaults.steps - 1 :: genmoji.defaults.steps])
    np.testing.assert_allclose(drawn, finished, atol=1e-4)
    _, batch = objective.batch(0)
    assert all(any(np.allclose(latents, own) for own in drawn) for latents in np.asarray(batch))


def test_a_text_phase_needs_a_unet_that_embeds_the_whole_text(vae_recipe: Path, diffusion_recipe: Path) -> None:
    train.run(vae_recipe)
    with pytest.raises(UserError, match="addition_embed_type"):
        train.run(diffusion_recipe, overrides=[TEXT_LOOP, "unet.addition_embed_type=null"])


def test_a_model_goes_on_from_another(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe)
    first = train.run(diffusion_recipe, overrides=[TEXT_LOOP, "text_loop.steps=200", "loop.sample_every=0"])
    still = ["loop.steps=1", "loop.sample_every=0", "loop.learning_rate=0", f"output={tmp_path}/runs/second"]
    second = train.run(diffusion_recipe, overrides=[f"start_from={first}", "unet={}", "text_encoder={}", *still])
    for part in ("unet", "text_encoder"):
        assert_equal(weights(first / part), weights(second / part))
    third = [*still, f"output={tmp_path}/runs/third"]
    train.run(diffusion_recipe, overrides=[f"start_from={first}", TEXT_LOOP, *third])
    ends, starts = (log(tmp_path / "runs" / name / "text") for name in ("model", "third"))
    # The linear layer over the text side is solved for, not learned again.
    assert starts[0]["loss"] < 1.1 * ends[-1]["loss"]


def test_going_on_from_what_is_no_such_model_says_so(vae_recipe: Path, diffusion_recipe: Path) -> None:
    train.run(vae_recipe)
    folder = train.run(diffusion_recipe)
    shutil.rmtree(folder / "unet")
    shutil.copytree(folder / "vae", folder / "unet")
    with pytest.raises(UserError, match=r"'start_from' must be a model with a UNet"):
        train.run(diffusion_recipe, overrides=[f"start_from={folder}"])


def test_folders_are_drawn_by_their_shares(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    data = Data(folders=(dataset, other), size=16, shares=(3, 1), tone_weight=0.5)
    weights = Dataset(data, tmp_path / "cache").weights
    assert [weights[:8].sum(), weights[8:].sum()] == pytest.approx([0.75, 0.25])
    assert weights[7] == pytest.approx(weights[0] / 2)
    for shares in ((1,), (1, -1), (0, 0)):
        with pytest.raises(UserError, match=r"'data.shares'"):
            replace(data, shares=shares)


def test_a_picture_under_two_names_is_encoded_once(
    vae_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train.run(vae_recipe)
    vae, encoded = load_model(folder), []
    monkeypatch.setattr(
        latents, "encode_all", lambda model, part, size: encoded.append(len(part)) or encode_all(model, part)
    )
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    order = [2, 0, 3, 2, 1, 0]
    for number, picture in enumerate(order):
        Image.fromarray(pictures[picture]).save(tmp_path / f"{number}.png")
    rows = [{"file_name": f"{n}.png", "text": "a", "png_sha256": f"{picture}"} for n, picture in enumerate(order)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = Dataset(Data((tmp_path,), 16), tmp_path / "cache")
    computed = dataset_latents(vae, dataset, "these weights")
    assert encoded == [4]
    assert np.allclose(computed, encode_all(vae, pictures[order]), atol=1e-5)
    assert dataset_latents(vae, dataset, "these weights") is not None and encoded == [4]
    dataset_latents(vae, dataset, "other weights")
    assert encoded == [4, 4]


def test_the_trained_folder_draws(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe)
    folder = train.run(diffusion_recipe)
    sticker = Genmoji.load(folder).generate("thing", seed=3)[0]
    assert sticker.image.size == (16, 16)
    assert sticker.recipe["final_prompt"] == "thing, 3d"
    assert (tmp_path / "runs" / "model" / "samples-000003.png").exists()


def test_the_trained_folder_is_one_that_diffusers_loads(vae_recipe: Path, diffusion_recipe: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    train.run(vae_recipe)
    folder = train.run(diffusion_recipe)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float32)
    picture = pipeline("thing", num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (16, 16, 3)


@pytest.mark.parametrize("after", [2, 4])
def test_a_resumed_run_ends_in_the_same_weights(vae_recipe: Path, tmp_path: Path, after: int) -> None:
    undisturbed = train.run(vae_recipe, overrides=[f"output={tmp_path}/runs/undisturbed"])
    train.run(vae_recipe, overrides=[f"loop.steps={after}"])
    resumed = train.run(vae_recipe, resume=True)
    assert_equal(weights(resumed), weights(undisturbed))


def test_a_killed_run_resumes_to_the_same_weights(diffusion_recipe: Path, vae_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe)
    steps = ["loop.steps=40", "loop.sample_every=0"]
    undisturbed = train.run(diffusion_recipe, overrides=[*steps, f"output={tmp_path}/runs/undisturbed"])
    code = "import mlx_genmoji; mlx_genmoji.use_fast_cpu(); import sys, train, mlx.core as mx;"
    code += "from pathlib import Path; mx.set_default_device(mx.cpu);"
    code += "train.run(Path(sys.argv[1]), True, sys.argv[2:])"
    command = [sys.executable, "-c", code, str(diffusion_recipe), *steps]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not checkpoints(tmp_path / "runs" / "model") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoints(tmp_path / "runs" / "model"), "the run did not begin"
    assert not (tmp_path / "runs" / "model" / "model").exists(), "the kill came too late"
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    for part in ("unet", "text_encoder"):
        assert_equal(weights(tmp_path / "runs" / "model" / "model" / part), weights(undisturbed / part))


def test_the_log_of_a_killed_run_tells_each_step_once(vae_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe, overrides=["loop.steps=4", "loop.log_every=1"])
    path = tmp_path / "runs" / "vae" / "log.jsonl"
    later = json.loads(path.read_text().splitlines()[-1]) | {"step": 5}
    path.write_text(path.read_text() + json.dumps(later) + "\n" + '{"step": 6, "lo')
    train.run(vae_recipe, resume=True, overrides=["loop.log_every=1"])
    assert [entry["step"] for entry in log(tmp_path / "runs" / "vae")] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_not_overwritten_without_resume(vae_recipe: Path) -> None:
    train.run(vae_recipe)
    with pytest.raises(UserError, match="--resume"):
        train.run(vae_recipe)


def test_a_run_killed_before_its_result_was_written_writes_it_when_resumed(vae_recipe: Path) -> None:
    folder = train.run(vae_recipe)
    written = weights(folder)
    shutil.rmtree(folder)
    assert_equal(weights(train.run(vae_recipe, resume=True)), written)


def test_the_last_checkpoints_are_kept(vae_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe, overrides=["loop.keep=2"])
    assert [path.stem for path in checkpoints(tmp_path / "runs" / "vae")] == ["000004", "000006"]


def test_a_half_written_checkpoint_is_passed_over_for_the_one_before(vae_recipe: Path, tmp_path: Path) -> None:
    written = weights(train.run(vae_recipe))
    newest = checkpoints(tmp_path / "runs" / "vae")[-1]
    os.truncate(newest, newest.stat().st_size // 2)
    with pytest.warns(UserWarning, match=r"000006\.safetensors is damaged.*the one before"):
        assert_equal(weights(train.run(vae_recipe, resume=True)), written)


def test_where_all_checkpoints_are_damaged_one_is_named(vae_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe)
    for path in checkpoints(tmp_path / "runs" / "vae"):
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"000002\.safetensors is damaged"), pytest.warns(UserWarning):
        train.run(vae_recipe, resume=True)


def test_a_full_disk_is_said_and_leaves_earlier_checkpoints(
    vae_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(vae_recipe, overrides=["loop.steps=2"])
    save = mx.save_safetensors

    def fill(path: str, *arguments: object) -> None:
        save(path, *arguments)
        os.truncate(path, 100)
        raise RuntimeError("[write] Unable to write 334556 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", fill)
    with pytest.raises(UserError, match=r"Unable to write.*Earlier checkpoints are intact"):
        train.run(vae_recipe, resume=True)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "runs" / "vae" / "checkpoints").iterdir()] == ["000002.safetensors"]
    train.run(vae_recipe, resume=True)


@pytest.mark.parametrize("optimizer", ["adafactor", "lion", "muon"])
def test_a_run_resumes_to_the_same_weights_whatever_the_optimizer(
    vae_recipe: Path, tmp_path: Path, optimizer: str
) -> None:
    overrides = [f"loop.optimizer={optimizer}", "loop.learning_rate=1e-3"]
    undisturbed = train.run(vae_recipe, overrides=[*overrides, f"output={tmp_path}/runs/undisturbed"])
    train.run(vae_recipe, overrides=[*overrides, "loop.steps=2"])
    assert_equal(weights(train.run(vae_recipe, resume=True, overrides=overrides)), weights(undisturbed))


def test_a_batch_in_parts_has_the_gradients_of_the_whole(vae_recipe: Path, tmp_path: Path) -> None:
    recipe = build(AutoencoderRecipe, read_recipe(vae_recipe, []))
    objective = AutoencoderObjective(recipe, Dataset(recipe.data, tmp_path / "cache"))
    batch = objective.batch(0)
    whole = Stepper(objective, recipe.loop, 1)
    parts = Stepper(objective, replace(recipe.loop, accumulation=2), 2)
    assert whole.differentiate(batch) == pytest.approx(parts.differentiate(batch), rel=1e-4)
    for name, expected in whole.gradients.items():
        difference = mx.linalg.norm(parts.gradients[name] - expected)
        assert difference <= 1e-4 * mx.linalg.norm(expected) + 1e-6, name


def test_a_checkpoint_of_another_recipe_is_refused(vae_recipe: Path) -> None:
    train.run(vae_recipe, overrides=["loop.steps=1"])
    with pytest.raises(UserError, match="block_out_channels was"):
        train.run(vae_recipe, resume=True, overrides=["config.block_out_channels=[8, 8, 8]"])


def test_what_the_finished_model_needs_is_checked_before_the_training(
    vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path
) -> None:
    train.run(vae_recipe, overrides=["loop.steps=1"])
    for override, named in (
        ("scheduler._class_name=Magic", "Magic"),
        ("defaults.stepz=3", "stepz"),
        ("defaults.steps=2000", "steps"),
    ):
        with pytest.raises(UserError, match=named):
            train.run(diffusion_recipe, overrides=[override])
    assert not checkpoints(tmp_path / "runs" / "model")


def test_a_number_without_a_point_is_a_number(vae_recipe: Path) -> None:
    assert build(Loop, read_recipe(vae_recipe, ["loop.learning_rate=1e-3"])["loop"]).learning_rate == 0.001


@pytest.mark.parametrize("compiled", [False, True])
def test_two_threads_give_the_gradients_of_one(vae_recipe: Path, tmp_path: Path, compiled: bool) -> None:
    recipe = build(AutoencoderRecipe, read_recipe(vae_recipe, []))
    objective = AutoencoderObjective(recipe, Dataset(recipe.data, tmp_path / "cache"))
    batch = objective.batch(0)
    one = Stepper(objective, replace(recipe.loop, compiled=False), 1)
    two = Stepper(objective, replace(recipe.loop, compiled=compiled), 2)
    assert one.differentiate(batch) == pytest.approx(two.differentiate(batch), rel=1e-4)
    for name, expected in one.gradients.items():
        difference = mx.linalg.norm(two.gradients[name] - expected)
        assert difference <= 1e-4 * mx.linalg.norm(expected) + 1e-6, name


def test_standardised_latents_decode_to_the_same_pictures(vae_recipe: Path, tmp_path: Path) -> None:
    recipe = build(AutoencoderRecipe, read_recipe(vae_recipe, []))
    dataset = Dataset(recipe.data, tmp_path / "cache")
    model = AutoencoderObjective(recipe, dataset).model
    pictures = mx.array(to_model(dataset.pictures[:]))
    before, before_spread = model.encode(pictures)
    decoded = model.decode(before)
    standardise(model, encode_all(model, dataset.pictures))
    after, after_spread = model.encode(pictures)
    np.testing.assert_allclose(np.asarray(after).mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(np.asarray(after).std((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(model.decode(after), decoded, atol=1e-4)
    # The spread of a latent, measured in its channel's deviation, is what it was.
    ratio = np.exp(0.5 * np.asarray(after_spread - before_spread)) * np.asarray(before).std((0, 1, 2))
    np.testing.assert_allclose(ratio, 1, rtol=1e-3)


def grown_recipe(vae_recipe: Path, small: Path, output: Path) -> Path:
    raw = read_recipe(vae_recipe, [])
    config = raw["config"] | {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [4, *raw["config"]["block_out_channels"]],
        "sample_size": 32,
    }
    recipe = raw | {"objective": "growth", "config": config, "grow_from": str(small), "output": str(output)}
    recipe["data"]["size"] = 32
    path = vae_recipe.with_name("grown.yaml")
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_grown_autoencoder_has_the_small_ones_latents(vae_recipe: Path, tmp_path: Path) -> None:
    small = train.run(vae_recipe, overrides=["loop.steps=40"])
    recipe = grown_recipe(vae_recipe, small, tmp_path / "runs" / "grown")
    steps = ["loop.steps=60", "loop.log_every=10", "loop.ema_decay=0"]
    grown = load_model(train.run(recipe, overrides=steps))
    losses = [entry["loss"] for entry in log(tmp_path / "runs" / "grown")]
    assert losses[-1] < 0.5 * losses[0]

    data = build(Data, read_recipe(recipe, [])["data"])
    half = Dataset(replace(data, size=16), tmp_path / "cache").pictures
    large = Dataset(data, tmp_path / "cache").pictures
    expected = np.asarray(load_model(small).encode(mx.array(to_model(half)))[0])
    latents = np.asarray(grown.encode(mx.array(to_model(large)))[0])
    # Each channel of the small one's latents has mean 0 and variance 1, so this is the share of them that differs.
    assert np.square(latents - expected).mean() < 0.3
    own, theirs = weights(tmp_path / "runs" / "grown" / "vae"), weights(small)
    assert mx.array_equal(
        own["decoder.mid_block.resnets.0.conv1.weight"], theirs["decoder.mid_block.resnets.0.conv1.weight"]
    )
    assert mx.array_equal(
        own["encoder.down_blocks.3.resnets.0.conv1.weight"], theirs["encoder.down_blocks.2.resnets.0.conv1.weight"]
    )


def test_an_autoencoder_grows_by_one_resolution_only(vae_recipe: Path, tmp_path: Path) -> None:
    small = train.run(vae_recipe)
    recipe = grown_recipe(vae_recipe, small, tmp_path / "runs" / "grown")
    grown = train.run(recipe, overrides=["loop.steps=1"])
    with pytest.raises(UserError, match="grow_from"):
        train.run(recipe, overrides=[f"grow_from={grown}", f"output={tmp_path}/runs/twice"])


def wider_recipe(vae_recipe: Path, vae: Path, output: Path, channels: int) -> Path:
    raw = {key: value for key, value in read_recipe(vae_recipe, []).items() if key in ("data", "loop")}
    raw |= {"objective": "inner-layers", "output": str(output), "vae": str(vae), "latent_channels": channels}
    path = vae_recipe.with_name("wider.yaml")
    path.write_text(yaml.safe_dump(raw))
    return path


def test_wider_latents_begin_as_the_old_ones_with_new_channels_behind(vae_recipe: Path, tmp_path: Path) -> None:
    old = load_model(train.run(vae_recipe))
    new = widened(old, 6, seed=1)
    pictures = mx.array(np.random.default_rng(0).standard_normal((2, 16, 16, 3), np.float32))
    for before, after in zip(old.encode(pictures), new.encode(pictures), strict=True):
        np.testing.assert_allclose(after[..., :4], before, atol=1e-5)
    assert np.asarray(new.encode(pictures)[0])[..., 4:].std() > 0.1
    latents = old.encode(pictures)[0]
    np.testing.assert_allclose(
        new.decode(mx.pad(latents, [(0, 0), (0, 0), (0, 0), (0, 2)])), old.decode(latents), atol=1e-5
    )


def test_wider_latents_are_learned_by_the_inner_layers_alone(vae_recipe: Path, tmp_path: Path) -> None:
    vae = train.run(vae_recipe)
    recipe = wider_recipe(vae_recipe, vae, tmp_path / "runs" / "wider", 6)
    folder = train.run(recipe, overrides=["loop.steps=60", "loop.log_every=10", "loop.sample_every=60"])
    losses = [entry["loss"] for entry in log(tmp_path / "runs" / "wider")]
    assert losses[-1] < 0.8 * losses[0]
    assert (tmp_path / "runs" / "wider" / "samples-000060.png").exists()
    before, after = weights(vae), weights(folder)
    outer = (
        "encoder.conv_in.",
        "encoder.down_blocks.0.",
        "decoder.up_blocks.0.upsamplers.",
        "decoder.up_blocks.1.",
        "decoder.up_blocks.2.",
        "decoder.conv_norm_out.",
        "decoder.conv_out.",
    )
    for name, weight in after.items():
        same = weight.shape == before[name].shape and mx.array_equal(weight, before[name])
        assert same == name.startswith(outer), name

    data = build(InnerLayersRecipe, read_recipe(recipe, [])).data
    dataset = Dataset(data, tmp_path / "cache")
    pictures = dataset.pictures
    model = load_model(folder)
    latents = np.asarray(model.encode(mx.array(to_model(pictures)))[0])
    np.testing.assert_allclose(latents.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std((0, 1, 2)), 1, atol=1e-3)
    # What is computed once, in half precision, stands for the encoder's first block.
    first = first_block(model, dataset)
    np.testing.assert_allclose(InnerAutoencoder(model).encode(mx.array(first.astype(np.float32))), latents, atol=2e-2)


def test_the_linear_layer_is_the_best_for_what_the_inner_layers_say(vae_recipe: Path, tmp_path: Path) -> None:
    vae = train.run(vae_recipe)
    recipe = build(InnerLayersRecipe, read_recipe(wider_recipe(vae_recipe, vae, tmp_path / "runs" / "wider", 4), []))
    dataset = Dataset(recipe.data, tmp_path / "cache")
    objective = InnerLayersObjective(recipe, dataset)
    model, pictures = objective.model, mx.array(to_model(dataset.pictures[:]))
    latents = model.encode(mx.array(objective.first.astype(np.float32)))
    best = (model.decode(latents) - pictures).square().mean()
    for factor in (0.9, 1.1):
        weight = model.to_pixels.weight
        model.to_pixels.weight = factor * weight
        assert (model.decode(latents) - pictures).square().mean() > best
        model.to_pixels.weight = weight


def test_latents_do_not_become_narrower(vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> None:
    vae = train.run(vae_recipe)
    with pytest.raises(UserError, match="'latent_channels' must be 4 or more, not 3"):
        train.run(wider_recipe(vae_recipe, vae, tmp_path / "runs" / "wider", 3))
    wide = train.run(wider_recipe(vae_recipe, vae, tmp_path / "runs" / "wider", 5), overrides=["loop.steps=1"])
    still = ["loop.steps=1", "loop.sample_every=0", "loop.learning_rate=0"]
    first = train.run(diffusion_recipe, overrides=[f"vae={wide}", *still])
    with pytest.raises(UserError, match="4 latent channels, the UNet of 'start_from' 5"):
        train.run(diffusion_recipe, overrides=[f"start_from={first}", f"output={tmp_path}/runs/second", *still])


def test_a_model_goes_on_over_wider_latents_as_it_drew_the_old_ones(
    vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path
) -> None:
    vae = train.run(vae_recipe)
    first = train.run(diffusion_recipe, overrides=["loop.steps=20", "loop.sample_every=0"])
    wide = train.run(wider_recipe(vae_recipe, vae, tmp_path / "runs" / "wider", 6), overrides=["loop.steps=1"])
    still = ["loop.steps=1", "loop.sample_every=0", "loop.learning_rate=0", f"output={tmp_path}/runs/second"]
    second = train.run(diffusion_recipe, overrides=[f"start_from={first}", f"vae={wide}", *still])
    old, new = load_model(first / "unet"), load_model(second / "unet")
    assert new.config.in_channels == new.config.out_channels == 6
    rng = np.random.default_rng(0)
    noisy = mx.array(rng.standard_normal((2, 4, 4, 6), np.float32))
    text, timesteps = mx.array(rng.standard_normal((2, 7, 16), np.float32)), mx.array([10, 900])
    drawn = new(noisy, timesteps, text)
    np.testing.assert_allclose(drawn[..., :4], old(noisy[..., :4], timesteps, text), atol=1e-5)
    assert not np.asarray(drawn)[..., 4:].any()
    assert Genmoji.load(second).generate("thing", steps=1)[0].image.size == (16, 16)


def test_what_is_wrong_at_a_smaller_size_counts_again() -> None:
    even, checkered = np.ones((1, 16, 16, 3), np.float32), np.ones((1, 16, 16, 3), np.float32)
    checkered[:, ::2] *= -1
    checkered[:, :, ::2] *= -1

    def loss(difference: np.ndarray, scales: int) -> float:
        return reconstruction_loss(mx.array(difference), 1.0, scales=scales).item()

    assert loss(even, 3) == pytest.approx(3 * loss(even, 1))
    assert loss(checkered, 3) == loss(checkered, 1)


def test_pixels_survive_the_way_to_the_model_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_pixels(mx.array(to_model(pixels))), pixels)


def test_pictures_with_a_tone_are_drawn_by_their_weight(diffusion_recipe: Path, tmp_path: Path) -> None:
    from train.model.unet import DiffusionRecipe

    dataset = Dataset(build(DiffusionRecipe, read_recipe(diffusion_recipe, [])).data, tmp_path / "cache")
    assert dataset.weights[7] == pytest.approx(dataset.weights[0] / 2)
    assert dataset.captions[:2] == ["thing 0, flat", "thing 1, 3d"]
    drawn = np.bincount(dataset.draw(np.random.default_rng(0), 30_000), minlength=8) / 30_000
    np.testing.assert_allclose(drawn, dataset.weights, atol=0.01)


def test_the_learning_rate_warms_up_and_decays_to_zero() -> None:
    loop = Loop(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10, decay_steps=20)
    assert learning_rate(loop, 0) == pytest.approx(0.1)
    assert learning_rate(loop, 50) == 1.0
    assert learning_rate(loop, 90) == pytest.approx(0.5)
    assert learning_rate(loop, 99) == pytest.approx(0.05)


def test_a_cosine_schedule_is_half_way_down_in_the_middle() -> None:
    loop = Loop(steps=110, batch_size=1, learning_rate=1.0, warmup_steps=10, schedule="cosine")
    assert [learning_rate(loop, step) for step in (10, 60, 110)] == pytest.approx([1.0, 0.5, 0.0])
    linear = replace(loop, schedule="linear")
    assert [learning_rate(linear, step) for step in (10, 85, 110)] == pytest.approx([1.0, 0.25, 0.0])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("loop.stepz=3", "loop.stepz"),
        ("loop.steps=many", "loop.steps"),
        ("loop.learning_rate=true", "loop.learning_rate"),
        ("loop", "key=value"),
        ("objective=dreaming", "dreaming"),
        ("objective.of=x", "objective"),
        ("data.folders=[nowhere]", "nowhere"),
        ("data.caption='{colour}'", "colour"),
        ("config.latent_chanels=3", "latent_chanels"),
        ("config.act_fn=mish", "mish"),
        ("config.use_quant_conv=false", "use_quant_conv"),
        ("data.size=18", "data.size"),
        ("data.caption='{0}'", "caption"),
        ("loop.steps=[", "loop.steps"),
        ("loop.batch_size=3", "loop.batch_size"),
        ("loop.log_every=0", "loop.log_every"),
        ("loop.betas=[0.9]", "loop.betas"),
        ("loop.optimizer=sgd", "loop.optimizer"),
        ("loop.accumulation=3", "accumulation"),
        ("data.where={skin_tone: blue}", "data.where"),
        ("data.where={skin: dark}", "skin"),
        ("data.tag_shuffle=true", "data.tag_shuffle"),
        ("loop.learning_rate=1e9", "learning rate"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(vae_recipe: Path, override: str, named: str) -> None:
    with pytest.raises(UserError, match=named.replace("{", "")) as error:
        train.run(vae_recipe, overrides=[override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_a_recipe_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="recipe"):
        train.run(path)


def test_a_picture_that_cannot_be_read_is_named(vae_recipe: Path, dataset: Path) -> None:
    (dataset / "images" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with pytest.raises(UserError, match=r"3\.png"):
        train.run(vae_recipe)


@pytest.mark.parametrize("hashed", [True, False])
def test_one_original_drawn_with_and_without_a_margin_is_two_pictures_to_the_cache(
    tmp_path: Path, hashed: bool
) -> None:
    """`sha256` is that of the bytes as fetched, which the two share; rows of other makers have no `png_sha256`."""
    pictures = []
    for shade in (0, 255):
        folder = tmp_path / str(shade)
        folder.mkdir()
        Image.new("L", (16, 16), shade).save(folder / "a.png")
        row = {"file_name": "a.png", "text": "a", "sha256": "as fetched"}
        row |= {"png_sha256": hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()} if hashed else {}
        (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
        pictures.append(Dataset(Data((folder,), 16), tmp_path / "cache").pictures.mean())
    assert pictures == [0, 255]


def test_a_picture_that_was_edited_since_its_row_was_written_is_another(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("L", (16, 16), 0).save(folder / "a.png")
    digest = hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "a", "png_sha256": digest}) + "\n")
    before = Dataset(Data((folder,), 16), tmp_path / "cache")
    assert before.pictures.mean() == 0 and before.hashes == [digest]
    Image.new("L", (16, 16), 255).save(folder / "a.png")
    after = Dataset(Data((folder,), 16), tmp_path / "cache")
    assert after.pictures.mean() == 255 and after.sha256 != before.sha256


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((200, 200, 200, 255), (4, 4, 12, 12))
    picture.convert(mode).save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png", 16)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.abs(pixels[8, 8].astype(int) - 200).max() <= 6


def test_what_is_not_square_keeps_its_proportions_on_white(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "a.png")
    red = read_picture(tmp_path / "a.png", 20)[:, :, 1] < 128
    assert red.any(1).sum() == 10 and red.any(0).sum() == 20 and not red[:5].any() and not red[-5:].any()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_square_opaque_picture_is_only_resized(tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "a.png")
    plain = Image.open(tmp_path / "a.png").convert("RGB").resize((16, 16), Image.Resampling.LANCZOS)
    assert (read_picture(tmp_path / "a.png", 16) == np.asarray(plain)).all()


def test_a_line_separator_in_a_caption_does_not_end_its_row(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    row = {"file_name": "a.png", "text": "a\u2028b\u0085c"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert Dataset(Data((tmp_path,), 16), tmp_path / "cache").captions == ["a b c"]
