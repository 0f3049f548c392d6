"""Fine-tuning with an adapter: what is learned, what is left of a run, what survives a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

import train
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora import adaptable, load_adapter
from mlx_genmoji.lora.layers import dense_weight
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.vae import AutoencoderKL
from mlx_genmoji.quantization import Quantization
from quantize import quantize_folder
from quantize.fuse import fuse
from train.adapter.base import attach_new
from train.adapter.objective import LoRAObjective
from train.adapter.personas import PersonasRecipe
from train.adapter.recipe import LoRARecipe
from train.adapter.run import load_objective
from train.adapter.validation import held_out
from train.data.captions import caption, prompt_template, variants
from train.fit.distributed import World
from train.fit.step import Stepper, flat
from train.noise import loss_weights
from train.recipe import Data, build, read_recipe

Write = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("cpu")


def changes(path: Path) -> dict[str, mx.array]:
    """The arrays of an adapter's file."""
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def assert_equal(a: dict[str, mx.array], b: dict[str, mx.array]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert mx.array_equal(a[name], b[name]), name


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def dense_layers(genmoji: Genmoji) -> dict[str, mx.array]:
    """The weights of a model's layers that an adapter can change, dense."""
    return {path: dense_weight(layer).astype(mx.float32) for path, layer in adaptable(genmoji.models).items()}


def objective(path: Path, *overrides: str) -> LoRAObjective:
    recipe = build(LoRARecipe, read_recipe(path, overrides))
    return load_objective(recipe)


def test_an_adapter_learns_its_pictures(lora_recipe: Path, tmp_path: Path) -> None:
    overrides = ["loop.steps=24", "loop.log_every=6", "loop.checkpoint_every=24", "validation.pictures=0"]
    train.run(lora_recipe, overrides=overrides)
    losses = [entry["loss"] for entry in log(tmp_path / "runs" / "lora") if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]


def test_the_base_is_left_as_it_is_and_the_adapter_starts_as_nothing(lora_recipe: Path, base: Path) -> None:
    before = {path: path.read_bytes() for path in base.rglob("*.safetensors")}
    run = objective(lora_recipe)
    plain, latents = Genmoji.load(base), mx.random.normal((1, 4, 4, 4))
    states = plain.text("thing 1, flat", None, (16, 16)).states
    assert mx.array_equal(
        run.model.unet(latents, mx.array([500]), states), plain.unet(latents, mx.array([500]), states)
    )
    train.run(lora_recipe, overrides=["loop.steps=1"])
    assert {path: path.read_bytes() for path in base.rglob("*.safetensors")} == before


def test_a_run_leaves_an_adapter_that_draws_what_the_run_drew(lora_recipe: Path, tmp_path: Path, base: Path) -> None:
    path = train.run(lora_recipe, overrides=["skin_tone=dark", "person_type=woman", "loop.learning_rate=0.1"])
    folder = tmp_path / "runs" / "lora"
    assert path == folder / "adapter.safetensors"
    said = load_adapter(path).metadata
    assert said["base_model"] == "tiny" and said["base_sha256"] == Genmoji.load(base).sha256
    assert (said["skin_tone"], said["person_type"], said["step"], said["seed"]) == ("dark", "woman", "6", "0")
    assert (said["template"], said["ss_network_dim"], said["ss_network_alpha"]) == ("{prompt}, flat", "4", "4.0")
    assert len(said["dataset_sha256"]) == 64 and str(tmp_path) not in json.dumps(said)

    drawn = np.asarray(Genmoji.load(base, adapters=path).generate("thing 2", seed=0)[0].image, np.int32)
    last = np.asarray(Image.open(folder / "adapters" / "000006.png"), np.int32)[:, 16:]
    without = np.asarray(Genmoji.load(base).generate("thing 2, flat", seed=0)[0].image, np.int32)
    # The file is in half precision.
    assert np.abs(drawn - last).mean() < 1 < 3 < np.abs(without - last).mean()


def test_a_run_leaves_what_there_is_to_choose_from(lora_recipe: Path, tmp_path: Path) -> None:
    train.run(lora_recipe)
    folder = tmp_path / "runs" / "lora"
    kept = {path.name for path in (folder / "adapters").iterdir()}
    assert kept == {f"{name}.{kind}" for name in ("000004", "000006", "best") for kind in ("png", "safetensors")}
    validations = [entry for entry in log(folder) if "validation_loss" in entry]
    assert [entry["step"] for entry in validations] == [0, 3, 6]
    best = min(validations, key=lambda entry: entry["validation_loss"])
    assert load_adapter(folder / "adapters" / "best.safetensors").metadata["step"] == str(best["step"])
    for entry in validations:
        assert len(entry["validation_bands"]) == 2
        assert entry["validation_loss"] == pytest.approx(np.mean(entry["validation_bands"]))
    assert Image.open(folder / "choose.png").size[1] == 3 * 16
    assert Image.open(folder / "curve.png").size == (800, 400)


@pytest.mark.parametrize("options", [[], ["lora.dropout=0.5", "loop.ema_decay=0.9", "lora.targets=[text-encoder]"]])
def test_a_killed_run_resumes_to_the_same_adapter(lora_recipe: Path, tmp_path: Path, options: list[str]) -> None:
    overrides = [*options, "loop.steps=16", "validation.every=6", "sample_prompts=[]"]
    undisturbed = train.run(lora_recipe, overrides=[*overrides, f"output={tmp_path}/runs/undisturbed"])
    code = "import mlx_genmoji; mlx_genmoji.use_fast_cpu(); import sys, train, mlx.core as mx;"
    code += "from pathlib import Path; mx.set_default_device(mx.cpu);"
    code += "train.run(Path(sys.argv[1]), True, sys.argv[2:])"
    command = [sys.executable, "-c", code, str(lora_recipe), *overrides]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "lora"
    deadline = time.monotonic() + 60
    while not (folder / "checkpoints").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "checkpoints").exists(), "the run did not begin"
    assert not (folder / "adapter.safetensors").exists(), "the kill came too late"
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    for name in ("adapter.safetensors", "checkpoints/000016.safetensors", "adapters/best.safetensors"):
        assert_equal(changes(folder / name), changes(undisturbed.parent / name))
    told = [[entry.get("loss"), entry.get("validation_loss")] for entry in log(folder)]
    assert told == [[entry.get("loss"), entry.get("validation_loss")] for entry in log(undisturbed.parent)]


