"""Teaching an autoencoder's decoder more, its latents untouched: what a diffusion model learned of them stays true.

The decoder learns from the latents of pictures, and from those that a diffusion model draws of their captions: these
are what it will be given, and they differ from the former in ways that it can learn to see past.
"""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from numpy.typing import NDArray
from tqdm import tqdm

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.ops import on_cpu
from mlx_genmoji.samplers import History, make_sampler

from ..data.dataset import Dataset, to_model
from ..fit.loop import fit
from ..fit.step import Batch
from .autoencoder import ReconstructionRecipe, cached_latents, load_vae, reconstruction_loss, sheet, to_pixels


@dataclass(frozen=True)
class DecoderRecipe(ReconstructionRecipe):
    """What a decoder needs beside the loop."""

    model: Path | None = None
    """The folder of the diffusion model whose drawings are learned from too, captions as it was trained on; it is
    written again with this decoder."""
    drawn: float = 0.5
    """The share of them; with 0 nothing is drawn."""
    kept: float = 0.0
    """How much of the decoder's weights as they were is in those that are written: the mean of a network before and
    after fine-tuning is often better than either (Wortsman et al. 2021, https://arxiv.org/abs/2109.01903)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.kept < 1:
            raise UserError(f"Recipe: kept is {self.kept:g}, it must be from 0 to below 1.")


class DecoderObjective:
    """Reconstruction of pictures from their latents, which were computed once."""

    def __init__(self, recipe: DecoderRecipe, dataset: Dataset):
        self.recipe = recipe
        self.dataset = dataset
        self.model = load_vae(recipe.vae)
        self.latents = cached_latents(self.model, recipe.vae, dataset.pictures, recipe.output.parent / "cache")
        self.model.freeze()
        self.model.decoder.unfreeze()
        self.drawn: NDArray[np.float32] | None = None
        if recipe.model is not None and recipe.drawn:
            self.drawn = drawn_latents(recipe.model, dataset.captions, recipe.seed, recipe.output / "drawn.npy")

    def batch(self, step: int) -> Batch:
        """Pictures and their latents, with noise."""
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.dataset.draw(rng, self.recipe.loop.batch_size)
        latents = self.latents[rows]
        if self.drawn is not None:
            drawn = rng.random(len(rows)) < self.recipe.drawn
            latents = np.where(drawn[:, None, None, None], self.drawn[rows], latents)
        noise = self.recipe.latent_noise * rng.standard_normal(latents.shape, np.float32)
        return mx.array(to_model(self.dataset.pictures[rows])), mx.array(latents + noise)

    def loss(self, pictures: mx.array, latents: mx.array) -> mx.array:
        difference = self.model.decode(latents) - pictures
        return reconstruction_loss(difference, self.recipe.edge_weight, self.recipe.border_weight, self.recipe.scales)

    def sample(self, path: Path) -> None:
        """Sixteen pictures of the dataset above what is made of their latents, and of those drawn."""
        rows = np.sort(self.dataset.draw(np.random.default_rng(self.recipe.seed), 16))
        kinds = [self.latents] if self.drawn is None else [self.latents, self.drawn]
        decoded = [to_pixels(self.model.decode(mx.array(latents[rows]))) for latents in kinds]
        sheet(np.concatenate([self.dataset.pictures[rows], *decoded]), columns=16).save(path)


def drawn_latents(
    folder: Path, captions: list[str], seed: int, path: Path, batch_size: int = 32
) -> NDArray[np.float32]:
    """The latents that a model draws of each caption, by its own defaults, (N, h, w, c); kept in the file `path`."""
    if path.exists():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    genmoji = Genmoji.load(folder)
    if len(genmoji.text.encoders) > 1:
        raise UserError(f"Recipe: {folder} has two text encoders, and drawings are learned from with one only.")
    schedule = make_sampler(genmoji.scheduler).schedule(genmoji.defaults.steps)
    if schedule.stochastic:
        raise UserError(f"Recipe: the sampler of {folder} draws with new noise at each step, which is not supported.")
    guidance = genmoji.defaults.guidance
    tokenizer, encoder = genmoji.text.tokenizers[0], genmoji.text.encoders[0]
    building = threading.Lock()

    def draw(start: int) -> NDArray[np.float32]:
        ids = tokenizer(captions[start : start + batch_size])
        noise = np.random.default_rng((seed, start)).standard_normal((len(ids), *genmoji.latents_shape), np.float32)
        with building:
            text = encoder(mx.array(ids)).last_hidden_state
            empty = encoder(mx.array(tokenizer([""] * len(ids)))).last_hidden_state
            x = mx.array(noise) * schedule.init_noise_sigma
        mx.eval(text, empty, x)
        history: History = ()
        for i, timestep in enumerate(schedule.timesteps):
            with building:
                scaled, timesteps = schedule.scale_model_input(x, i), mx.full((len(ids),), timestep)
                output = genmoji.unet(scaled, timesteps, text)
                if guidance > 1:
                    without = genmoji.unet(scaled, timesteps, empty)
                    output = without + guidance * (output - without)
                x, history = schedule.step(output, i, x, history)
            mx.eval(x, history)
        return np.asarray(x)

    with ThreadPoolExecutor(2 if on_cpu() else 1) as pool:
        parts = list(tqdm(pool.map(draw, range(0, len(captions), batch_size)), desc="drawing", disable=None))
    latents = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, latents)
    os.replace(partial, path)
    return latents


def train_decoder(recipe: DecoderRecipe, resume: bool) -> Path:
    """Train, write the component's folder `output/vae` and return it; of a recipe with a model, the whole model's
    folder `output/model`, in half precision."""
    objective = DecoderObjective(recipe, Dataset(recipe.data, recipe.output.parent / "cache"))
    before = tree_map(mx.array, objective.model.decoder.parameters())
    fit(objective, recipe.loop, recipe.output, resume)
    after = objective.model.decoder.parameters()
    objective.model.decoder.update(tree_map(lambda old, new: new + recipe.kept * (old - new), before, after))
    if recipe.model is None:
        folder = recipe.output / "vae"
        save_model(objective.model, folder)
        return folder
    folder = recipe.output / "model"
    shutil.copytree(recipe.model, folder, dirs_exist_ok=True)
    save_model(objective.model, folder / "vae", mx.float16)
    return folder
