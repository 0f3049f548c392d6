"""Giving a trained autoencoder one more resolution: pictures of twice the size, the same latents.

The layers of the small autoencoder are frozen, but for those of its highest resolution, so a diffusion model trained on
its latents can use the grown one too. New are the encoder's first layers, which learn the features that the small
encoder gives for the picture at half the size, and the decoder's last layers.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_genmoji.checkpoint.components import create_model, save_model
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.vae import AutoencoderKL

from ..data.dataset import Dataset, to_model
from ..fit.loop import fit
from ..fit.settings import run_settings
from ..fit.step import Batch, flat
from ..options import Options
from ..recipe import Recipe
from ..sheets import sheet, to_pixels
from .autoencoder import initialise, load_vae, reconstruction_loss


@dataclass(frozen=True)
class GrowthRecipe(Recipe):
    """The recipe of a grown autoencoder; `data.size` is the new size."""

    grow_from: Path = Path()
    """The folder of the small autoencoder."""
    config: dict[str, Any] = field(default_factory=dict)
    """The `config.json` of the grown one: the small one's with a block more at the front of each list."""
    edge_weight: float = 1.0
    """See the small one's recipe."""
    latent_noise: float = 0.0
    """See `ReconstructionRecipe`."""


class GrowthObjective:
    """Reconstruction of large pictures from the latents of small ones, and agreement of the encoders."""

    def __init__(self, recipe: GrowthRecipe, small: AutoencoderKL, large: Dataset, half: Dataset):
        self.recipe = recipe
        self.small = small
        self.large, self.half = large, half
        mx.random.seed(recipe.seed)
        model = create_model(recipe.config)
        if not isinstance(model, AutoencoderKL) or model.downscale != 2 * small.downscale:
            raise UserError("Recipe: 'config' must be an AutoencoderKL with one block more than that of 'grow_from'.")
        if recipe.data.size % model.downscale:
            raise UserError(f"Recipe: 'data.size' must be a multiple of {model.downscale}, not {recipe.data.size}.")
        self.model = model
        initialise(model)
        grow(model, small)

    def batch(self, step: int) -> Batch:
        """Pictures, the same at half the size, and noise for their latents."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.large.draw(rng, self.recipe.loop.batch_size)
        side = self.recipe.data.size // self.model.downscale
        noise = rng.standard_normal((len(rows), side, side, self.model.config.latent_channels), np.float32)
        pictures = (np.stack([dataset.pictures[row] for row in rows]) for dataset in (self.large, self.half))
        return *(mx.array(to_model(batch)) for batch in pictures), mx.array(self.recipe.latent_noise * noise)

    def loss(self, large: mx.array, half: mx.array, noise: mx.array) -> mx.array:
        small, grown = self.small.encoder, self.model.encoder
        expected = small.down_blocks[0](small.conv_in(half))
        features = grown.down_blocks[1](grown.down_blocks[0](grown.conv_in(large)))
        disagreement = (features - expected).square().mean() / expected.square().mean()
        latents, _ = self.small.encode(half)
        return disagreement + reconstruction_loss(self.model.decode(latents + noise) - large, self.recipe.edge_weight)

    def sample(self, path: Path) -> None:
        """Eight pictures of the dataset above their reconstructions, encoded and decoded by the grown autoencoder."""
        rows = np.sort(self.large.draw(np.random.default_rng(self.recipe.seed), 8))
        pictures = self.large.pictures[rows]
        decoded = self.model.decode(self.model.encode(mx.array(to_model(pictures)))[0])
        sheet(np.concatenate([pictures, to_pixels(decoded)]), columns=8).save(path)


def grow(model: AutoencoderKL, small: AutoencoderKL) -> None:
    """Copy and freeze the weights of `small`, but for layers that differ in shape or take or give the picture."""
    weights = flat(model.parameters())
    copied = {}
    for name, array in flat(small.parameters()).items():
        # The encoder's blocks are counted from the picture, the decoder's from the latents.
        if place := re.match(r"encoder\.down_blocks\.(\d+)(.*)", name):
            name = f"encoder.down_blocks.{int(place[1]) + 1}{place[2]}"
        if name in weights and weights[name].shape == array.shape and not name.startswith("encoder.conv_in"):
            copied[name] = array
    model.load_weights(list(copied.items()), strict=False)

    # The small one's last decoder block stays trainable: its output now goes into another block.
    last = f"decoder.up_blocks.{len(small.decoder.up_blocks) - 1}."
    for name, module in model.named_modules():
        for kind in ("weight", "bias"):
            path = f"{name}.{kind}"
            if path in copied and not path.startswith(last):
                module.freeze(recurse=False, keys=kind)


def train_growth(recipe: GrowthRecipe, options: Options) -> Path:
    """Train, write the grown component's folder `output/vae` and return it."""
    small = load_vae(recipe.grow_from)
    cache = recipe.output.parent / "cache"
    large = Dataset(recipe.data, cache)
    half = Dataset(replace(recipe.data, size=recipe.data.size // 2), cache)
    objective = GrowthObjective(recipe, small, large, half)
    settings = run_settings(recipe, large.sha256, {"the small autoencoder": weights_sha256(recipe.grow_from)})
    fit(objective, recipe.loop, recipe.output, options.resume, settings, recipe.seed)
    folder = recipe.output / "vae"
    save_model(objective.model, folder)
    return folder
