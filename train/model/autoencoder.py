"""Training an AutoencoderKL from nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.vae import AutoencoderKL

from ..data.dataset import Dataset, to_model
from ..data.latents import encode_all
from ..fit.loop import fit
from ..fit.settings import run_settings
from ..fit.step import Batch
from ..options import Options
from ..recipe import Recipe
from ..sheets import sheet, to_pixels

FIRST_LOG_VARIANCE = -8.0

MAX_STANDARDISED = 512
"""Pictures whose latents are standardised."""


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    """The recipe of a new autoencoder."""

    config: dict[str, Any] = field(default_factory=dict)
    """The `config.json` of the AutoencoderKL."""
    kl_weight: float = 1e-6
    edge_weight: float = 1.0
    """Weight of the L1 distance between neighbouring pixels' differences, which keeps outlines sharp."""


@dataclass(frozen=True)
class ReconstructionRecipe(Recipe):
    """The keys of a recipe by which a trained autoencoder goes on learning."""

    vae: Path = Path()
    """The folder of the autoencoder to go on from; it is left as it is."""
    edge_weight: float = 1.0
    """See `AutoencoderRecipe`."""
    border_weight: float = 0.0
    """Weight of the L1 distance at a picture's sides, which are white behind a sticker, and its corners."""
    scales: int = 1
    """At how many sizes the difference counts: the pictures' size, half of it, a quarter, and so on. Small sizes show
    the subject of a drawing, the full size how crisp it is."""
    latent_noise: float = 0.0
    """Deviation of noise on the latents, which the decoder learns to ignore: a diffusion model's latents are noisy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.data.size
        if not 1 <= self.scales <= size or size % 2 ** (self.scales - 1) or size < 4 * 2 ** (self.scales - 1):
            raise UserError(
                f"Recipe: 'scales' is {self.scales}, it must be 1 or more, and 'data.size' ({size} px) be halved"
                " once for each scale after the first, to 4 px at the least."
            )


class AutoencoderObjective:
    """Reconstruction (L1, and L1 of differences) with a touch of KL divergence to N(0, 1)."""

    def __init__(self, recipe: AutoencoderRecipe, dataset: Dataset):
        self.recipe = recipe
        self.dataset = dataset
        mx.random.seed(recipe.seed)
        model = create_model(recipe.config)
        if not (isinstance(model, AutoencoderKL) and "quant_conv" in model and "post_quant_conv" in model):
            raise UserError("Recipe: 'config' must be an AutoencoderKL with use_quant_conv and use_post_quant_conv.")
        if recipe.data.size % model.downscale:
            raise UserError(f"Recipe: 'data.size' must be a multiple of {model.downscale}, not {recipe.data.size}.")
        self.model = model
        initialise(model)

    def batch(self, step: int) -> Batch:
        """Pictures, some of them mirrored, and noise for their latents."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.dataset.draw(rng, self.recipe.loop.batch_size)
        pictures = np.stack([self.dataset.pictures[row][:, :: rng.choice((-1, 1))] for row in rows])
        side = self.recipe.data.size // self.model.downscale
        noise = rng.standard_normal((len(rows), side, side, self.model.config.latent_channels), np.float32)
        return mx.array(to_model(pictures)), mx.array(noise)

    def loss(self, pictures: mx.array, noise: mx.array) -> mx.array:
        mean, log_variance = self.model.encode(pictures)
        difference = self.model.decode(mean + mx.exp(0.5 * log_variance) * noise) - pictures
        loss = reconstruction_loss(difference, self.recipe.edge_weight)
        divergence = 0.5 * (mean.square() + mx.exp(log_variance) - 1 - log_variance).sum((1, 2, 3)).mean()
        return loss + self.recipe.kl_weight * divergence

    def sample(self, path: Path) -> None:
        """Eight pictures of the dataset above their reconstructions."""
        indices = self.dataset.draw(np.random.default_rng(self.recipe.seed), 8)
        pictures = self.dataset.pictures[np.sort(indices)]
        decoded = [self.model.decode(self.model.encode(mx.array(to_model(picture[None])))[0]) for picture in pictures]
        rows = np.concatenate([pictures, to_pixels(mx.concatenate(decoded))])
        sheet(rows, columns=8).save(path)


