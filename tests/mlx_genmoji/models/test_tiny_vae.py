"""AutoencoderTiny: the latents and pictures of diffusers' module, from the folder that diffusers saved."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import mlx.core as mx
import numpy as np
import pytest
import torch

from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models import tiny_vae
from mlx_genmoji.models.tiny_vae import AutoencoderTiny

pytestmark = pytest.mark.usefixtures("cpu")

TOLERANCE = 1e-5
Config = dict[str, Any]


def config(channels: int, encoder: list[int], decoder: list[int], **others: Any) -> Config:
    return {
        "encoder_block_out_channels": [channels] * len(encoder),
        "decoder_block_out_channels": [channels] * len(decoder),
        "num_encoder_blocks": encoder,
        "num_decoder_blocks": decoder,
        **others,
    }


CONFIGS: dict[str, Config] = {
    # TAESD in small: eight pixels a latent.
    "taesd": config(8, [1, 3, 3, 3], [3, 3, 3, 1]),
    # The one of Stable Diffusion 3, whose latents have more channels.
    "more-channels": config(12, [2, 1], [1, 2], latent_channels=16, in_channels=4, out_channels=4),
    "one-stage": config(6, [2], [1]),
    # Stages without a block, and channels that the CPU doubles before it convolves.
    "wide": config(160, [0, 1], [1, 0], latent_magnitude=5, latent_shift=0.2, scaling_factor=0.5),
}


class Case:
    """A random oracle, its folder, pictures and latents, and what the oracle makes of them."""

    def __init__(self, config: Config, save: Callable[..., Path], size: tuple[int, int] = (3, 4)):
        self.oracle = diffusers.AutoencoderTiny(**config)
        self.folder = save(self.oracle)
        downscale = 2 ** (len(config["num_encoder_blocks"]) - 1)
        random = np.random.default_rng(1)
        oracle_config = self.oracle.config
        # Some of the latents are beyond the largest one.
        self.latents = 3 * random.normal(size=(2, *size, oracle_config.latent_channels)).astype(np.float32)
        shape = (2, size[0] * downscale, size[1] * downscale, oracle_config.in_channels)
        self.pictures = random.uniform(-1, 1, shape).astype(np.float32)
        self.expected = self.theirs(self.oracle)

    def theirs(self, oracle: diffusers.AutoencoderTiny) -> list[np.ndarray]:
        with torch.no_grad():
            latents = oracle.encode(torch.from_numpy(self.pictures).permute(0, 3, 1, 2)).latents
            pictures = oracle.decode(torch.from_numpy(self.latents).permute(0, 3, 1, 2)).sample
        return [array.permute(0, 2, 3, 1).numpy() for array in (latents, pictures)]

    def ours(self, model: AutoencoderTiny) -> list[mx.array]:
        return [model.encode(mx.array(self.pictures))[0], model.decode(mx.array(self.latents))]


@pytest.fixture(scope="module")
def make_case(save):
    return cache(lambda name, *size: Case(CONFIGS[name], save, *size))


@pytest.fixture
def errors(error):
    return lambda ours, theirs: [error(a, b) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("size", [(3, 4), (5, 7)])
@pytest.mark.parametrize("name", CONFIGS)
def test_encodes_and_decodes_as_diffusers_does(name, size, make_case, errors, form):
    case = make_case(name, size)
    assert max(errors(case.ours(load_model(case.folder)), case.expected)) <= TOLERANCE


@pytest.mark.parametrize("size", [(17, 30), (20, 19)])
def test_pictures_need_not_be_multiples_of_a_latent(size, make_case, error, form):
    case = make_case("taesd")
    pictures = np.random.default_rng(2).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = case.oracle.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2)).latents.permute(0, 2, 3, 1)
    assert error(load_model(case.folder).encode(mx.array(pictures))[0], expected.numpy()) <= TOLERANCE


def test_latents_have_no_spread(make_case):
    case = make_case("taesd")
    mean, log_variance = load_model(case.folder).encode(mx.array(case.pictures))
    assert mx.array_equal(mean + mx.exp(0.5 * log_variance) * 1e30, mean)
    assert log_variance.shape == mean.shape


@pytest.mark.parametrize("name", CONFIGS)
def test_downscale_is_pixels_per_latent(name, make_case):
    case = make_case(name)
    model = load_model(case.folder)
    assert case.pictures.shape[1] // model.encode(mx.array(case.pictures))[0].shape[1] == model.downscale
    assert model.decode(mx.array(case.latents)).shape[1] == model.downscale * case.latents.shape[1]


@pytest.mark.parametrize("name", CONFIGS)
def test_diffusers_reads_what_we_save(name, make_case, tmp_path):
    case = make_case(name)
    model = load_model(case.folder)
    save_model(model, tmp_path / "ours")
    theirs = case.theirs(diffusers.AutoencoderTiny.from_pretrained(tmp_path / "ours"))
    assert all(np.array_equal(a, b) for a, b in zip(theirs, case.expected, strict=True))
    assert load_model(tmp_path / "ours").raw_config == model.raw_config


def test_large_latents_that_are_not_squashed_are_noticed(make_case, errors, monkeypatch):
    case = make_case("taesd")
    model = load_model(case.folder)
    monkeypatch.setattr(tiny_vae, "MAX_LATENT", 4)
    assert errors(case.ours(model), case.expected)[1] > TOLERANCE


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("act_fn", "gelu", "act_fn.*gelu"),
        ("upsample_fn", "bilinear", "upsample_fn.*bilinear"),
        ("upsampling_scaling_factor", 3, "upsampling_scaling_factor.*3"),
        ("encoder_block_out_channels", [64, 64, 32, 64], "encoder_block_out_channels.*equal"),
        ("decoder_block_out_channels", [64, 64], "num_decoder_blocks.*each of 2"),
        ("num_encoder_blocks", [1, 3, 3], "num_encoder_blocks.*each of 4"),
        ("num_encoder_blocks", [1000, 3, 3, 3], "num_encoder_blocks.*1009 layers"),
        ("num_decoder_blocks", 3, "num_decoder_blocks.*3"),
        ("latent_channels", 0, "latent_channels.*0"),
        ("scaling_factor", "1", "scaling_factor"),
        ("some_new_field", 1, "some_new_field"),
    ],
)
def test_a_config_that_cannot_be_built_is_one_sentence(field, value, message):
    with pytest.raises(UserError, match=message) as caught:
        create_model({"_class_name": "AutoencoderTiny", field: value})
    assert "\n" not in str(caught.value)