def test_a_resumed_run_notices_what_is_not_as_it_was(
    lora_recipe: Path, tmp_path: Path, write_base: Write, dataset: Path
) -> None:
    train.run(lora_recipe, overrides=["loop.steps=2"])
    for override, named in (
        ("seed=1", "seed was 0 and is 1"),
        ("loop.optimizer=lion", "loop.optimizer"),
        ("lora.rank=8", "lora.rank"),
        ("data.caption='{text}, 3d'", "data.caption"),
        (f"base={write_base(tmp_path / 'another', unet={'sample_size': 4, 'attention_head_dim': 4})}", "weights"),
    ):
        if named == "weights":
            weights = tmp_path / "another" / "unet" / "diffusion_pytorch_model.safetensors"
            arrays = changes(weights)
            arrays["conv_in.bias"] = arrays["conv_in.bias"] + 1
            mx.save_safetensors(str(weights), arrays)
        with pytest.raises(UserError, match=named):
            train.run(lora_recipe, resume=True, overrides=[override])
    with pytest.warns(UserWarning) as said:
        train.run(lora_recipe, resume=True, overrides=["loop.log_every=3", "loop.learning_rate=0.005"])
    changed = [str(warning.message) for warning in said if "the run goes on" in str(warning.message)]
    assert len(changed) == 2 and "loop.learning_rate was 0.01 and is 0.005" in changed[0]
    assert "loop.steps was 2 and is 6" in changed[1]
    assert log(tmp_path / "runs" / "lora")[-2]["learning_rate"] == 0.005
    Image.new("L", (16, 16)).save(dataset / "images" / "3.png")
    with pytest.raises(UserError, match="dataset was"):
        train.run(lora_recipe, resume=True)