def reconstruction_loss(
    difference: mx.array, edge_weight: float, border_weight: float = 0.0, scales: int = 1
) -> mx.array:
    """L1 of a difference of pictures (B, H, W, 3), L1 of how it changes from pixel to pixel and over two pixels, and
    L1 in the three outermost rows and columns, whose corners count twice.

    With more scales, the first two of the difference at half the size as well, at a quarter, and so on.
    """
    loss = mx.zeros(())
    if border_weight:
        for side in (difference[:, :3], difference[:, -3:], difference[:, :, :3], difference[:, :, -3:]):
            loss = loss + border_weight * 0.25 * mx.abs(side).mean()
    for scale in range(scales):
        if scale:
            B, H, W, C = difference.shape
            difference = difference.reshape(B, H // 2, 2, W // 2, 2, C).mean((2, 4))
        loss = loss + mx.abs(difference).mean()
        for step in (1, 2):
            rows = mx.abs(difference[:, step:] - difference[:, :-step]).mean()
            columns = mx.abs(difference[:, :, step:] - difference[:, :, :-step]).mean()
            loss = loss + edge_weight * 0.25 * (rows + columns)
    return loss


def initialise(model: AutoencoderKL) -> None:
    """Convolutions that keep the variance, biases and residual branches zero: at first a nearly linear autoencoder.

    With MLX's own initialisation each layer of the trunk shrinks its input threefold in variance and adds a bias, and
    the first thousand steps are spent on undoing that.
    """
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        fan_in = module.weight[0].size
        scale = 0.0 if name.endswith("conv2") else fan_in**-0.5
        module.weight = scale * mx.random.normal(module.weight.shape)
        module.bias = mx.zeros_like(module.bias)
    for convolution in (model.quant_conv, model.post_quant_conv):
        convolution.weight = mx.eye(len(convolution.weight))
    # Latents start almost without noise: otherwise the first steps would be spent on removing it.
    channels = model.config.latent_channels
    model.encoder.conv_out.bias = mx.concatenate([mx.zeros(channels), mx.full((channels,), FIRST_LOG_VARIANCE)])
    mx.eval(model.parameters())


def standardise(model: AutoencoderKL, latents: NDArray[np.float32]) -> None:
    """Give each latent channel mean 0 and variance 1 over `latents`, within the 1x1 convolutions either side of them.

    The file format has one scaling factor for all channels; this makes 1 the right one for each.
    """
    mean = mx.array(latents.mean((0, 1, 2)))
    deviation = mx.array(latents.std((0, 1, 2)))
    quant, post = model.quant_conv, model.post_quant_conv
    channels = mean.size
    scale = mx.concatenate([1 / deviation, mx.ones(channels)])
    shift = mx.concatenate([-mean / deviation, -2 * mx.log(deviation)])
    quant.weight, quant.bias = quant.weight * scale[:, None], quant.bias * scale + shift
    post.weight, post.bias = post.weight * deviation, post.bias + post.weight @ mean
    mx.eval(model.parameters())


def standardise_over(model: AutoencoderKL, dataset: Dataset, seed: int) -> None:
    """Standardise the latents over some of the dataset's pictures, which `seed` chooses."""
    count = min(MAX_STANDARDISED, len(dataset))
    rows = np.sort(np.random.default_rng(seed).choice(len(dataset), count, replace=False))
    standardise(model, encode_all(model, dataset.pictures[rows]))


def load_vae(folder: Path) -> AutoencoderKL:
    """A trained autoencoder. Raises UserError where the folder holds none."""
    vae = load_model(folder)
    if not isinstance(vae, AutoencoderKL):
        raise UserError(f"Recipe: {folder} is not an AutoencoderKL.")
    return vae


def train_autoencoder(recipe: AutoencoderRecipe, options: Options) -> Path:
    """Train, standardise the latents, write the component's folder `output/vae` and return it."""
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    objective = AutoencoderObjective(recipe, dataset)
    fit(objective, recipe.loop, recipe.output, options.resume, run_settings(recipe, dataset.sha256, {}), recipe.seed)
    standardise_over(objective.model, dataset, recipe.seed)
    folder = recipe.output / "vae"
    save_model(objective.model, folder)
    return folder
