"""Training an autoencoder's inner layers alone, at a third of a step's cost, with more latent channels where asked.

Most of a step's time goes into the layers of the two highest resolutions. So the encoder's first block is frozen, and
its output for each picture is computed once; and in place of the decoder's outer blocks a linear layer makes 4 x 4
pixels from each position at a quarter of the pictures' size. That layer is dropped in the end: the objective `decoder`
then trains the outer blocks for their new input.
"""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mlx_genmoji.checkpoint.components import create_model, save_model
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.models import ops
from mlx_genmoji.models.blocks import GroupNorm
from mlx_genmoji.models.ops import silu
from mlx_genmoji.models.vae import EPS, AutoencoderKL

from ..data.cached import cached_parts
from ..data.dataset import Dataset, to_model
from ..fit.loop import fit
from ..fit.settings import run_settings
from ..fit.step import Batch, flat
from ..options import Options
from ..sheets import sheet, to_pixels
from .autoencoder import ReconstructionRecipe, initialise, load_vae, reconstruction_loss, standardise_over
from .regression import ridge
from .weights import parameters_sha256

SIDE = 4
"""The linear layer makes SIDE x SIDE pixels from each position."""
REGRESSION_PICTURES = 256
"""Pictures that the linear layer is fitted to at first, by regression."""


@dataclass(frozen=True)
class InnerLayersRecipe(ReconstructionRecipe):
    """The recipe of inner layers alone."""

    latent_channels: int | None = None
    """Channels of the latents: those of `vae`, and new ones after them where this is more; without it, as many."""


class InnerAutoencoder(nn.Module):
    """The inner layers of an autoencoder: from the output of its encoder's first block to a linear layer's pixels."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae
        channels, groups = vae.config.block_out_channels[2], vae.config.norm_num_groups
        self.norm = GroupNorm(groups, channels, EPS)
        self.to_pixels = nn.Linear(channels, 3 * SIDE**2)
        vae.freeze()
        encoder, decoder = vae.encoder, vae.decoder
        inner = [*encoder.down_blocks[1:], encoder.mid_block, encoder.conv_norm_out, encoder.conv_out]
        inner += [vae.quant_conv, vae.post_quant_conv, decoder.conv_in, decoder.mid_block, *decoder.up_blocks[:-3]]
        for module in (*inner, *decoder.up_blocks[-3].resnets):
            module.unfreeze()

    def encode(self, first: mx.array) -> mx.array:
        """The output of `first_block` (B, H / 2, W / 2, C) -> mean latents."""
        encoder, x = self.vae.encoder, first
        for block in encoder.down_blocks[1:]:
            x = block(x)
        moments = self.vae.quant_conv(encoder.conv_out(silu(encoder.conv_norm_out(encoder.mid_block(x)))))
        return mx.split(moments, 2, axis=-1)[0]

    def features(self, latents: mx.array) -> mx.array:
        """The input of the linear layer, (B, H / 4, W / 4, C)."""
        decoder = self.vae.decoder
        x = decoder.mid_block(decoder.conv_in(self.vae.post_quant_conv(latents)))
        for block in decoder.up_blocks[:-3]:
            x = block(x)
        for resnet in decoder.up_blocks[-3].resnets:
            x = resnet(x)
        return silu(self.norm(x))

    def decode(self, latents: mx.array) -> mx.array:
        """Pictures (B, H, W, 3)."""
        y = self.to_pixels(self.features(latents))
        B, H, W, _ = y.shape
        return y.reshape(B, H, W, SIDE, SIDE, 3).transpose(0, 1, 3, 2, 4, 5).reshape(B, SIDE * H, SIDE * W, 3)

    def regress(self, first: NDArray[np.float16], pictures: NDArray[np.uint8]) -> None:
        """Set the linear layer to the best one for the other layers as they are."""
        features = []
        for start in range(0, len(first), 16):
            part = self.features(self.encode(mx.array(first[start : start + 16].astype(np.float32))))
            features.append(np.asarray(part).reshape(-1, part.shape[-1]))
        inputs = np.concatenate(features).astype(np.float64)
        N, H, W, _ = pictures.shape
        squares = to_model(pictures).reshape(N, H // SIDE, SIDE, W // SIDE, SIDE, 3).transpose(0, 1, 3, 2, 4, 5)
        self.to_pixels.weight, self.to_pixels.bias = ridge(inputs, squares.reshape(len(inputs), -1), 1e-3)


class InnerLayersObjective:
    """Reconstruction of pictures by the inner layers alone."""

    def __init__(self, recipe: InnerLayersRecipe, dataset: Dataset):
        self.recipe = recipe
        self.dataset = dataset
        old = load_vae(recipe.vae)
        if len(old.config.block_out_channels) < 3:
            raise UserError(f"Recipe: {recipe.vae} has less than three blocks, of which the outer two are left out.")
        if recipe.data.size % old.downscale:
            raise UserError(f"Recipe: 'data.size' must be a multiple of {old.downscale}, not {recipe.data.size}.")
        self.first = first_block(old, dataset)
        self.model = InnerAutoencoder(widened(old, recipe.latent_channels or old.config.latent_channels, recipe.seed))
        rows = np.linspace(0, len(dataset) - 1, min(REGRESSION_PICTURES, len(dataset))).astype(np.int64)
        self.model.regress(self.first[rows], dataset.pictures[rows])

    def batch(self, step: int) -> Batch:
        """The first block's output, the pictures, and noise for their latents."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.dataset.draw(rng, self.recipe.loop.batch_size)
        side = self.recipe.data.size // self.model.vae.downscale
        channels = self.model.vae.config.latent_channels
        noise = rng.standard_normal((len(rows), side, side, channels), np.float32)
        pictures = mx.array(to_model(self.dataset.pictures[rows]))
        return mx.array(self.first[rows].astype(np.float32)), pictures, mx.array(self.recipe.latent_noise * noise)

    def loss(self, first: mx.array, pictures: mx.array, noise: mx.array) -> mx.array:
        difference = self.model.decode(self.model.encode(first) + noise) - pictures
        return reconstruction_loss(difference, self.recipe.edge_weight, self.recipe.border_weight, self.recipe.scales)

    def sample(self, path: Path) -> None:
        """Sixteen pictures of the dataset above the linear layer's reconstructions."""
        rows = np.sort(self.dataset.draw(np.random.default_rng(self.recipe.seed), 16))
        decoded = self.model.decode(self.model.encode(mx.array(self.first[rows].astype(np.float32))))
        sheet(np.concatenate([self.dataset.pictures[rows], to_pixels(decoded)]), columns=16).save(path)


