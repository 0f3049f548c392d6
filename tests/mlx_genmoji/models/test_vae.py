"""AutoencoderKL: the latents and pictures of diffusers' module, from the folder that diffusers saved."""

from collections.abc import Callable
from copy import copy
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
from mlx_genmoji.models.blocks import Attention
from mlx_genmoji.models.vae import AutoencoderKL

pytestmark = pytest.mark.usefixtures("cpu")

TOLERANCE = 1e-5
Config = dict[str, Any]


def config(channels: list[int], **others: Any) -> Config:
    return {
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "block_out_channels": channels,
        **others,
    }


CONFIGS: dict[str, Config] = {
    # Stable Diffusion 1.x in small: eight pixels a latent.
    "stable-diffusion-1": config([8, 16, 24, 24], layers_per_block=2, norm_num_groups=8),
    # Sixteen pixels a latent, nothing that is not a convolution.
    "convolutions": config(
        [4, 8, 8, 12, 16],
        latent_channels=9,
        norm_num_groups=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ),
    "four-channel-pictures": config(
        [12, 36], in_channels=4, out_channels=4, latent_channels=3, norm_num_groups=6, use_quant_conv=False
    ),
    # Channels that the CPU's thin convolutions leave to MLX, and that it doubles before it convolves.
    "wide": config([32, 128, 192], latent_channels=16, use_post_quant_conv=False),
}


class Case:
    """A random oracle, its folder, pictures and latents, and what the oracle makes of them."""

    def __init__(self, config: Config, save: Callable[..., Path], size: int = 2, quiet: bool = False):
        self.oracle = diffusers.AutoencoderKL(**config)
        self.folder = save(self.oracle, quiet=quiet)
        downscale = 2 ** (len(config["block_out_channels"]) - 1)
        random = np.random.default_rng(1)
        oracle_config = self.oracle.config
        self.latents = random.normal(size=(2, size, size + 1, oracle_config.latent_channels)).astype(np.float32)
        shape = (2, size * downscale, (size + 1) * downscale, oracle_config.in_channels)
        self.pictures = random.uniform(-1, 1, shape).astype(np.float32)
        self.expected = self.theirs(self.oracle)

    def theirs(self, oracle: diffusers.AutoencoderKL) -> list[np.ndarray]:
        with torch.no_grad():
            latents = oracle.encode(torch.from_numpy(self.pictures).permute(0, 3, 1, 2)).latent_dist
            pictures = oracle.decode(torch.from_numpy(self.latents).permute(0, 3, 1, 2)).sample
        return [array.permute(0, 2, 3, 1).numpy() for array in (latents.mean, latents.logvar, pictures)]

    def ours(self, model: AutoencoderKL) -> list[mx.array]:
        return [*model.encode(mx.array(self.pictures)), model.decode(mx.array(self.latents))]


@pytest.fixture(scope="module")
def make_case(save):
    return cache(lambda name, *size, **others: Case(CONFIGS[name], save, *size, **others))