def test_latents_and_texts_are_computed_once(lora_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train.run(lora_recipe, overrides=["loop.steps=1"])

    def never(*_: Any) -> None:
        raise AssertionError("it is in the cache")

    monkeypatch.setattr(AutoencoderKL, "encode", never)
    monkeypatch.setattr(CLIPTextModel, "__call__", never)
    train.run(lora_recipe, resume=True)
    with pytest.raises(AssertionError):
        train.run(lora_recipe, resume=True, overrides=["data.size=32"])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("xl", [False, True])
def test_the_loss_is_that_of_the_whole_pipeline(
    lora_recipe: Path, tmp_path: Path, write_base: Write, prediction_type: str, xl: bool
) -> None:
    """Against the steps by themselves: the text encoders of today, the formulas of the papers."""
    folder = write_base(tmp_path / "base", xl, scheduler={"prediction_type": prediction_type})
    run = objective(lora_recipe, f"base={folder}", "caption_dropout=0.5", "loop.batch_size=6")
    noisy, timesteps, target, weights, *told = run.batch(3)
    assert mx.array_equal(weights, mx.ones(6))
    samples = run.samples(3)
    assert "" in [sample.caption for sample in samples] != [""] * 6

    genmoji, losses = Genmoji.load(folder), []
    for sample in samples:
        mean, _ = genmoji.vae.encode(mx.array(run.dataset.pictures[sample.row : sample.row + 1] / 127.5 - 1.0))
        x0, epsilon = np.asarray(mean) * 0.5, sample.noise[None]
        alpha = np.sqrt(run.signal[sample.timestep])
        sigma = np.sqrt(1 - run.signal[sample.timestep])
        wanted = {"epsilon": epsilon, "v_prediction": alpha * epsilon - sigma * x0, "sample": x0}[prediction_type]
        text = genmoji.text("thing", sample.caption, (16, 16))
        states, added = text.states[:1], {name: value[:1] for name, value in text.added.items()}
        x = mx.array(alpha * x0 + sigma * epsilon)
        predicted = genmoji.unet(x, mx.array([sample.timestep]), states, added)
        losses.append(np.square(np.asarray(predicted) - wanted).mean())
    assert run.loss(noisy, timesteps, target, weights, *told).item() == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("xl", [False, True])
def test_a_text_encoder_that_is_trained_says_at_first_what_a_frozen_one_says(
    lora_recipe: Path, tmp_path: Path, write_base: Write, xl: bool
) -> None:
    base = f"base={write_base(tmp_path / 'base', xl)}"
    overrides = [base, "caption_dropout=0.5", "lora.targets=[attention, text-encoder]"]
    trained, frozen = objective(lora_recipe, *overrides), objective(lora_recipe, base, "caption_dropout=0.5")
    assert trained.loss(*trained.batch(0)).item() == pytest.approx(frozen.loss(*frozen.batch(0)).item(), rel=1e-5)
    told = next(step for step in range(9) if any(sample.caption for sample in trained.samples(step)))
    stepper = Stepper(trained, trained.recipe.loop, 1)
    stepper.differentiate(trained.batch(told))
    towers = ("text_encoder.", "text_encoder_2.")[: 1 + xl]
    for tower in towers:
        changed = [g for name, g in stepper.gradients.items() if name.startswith(tower) and name.endswith("lora_b")]
        assert changed and any(gradient.abs().max() > 0 for gradient in changed)


def test_two_machines_draw_together_what_one_draws_alone(lora_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = objective(lora_recipe, "loop.batch_size=8").batch(5)
    halves = []
    for rank in range(2):
        monkeypatch.setattr(
            World, "__init__", lambda self, alone=False, rank=rank: vars(self).update(rank=rank, size=2)
        )
        halves.append(objective(lora_recipe).batch(5))
    for array, *parts in zip(whole, *halves, strict=True):
        assert mx.array_equal(array, mx.concatenate(parts))


def test_held_out_pictures_are_never_learned(lora_recipe: Path) -> None:
    run = objective(lora_recipe, "validation.pictures=4")
    assert len(run.validation_rows) == 1
    drawn = {sample.row for step in range(80) for sample in run.samples(step)}
    assert drawn == set(range(8)) - set(run.validation_rows.tolist())


def test_the_same_pictures_are_held_out_whatever_others_there_are() -> None:
    few, many = [f"{i}" for i in range(50)], [f"{i}" for i in range(100)]
    assert set(held_out(many, 10).tolist()) & set(range(50)) <= set(held_out(few, 10).tolist())


def test_validation_is_on_noise_that_is_always_the_same(lora_recipe: Path) -> None:
    first = objective(lora_recipe).validate()
    assert objective(lora_recipe, "seed=5", "loop.batch_size=1").validate() == pytest.approx(first)
    assert len(set(first)) == 2


def test_min_snr_weighs_as_in_diffusers_training() -> None:
    import torch
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    timesteps = torch.tensor([0, 100, 400, 999])
    snr = compute_snr(scheduler, timesteps)
    least = torch.clamp(snr, max=5.0)
    signal = scheduler.alphas_cumprod[timesteps].numpy()
    for prediction, expected in (("epsilon", least / snr), ("v_prediction", least / (snr + 1)), ("sample", least)):
        np.testing.assert_allclose(loss_weights(signal, prediction, 5.0), expected.numpy(), rtol=1e-4)


def test_a_noise_offset_moves_whole_channels(lora_recipe: Path) -> None:
    plain, offset = (objective(lora_recipe, f"noise_offset={k}").samples(0)[0].noise for k in (0, 0.5))
    moved = offset - plain
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0, 0], moved.shape), atol=1e-6)
    assert np.unique(moved.round(4)).size == 4


