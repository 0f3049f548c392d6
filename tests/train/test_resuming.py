"""What a run that goes on must have in common with the one that began, whatever the objective."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import train
from mlx_genmoji import UserError
from train.data.dataset import Dataset
from train.model.decoder import drawn_latents
from train.recipe import Data, read_recipe

pytestmark = pytest.mark.usefixtures("cpu")

QUICK = ["loop.steps=1", "loop.sample_every=0", "loop.threads=1"]
OBJECTIVES = ["autoencoder", "growth", "inner-layers", "diffusion", "decoder"]


@pytest.fixture
def begun(request: pytest.FixtureRequest, vae_recipe: Path, diffusion_recipe: Path, tmp_path: Path) -> Path:
    """The recipe of an objective, of which a run has begun."""
    objective = request.param
    vae = train.run(vae_recipe, overrides=QUICK)
    if objective == "autoencoder":
        return vae_recipe
    raw = read_recipe(vae_recipe, [])
    if objective == "growth":
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
        raw["config"] |= blocks | {"block_out_channels": [4, *raw["config"]["block_out_channels"]], "sample_size": 32}
        raw |= {"grow_from": str(vae)}
        raw["data"]["size"] = 32
    elif objective == "diffusion":
        raw = read_recipe(diffusion_recipe, [])
    else:
        raw = {key: raw[key] for key in ("data", "loop")} | {"vae": str(vae)}
    path = tmp_path / "begun.yaml"
    path.write_text(yaml.safe_dump(raw | {"objective": objective, "output": str(tmp_path / "runs" / "begun")}))
    train.run(path, overrides=QUICK)
    return path


@pytest.mark.parametrize("begun", OBJECTIVES, indirect=True)
def test_another_dataset_seed_or_loss_does_not_go_on_and_another_learning_rate_is_said(
    begun: Path, dataset: Path
) -> None:
    objective = read_recipe(begun, [])["objective"]
    loss = "min_snr_gamma=5" if objective == "diffusion" else "edge_weight=7"
    for override, named in (
        ("seed=1", "seed was 0 and is 1"),
        (loss, loss.partition("=")[0]),
        ("loop.optimizer=lion", "loop.optimizer"),
        ("loop.batch_size=2", "loop.batch_size"),
    ):
        with pytest.raises(UserError, match=f"cannot go on: {named}"):
            train.run(begun, True, [*QUICK, override])
    with pytest.warns(UserWarning, match=r"loop\.learning_rate was 0\.01 and is 0\.5"):
        train.run(begun, True, [*QUICK, "loop.learning_rate=0.5"])
    with pytest.warns(UserWarning, match=r"loop\.steps was 1 and is 2"):
        train.run(begun, True, [*QUICK, "loop.steps=2", "loop.checkpoint_every=3", "loop.log_every=1"])
    Image.new("RGB", (20, 20), "red").save(dataset / "images" / "3.png")
    with pytest.raises(UserError, match="the dataset was"):
        train.run(begun, True, ["loop.steps=2", "loop.sample_every=0", "loop.threads=1"])


@pytest.mark.parametrize("begun", ["growth", "inner-layers", "diffusion", "decoder"], indirect=True)
def test_another_autoencoder_at_the_same_place_does_not_go_on(begun: Path, vae_recipe: Path, tmp_path: Path) -> None:
    train.run(vae_recipe, True, ["loop.steps=2", "loop.threads=1"])
    with pytest.raises(UserError, match=r"the (small )?autoencoder was"):
        train.run(begun, True, QUICK)


def test_drawn_latents_belong_to_their_model_and_their_captions(
    base: Path, write_base: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    captions = Dataset(Data((dataset,), 16), tmp_path / "cache").captions
    other = write_base(tmp_path / "other", unet={"attention_head_dim": 4})
    drawn: list[Any] = []
    for folder, texts, seed in (
        (base, captions, 0),
        (base, captions[::-1], 0),
        (other, captions, 0),
        (base, captions, 1),
    ):
        drawn.append(np.array(drawn_latents(folder, texts, seed, tmp_path / "cache")))
    assert len(list((tmp_path / "cache").glob("drawn-*.npy"))) == 4
    assert all(not np.allclose(drawn[0], others) for others in drawn[1:])
    np.testing.assert_array_equal(drawn_latents(base, captions, 0, tmp_path / "cache"), drawn[0])