@pytest.fixture
def errors(error):
    return lambda ours, theirs: [error(a, b) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_encodes_and_decodes_as_diffusers_does(name, size, make_case, errors, form):
    case = make_case(name, size)
    assert max(errors(case.ours(load_model(case.folder)), case.expected)) <= TOLERANCE


@pytest.mark.parametrize("size", [(17, 30), (20, 19)])
@pytest.mark.parametrize("name", ["stable-diffusion-1", "convolutions"])
def test_pictures_need_not_be_multiples_of_a_latent(name, size, make_case, errors, form):
    case = copy(make_case(name))
    case.pictures = np.random.default_rng(2).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
    assert max(errors(case.ours(load_model(case.folder)), case.theirs(case.oracle))) <= TOLERANCE


def test_a_log_variance_stays_in_its_bounds(make_case, errors, tmp_path):
    case = make_case("stable-diffusion-1")
    oracle = diffusers.AutoencoderKL.from_pretrained(case.folder)
    with torch.no_grad():
        oracle.quant_conv.bias[:] = torch.tensor([-200.0, 200.0] * 4)
    oracle.save_pretrained(tmp_path / "extreme")
    ours = case.ours(load_model(tmp_path / "extreme"))
    assert max(errors(ours, case.theirs(oracle))) <= TOLERANCE
    assert (ours[1].min().item(), ours[1].max().item()) == (-30, 20)


@pytest.mark.parametrize("name", CONFIGS)
def test_downscale_is_pixels_per_latent(name, make_case):
    case = make_case(name)
    model = load_model(case.folder)
    assert case.pictures.shape[1] // model.encode(mx.array(case.pictures))[0].shape[1] == model.downscale


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_diffusers_reads_what_we_save(name, dtype, make_case, errors, tmp_path):
    case = make_case(name)
    model = load_model(case.folder)
    save_model(model, tmp_path / "ours", dtype)
    theirs = case.theirs(diffusers.AutoencoderKL.from_pretrained(tmp_path / "ours", torch_dtype=torch.float32))
    again = load_model(tmp_path / "ours")
    assert max(errors(case.ours(again), theirs)) <= TOLERANCE
    if dtype == mx.float32:
        assert all(np.array_equal(a, b) for a, b in zip(theirs, case.expected, strict=True))
        assert again.raw_config == model.raw_config


@pytest.mark.parametrize("name", CONFIGS)
def test_quiet_activations_are_encoded_and_decoded_as_well(name, make_case, errors, form):
    case = make_case(name, quiet=True)
    assert max(errors(case.ours(load_model(case.folder)), case.expected)) <= TOLERANCE


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("norm", ["norm1", "norm2", "group_norm", "conv_norm_out"])
def test_a_wrong_eps_in_one_norm_is_noticed(norm, half, make_case, errors, form):
    case = make_case("stable-diffusion-1", quiet=True)
    model = load_model(case.folder)
    owner = next(module for _, module in model[half].named_modules() if norm in module)
    assert owner[norm].eps == 1e-6
    owner[norm].eps = 1e-5
    mean, _, picture = errors(case.ours(model), case.expected)
    assert (mean if half == "encoder" else picture) > TOLERANCE


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_keys_and_values_swapped_are_noticed(half, make_case, errors):
    case = make_case("stable-diffusion-1")
    model = load_model(case.folder)
    attention = next(module for _, module in model[half].named_modules() if isinstance(module, Attention))
    attention.to_k, attention.to_v = attention.to_v, attention.to_k
    mean, _, picture = errors(case.ours(model), case.expected)
    assert (mean if half == "encoder" else picture) > TOLERANCE


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("act_fn", "gelu", "act_fn.*gelu"),
        ("block_out_channels", "abc", "block_out_channels.*abc"),
        ("block_out_channels", [8, 16, 24, "24"], "block_out_channels.*'24'"),
        ("block_out_channels", None, "block_out_channels.*None"),
        ("block_out_channels", [8, 16], "down_block_types.*each"),
        ("up_block_types", ["UpDecoderBlock2D"], "up_block_types.*each"),
        ("down_block_types", ["AttnDownEncoderBlock2D"] * 4, "down_block_types.*AttnDownEncoderBlock2D"),
        ("norm_num_groups", 3, "norm_num_groups.*3.*8"),
        ("latent_channels", "4", "latent_channels.*4"),
        ("latent_channels", 0, "latent_channels.*0"),
        ("scaling_factor", "1", "scaling_factor"),
        ("mid_block_add_attention", 1, "mid_block_add_attention"),
        ("latents_mean", [0.1], "latents_mean.*0.1"),
    ],
)
def test_a_config_that_cannot_be_built_is_one_sentence(field, value, message):
    with pytest.raises(UserError, match=message) as caught:
        create_model({"_class_name": "AutoencoderKL", **CONFIGS["stable-diffusion-1"], field: value})
    assert "\n" not in str(caught.value)