def test_tags_are_shuffled_and_dropped_the_same_way_in_every_run() -> None:
    row = {"file_name": "a.png", "text": "pig", "tags": list("abcdefgh"), "skin_tone": [], "person_type": None}
    data = Data((Path(),), 16, "{text}, {person_type}, {skin_tone}, {tags}", tag_shuffle=True, tag_dropout=0.25)
    drawn = variants(data, row, 3)
    assert drawn == variants(data, row, 3) != variants(data, row, 4) and len(set(drawn)) == 8
    tags = [text.removeprefix("pig, ").split(", ") for text in drawn]
    assert all(set(own) <= set("abcdefgh") for own in tags) and any(own != sorted(own) for own in tags)
    assert 0.6 < np.mean([len(own) / 8 for own in tags]) < 0.9
    assert caption(data, row) == "pig, a, b, c, d, e, f, g, h"


def test_the_template_of_prompts_is_that_of_captions() -> None:
    data = Data((Path(),), 16, "{text}, {tags}, {style}", {"noto": "flat"})
    assert prompt_template(data) == "{prompt}, flat"
    assert prompt_template(Data((Path(),), 16, "{tags}")) is None


def test_only_rows_that_are_asked_for_are_learned(lora_recipe: Path) -> None:
    assert len(objective(lora_recipe, "data.where={skin_tone: dark}").dataset) == 1
    assert len(objective(lora_recipe, "data.where={source: [noto, fluent], skin_tone: [[]]}").dataset) == 7


def test_training_goes_on_from_an_adapter(lora_recipe: Path, tmp_path: Path) -> None:
    first = train.run(lora_recipe)
    going = [f"start_from={first}", f"output={tmp_path}/runs/more", "loop.learning_rate=0"]
    assert_equal(changes(train.run(lora_recipe, overrides=going)), changes(first))


@pytest.mark.parametrize("init", ["pissa", "zero"])
@pytest.mark.parametrize("kind", ["lora.dora=true", "lora.rslora=true"])
def test_other_kinds_of_adapters_train(lora_recipe: Path, tmp_path: Path, init: str, kind: str) -> None:
    path = train.run(lora_recipe, overrides=[f"lora.init={init}", kind, "loop.steps=2"])
    assert load_adapter(path).layers