def first_block(vae: AutoencoderKL, dataset: Dataset) -> NDArray[np.float16]:
    """The output of the encoder's first block for all pictures, (N, H / 2, W / 2, C), computed once."""
    encoder, size = vae.encoder, dataset.data.size
    layers = {"conv_in": encoder.conv_in.parameters(), "block": encoder.down_blocks[0].parameters()}

    def fill(output: NDArray[np.float16]) -> None:
        with ops.inference():
            for start in tqdm(range(0, len(dataset), 16), desc="first block", disable=None):
                part = mx.array(to_model(dataset.pictures[start : start + 16]))
                output[start : start + 16] = np.asarray(encoder.down_blocks[0](encoder.conv_in(part)))

    shape = (len(dataset), size // 2, size // 2, vae.config.block_out_channels[0])
    key = [parameters_sha256(layers), dataset.identities, size]
    return cached_parts(dataset.cache, "first-block", key, shape, np.float16, fill)


def widened(old: AutoencoderKL, channels: int, seed: int) -> AutoencoderKL:
    """The autoencoder with more latent channels: the old ones as they were, the weights of new ones drawn at random.

    Raises UserError where that would be fewer.
    """
    before = old.config.latent_channels
    if channels < before:
        raise UserError(f"Recipe: 'latent_channels' must be {before} or more, not {channels}.")
    mx.random.seed(seed)
    new = create_model(dict(old.raw_config) | {"latent_channels": channels})
    if not (isinstance(new, AutoencoderKL) and "quant_conv" in new and "post_quant_conv" in new):
        raise UserError("Recipe: 'vae' must have use_quant_conv and use_post_quant_conv.")
    initialise(new)
    weights = {name: np.array(array) for name, array in flat(new.parameters()).items()}
    # Where the first half of a moments' axis are means and the second log-variances.
    moments = np.r_[:before, channels : channels + before]
    for name, array in flat(old.parameters()).items():
        new_weight, old_weight = weights[name], np.array(array.astype(mx.float32))
        if new_weight.shape == old_weight.shape:
            weights[name] = old_weight
        elif name == "encoder.conv_out.weight":
            # Twice as large, so that the decoder finds the new channels useful.
            new_weight[before:channels] *= 2
            new_weight[moments] = old_weight
        elif name == "quant_conv.weight":
            new_weight[np.ix_(moments, moments)] = old_weight
        elif name.endswith(("conv_out.bias", "quant_conv.bias")) and not name.startswith("post"):
            new_weight[moments] = old_weight
        elif name == "post_quant_conv.weight":
            new_weight[:before, :before] = old_weight
        else:
            # The biases of post_quant_conv, the weights of the decoder's first convolution.
            new_weight[..., :before] = old_weight
    new.load_weights([(name, mx.array(array)) for name, array in weights.items()])
    return new


def train_inner_layers(recipe: InnerLayersRecipe, options: Options) -> Path:
    """Train, standardise the latents, write the component's folder `output/vae` and return it."""
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    objective = InnerLayersObjective(recipe, dataset)
    settings = run_settings(recipe, dataset.sha256, {"the autoencoder": weights_sha256(recipe.vae)})
    fit(objective, recipe.loop, recipe.output, options.resume, settings, recipe.seed)
    vae = objective.model.vae
    standardise_over(vae, dataset, recipe.seed)
    folder = recipe.output / "vae"
    save_model(vae, folder)
    return folder
