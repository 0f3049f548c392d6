"""Teaching an autoencoder's decoder more, its latents untouched: what a diffusion model learned of them stays true."""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_genmoji.checkpoint import save_model

from .autoencoder import cached_latents, load_vae, reconstruction_loss, sheet, to_pixels
from .data import Dataset, to_model
from .loop import Batch, fit
from .recipe import Recipe


@dataclass(frozen=True)
class DecoderRecipe(Recipe):
    """What a decoder needs beside the loop."""

    vae: Path = Path()
    """The folder of the autoencoder to go on from; it is left as it is."""
    edge_weight: float = 1.0
    """See the autoencoder's recipe."""
    latent_noise: float = 0.0
    """Deviation of the noise that the decoder learns to see past: what diffusion makes is never quite a latent."""


class DecoderObjective:
    """Reconstruction of pictures from their latents, which were computed once."""

    def __init__(self, recipe: DecoderRecipe, dataset: Dataset):
        self.recipe = recipe
        self.dataset = dataset
        self.model = load_vae(recipe.vae)
        self.latents = cached_latents(self.model, recipe.vae, dataset.pictures, recipe.output.parent / "cache")
        self.model.freeze()
        self.model.decoder.unfreeze()

    def batch(self, step: int) -> Batch:
        """Pictures and their latents, with noise."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.dataset.draw(rng, self.recipe.loop.batch_size)
        latents = self.latents[rows]
        noise = self.recipe.latent_noise * rng.standard_normal(latents.shape, np.float32)
        return mx.array(to_model(self.dataset.pictures[rows])), mx.array(latents + noise)

    def loss(self, pictures: mx.array, latents: mx.array) -> mx.array:
        return reconstruction_loss(self.model.decode(latents) - pictures, self.recipe.edge_weight)

    def sample(self, path: Path) -> None:
        """Sixteen pictures of the dataset above their reconstructions."""
        rows = np.sort(self.dataset.draw(np.random.default_rng(self.recipe.seed), 16))
        decoded = to_pixels(self.model.decode(mx.array(self.latents[rows])))
        sheet(np.concatenate([self.dataset.pictures[rows], decoded]), columns=16).save(path)


def train_decoder(recipe: DecoderRecipe, resume: bool) -> Path:
    """Train, write the component's folder `output/vae` and return it."""
    objective = DecoderObjective(recipe, Dataset(recipe.data, recipe.output.parent / "cache"))
    fit(objective, recipe.loop, recipe.output, resume)
    folder = recipe.output / "vae"
    save_model(objective.model, folder)
    return folder