def test_an_adapter_for_another_base_is_refused(lora_recipe: Path, tmp_path: Path, write_base: Write) -> None:
    path = train.run(lora_recipe, overrides=["loop.steps=1"])
    other = write_base(tmp_path / "other", unet={"block_out_channels": [16, 32]})
    with pytest.raises(UserError, match="other weights, those of tiny"):
        train.run(lora_recipe, overrides=[f"start_from={path}", f"base={other}", f"output={tmp_path}/runs/other"])


@pytest.mark.parametrize(
    ("unet", "named"), [({"in_channels": 9}, "inpainting"), ({"time_cond_proj_dim": 8}, "latent consistency")]
)
def test_a_model_of_another_kind_is_refused(
    lora_recipe: Path, tmp_path: Path, write_base: Write, unet: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        train.run(lora_recipe, overrides=[f"base={write_base(tmp_path / 'other', unet=unet)}"])


def test_a_dataset_without_captions_is_refused_in_one_line(lora_recipe: Path, dataset: Path) -> None:
    rows = [json.loads(line) for line in (dataset / "metadata.jsonl").read_text().splitlines()]
    for without in ({"text": ""}, {"text": None}, {}):
        lines = [json.dumps({k: v for k, v in row.items() if k != "text"} | without) + "\n" for row in rows]
        (dataset / "metadata.jsonl").write_text("".join(lines))
        with pytest.raises(UserError, match=r"images/0\.png has no (caption|'text')") as error:
            train.run(lora_recipe, overrides=["data.caption='{text}'"])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nnot a picture", None])
def test_a_corrupt_picture_is_named(lora_recipe: Path, dataset: Path, content: bytes | None, tmp_path: Path) -> None:
    picture = dataset / "images" / "3.png"
    picture.write_bytes(picture.read_bytes()[:-30] if content is None else content)
    with pytest.raises(UserError, match=r"3\.png"):
        train.run(lora_recipe)
    assert not list((tmp_path / "runs" / "cache").glob("*"))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("lora.rnak=3", "lora.rnak"),
        ("lora.rank=0", "rank"),
        ("lora.targets=[head]", "head"),
        ("validation.bands=0", "validation.bands"),
        ("caption_dropout=2", "caption_dropout"),
        ("data.size=18", "data.size"),
        ("base=nowhere", "nowhere"),
        ("start_from=nowhere.safetensors", "nowhere"),
        ("bitz=4", "bitz"),
        ("loop.learning_rate=1e9", "learning rate"),
        ("loop.learning_rate=-1", "loop.learning_rate"),
        ("loop.learning_rate=.nan", "loop.learning_rate"),
        ("loop.clip_norm=-1", "loop.clip_norm"),
        ("loop.ema_decay=2", "loop.ema_decay"),
        ("loop.betas=[0.9, 1.0]", "loop.betas"),
        ("loop.accumulation=8", "multiple of the 8 parts"),
        ("loop.threads=3", "multiple of the 3 parts"),
        ("loop.betas=[0.9, x]", "loop.betas"),
        ("lora.targets={conv: true}", "lora.targets' must be a list"),
        ("fuse_bits=7", "fuse_bits"),
        ("bits=16", "bits"),
        ("seed=-1", "seed"),
        ("sample_seed=-1", "sample_seed"),
        ("sample_prompts=['  ']", "sample_prompts"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(lora_recipe: Path, override: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        train.run(lora_recipe, overrides=[override])
    assert "\n" not in str(error.value)


def test_a_dry_run_refuses_what_a_run_does(lora_recipe: Path) -> None:
    with pytest.raises(UserError, match="multiple of the 2 parts"):
        train.dry_run(lora_recipe, ["loop.batch_size=3", "loop.threads=2"])


def test_gradients_are_shortened_to_the_clip_norm_and_without_one_left_as_they_are(lora_recipe: Path) -> None:
    moved = []
    for clip_norm in ("0", "1e9", "1e-3"):
        run = objective(lora_recipe, f"loop.clip_norm={clip_norm}", "loop.weight_decay=0", "lora.targets=[attention]")
        stepper = Stepper(run, run.recipe.loop, 1)
        stepper.step(0, run.batch(0))
        # AdamW's first moment after one step: a hundredth of the gradient.
        moments = [array for name, array in stepper.state().items() if name.endswith(".m")]
        moved.append(float(np.sqrt(sum(np.square(np.asarray(array)).sum() for array in moments))))
    assert moved[0] == moved[1] > 10 * moved[2] > 0


def test_a_list_of_one_needs_no_brackets(lora_recipe: Path, dataset: Path) -> None:
    raw = read_recipe(lora_recipe, ["lora.targets=attention", f"data.folders={dataset}", "sample_prompts=a pig"])
    recipe = build(LoRARecipe, raw)
    assert recipe.lora.targets == ("attention",)
    assert recipe.data.folders == (dataset,) and recipe.sample_prompts == ("a pig",)


def test_prompts_and_captions_are_read_alike_whatever_their_spaces(lora_recipe: Path, dataset: Path) -> None:
    rows = [json.loads(line) for line in (dataset / "metadata.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"text": f" fox  {n}\u00a0"}) + "\n" for n, row in enumerate(rows)]
    (dataset / "metadata.jsonl").write_text("".join(lines))
    run = objective(lora_recipe, "sample_prompts=['thing  1, flat ', ' fox 2,  flat']")
    assert run.recipe.sample_prompts == ("thing 1, flat", "fox 2, flat")
    assert run.dataset.captions[2] == "fox 2, flat"
    drawn = run.paint([run.dataset.captions[2], *run.recipe.sample_prompts])
    assert (drawn[0] == drawn[2]).all()


def test_a_model_that_cannot_be_packed_afterwards_is_refused_before_the_training(
    lora_recipe: Path, tmp_path: Path, write_base: Write
) -> None:
    narrow = write_base(tmp_path / "narrow", unet={"block_out_channels": [24, 24], "norm_num_groups": 8})
    with pytest.raises(UserError, match=r"fuse_bits.*nothing of the unet.*groups of 64"):
        train.run(lora_recipe, overrides=["fuse_bits=8", f"base={narrow}"], fuse=fuse)
    assert not (tmp_path / "runs" / "lora").exists()


def test_an_adapter_of_layers_that_stay_dense_is_fused_whole(lora_recipe: Path, tmp_path: Path) -> None:
    quick = ["loop.steps=1", "sample_prompts=[]", "validation.pictures=0"]
    train.run(lora_recipe, overrides=[*quick, "fuse_bits=8", "lora.targets=unet.time_embedding.*"], fuse=fuse)
    assert Genmoji.load(tmp_path / "runs" / "lora" / "model").quantization


def test_loftq_starts_layers_that_stay_dense_as_nothing(lora_recipe: Path) -> None:
    run = objective(lora_recipe, "bits=4", "lora.init=loftq", "lora.targets=[attention, unet.time_embedding.*]")
    ups = {name: array for name, array in flat(run.model.trainable_parameters()).items() if name.endswith("lora_b")}
    assert {"time_embedding" in name: bool(array.any()) for name, array in ups.items()} == {True: False, False: True}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ([], "dense 'base' and 'bits'"),
        (["bits=4", "lora.targets=unet.time_embedding.*"], "needs a quantized model"),
        (["bits=4", "base=PACKED"], "is packed"),
    ],
)
def test_loftq_without_rounding_to_repair_is_refused(
    lora_recipe: Path, tmp_path: Path, base: Path, overrides: list[str], named: str
) -> None:
    if "base=PACKED" in overrides:
        quantize_folder(base, tmp_path / "packed", Quantization(4))
    overrides = [override.replace("PACKED", str(tmp_path / "packed")) for override in overrides]
    with pytest.raises(UserError, match=named):
        objective(lora_recipe, "lora.init=loftq", *overrides)


def test_what_loftq_repairs_is_not_fused_into_the_dense_weights(lora_recipe: Path, tmp_path: Path, base: Path) -> None:
    quick = ["loop.steps=1", "sample_prompts=[]", "validation.pictures=0", "lora.targets=attention"]
    with pytest.warns(UserWarning, match="cosine"):
        overrides = [*quick, "bits=4", "lora.init=loftq", "fuse_bits=8", "loop.learning_rate=0"]
        train.run(lora_recipe, overrides=overrides, fuse=fuse)
    fused, plain = Genmoji.load(tmp_path / "runs" / "lora" / "model"), Genmoji.load(base, bits=8)
    ours, theirs = (dense_layers(model) for model in (fused, plain))
    assert ours.keys() == theirs.keys()
    for path, weight in theirs.items():
        # The scales are in half precision, what is added and taken off again too.
        assert mx.linalg.norm(ours[path] - weight).item() < 0.01 * mx.linalg.norm(weight).item(), path


def test_a_full_disk_leaves_earlier_checkpoints_and_the_run_goes_on(
    lora_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train.run(lora_recipe, overrides=[f"output={tmp_path}/runs/undisturbed"])
    write, folder = Path.write_bytes, tmp_path / "runs" / "lora"

    def fill(path: Path, data: bytes) -> int:
        if "000004" in path.name:
            write(path, data[:100])
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(UserError, match=r"000004.*No space left on device.*--resume") as error:
        train.run(lora_recipe)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    mx.set_default_device(mx.cpu)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["000002.safetensors"]
    assert not [path for path in folder.rglob("*") if "partial" in path.name]
    assert_equal(changes(train.run(lora_recipe, resume=True)), changes(undisturbed))


def test_pictures_that_a_kill_cut_off_do_not_stand_in_the_way(lora_recipe: Path, tmp_path: Path) -> None:
    quick = ["lora.targets=attention", "loop.steps=4", "validation.pictures=0", "sample_prompts=['thing 1, flat']"]
    written = changes(train.run(lora_recipe, overrides=quick))
    adapters = tmp_path / "runs" / "lora" / "adapters"
    # As a kill leaves it between the adapter of step 4 and the checkpoint.
    (adapters.parent / "checkpoints" / "000004.safetensors").unlink()
    for name in ("000002.png", "000004.png"):
        os.truncate(adapters / name, 40)
    for name in ("000005.png", "000005.safetensors", ".000004.png.partial"):
        (adapters / name).write_bytes(b"\x89PNG")
    assert_equal(changes(train.run(lora_recipe, resume=True, overrides=quick)), written)
    left = {path.name for path in adapters.iterdir()}
    assert left == {f"00000{step}.{kind}" for step in (2, 4) for kind in ("png", "safetensors")}
    assert Image.open(adapters.parent / "choose.png").size[1] == 16


def test_a_half_written_checkpoint_is_passed_over(lora_recipe: Path, tmp_path: Path) -> None:
    written = changes(train.run(lora_recipe))
    newest = tmp_path / "runs" / "lora" / "checkpoints" / "000006.safetensors"
    os.truncate(newest, newest.stat().st_size // 2)
    with pytest.warns(UserWarning, match=r"000006\.safetensors is damaged.*the one before"):
        assert_equal(changes(train.run(lora_recipe, resume=True)), written)


@pytest.mark.parametrize("name", ["lora-4bit", "lora-then-quantize", "personas"])
def test_the_recipes_that_are_here_fit_the_model_that_is_here(name: str) -> None:
    raw = read_recipe(Path(train.__file__).parent / "recipes" / f"{name}.yaml", [])
    recipe: LoRARecipe = build(PersonasRecipe if name == "personas" else LoRARecipe, raw)
    genmoji = Genmoji.load(recipe.base, bits=recipe.bits)
    layers = attach_new(genmoji, recipe.lora, recipe.bits, recipe.seed)
    assert recipe.data.size == genmoji.size[0] and recipe.loop.steps <= 500
    assert {"unet.mid_block.resnets.0.conv1", "unet.add_embedding.proj"} <= set(layers)
