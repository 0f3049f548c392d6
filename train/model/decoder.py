"""Training an autoencoder's decoder further; its latents stay the same, so a diffusion model over them stays valid.

The decoder learns from the latents of pictures, and from latents that a diffusion model draws of their captions: those
are its input when it is used, and it can learn to correct how they differ from the former.
"""

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from tqdm import tqdm

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import save_model
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.models import ops
from mlx_genmoji.samplers import History, Schedule, make_sampler

from ..data.cached import cached
from ..data.dataset import Dataset, to_model
from ..data.latents import dataset_latents
from ..fit.loop import fit
from ..fit.settings import run_settings
from ..fit.step import Batch
from ..noise import Floats
from ..options import Options
from ..sheets import sheet, to_pixels
from .autoencoder import ReconstructionRecipe, load_vae, reconstruction_loss

DRAWING_BATCH = 32
"""Captions that a model draws at the same time."""


@dataclass(frozen=True)
class DecoderRecipe(ReconstructionRecipe):
    """The recipe of a decoder."""

    model: Path | None = None
    """The folder of a diffusion model: the decoder also learns from its drawings of the dataset's captions, and the
    model is written again with this decoder."""
    drawn: float = 0.5
    """The share of drawings among the pictures; with 0 nothing is drawn."""
    kept: float = 0.0
    """The share of the old weights in the result: the mean of a network before and after fine-tuning is often better
    than either (Wortsman et al. 2021, https://arxiv.org/abs/2109.01903)."""

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
        config = self.model.config
        latents = dataset_latents(self.model, dataset, weights_sha256(recipe.vae))
        self.latents = latents / config.scaling_factor + (config.shift_factor or 0.0)
        self.model.freeze()
        self.model.decoder.unfreeze()
        self.drawn: Floats | None = None
        if recipe.model is not None and recipe.drawn:
            self.drawn = drawn_latents(recipe.model, dataset.captions, recipe.seed, dataset.cache)

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
        """Sixteen pictures of the dataset above the decoded latents: their own, and those drawn of their captions."""
        rows = np.sort(self.dataset.draw(np.random.default_rng(self.recipe.seed), 16))
        kinds = [self.latents] if self.drawn is None else [self.latents, self.drawn]
        decoded = [to_pixels(self.model.decode(mx.array(latents[rows]))) for latents in kinds]
        sheet(np.concatenate([self.dataset.pictures[rows], *decoded]), columns=16).save(path)


def drawn_latents(folder: Path, captions: Sequence[str], seed: int, cache: Path) -> Floats:
    """The latents that a model draws of each caption, by its own defaults, (N, h, w, c); computed once."""
    genmoji = Genmoji.load(folder)
    if len(genmoji.text.encoders) > 1:
        raise UserError(f"Recipe: {folder} has two text encoders; a decoder learns from models with one.")
    schedule = make_sampler(genmoji.scheduler).schedule(genmoji.defaults.steps)
    if schedule.stochastic:
        raise UserError(f"Recipe: the sampler of {folder} draws with new noise at each step, which is not supported.")
    model = [weights_sha256(folder / "unet", folder / "text_encoder"), dict(genmoji.unet.raw_config)]
    tokens = genmoji.text.tokenizers[0](captions).tolist()
    key = [model, tokens, dict(genmoji.scheduler), genmoji.defaults.steps, genmoji.defaults.guidance, seed]
    return cached(cache, "drawn", key, lambda: draw_all(genmoji, schedule, captions, seed))


def draw_all(genmoji: Genmoji, schedule: Schedule, captions: Sequence[str], seed: int) -> Floats:
    """The latents of captions, DRAWING_BATCH at a time, from noise of (seed, number of the batch's first caption)."""
    guidance = genmoji.defaults.guidance
    tokenizer, encoder = genmoji.text.tokenizers[0], genmoji.text.encoders[0]
    building = threading.Lock()

    def draw(start: int) -> Floats:
        ids = tokenizer(captions[start : start + DRAWING_BATCH])
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

    with ThreadPoolExecutor(2 if ops.on_cpu() else 1) as pool:
        parts = pool.map(draw, range(0, len(captions), DRAWING_BATCH))
        return np.concatenate(list(tqdm(parts, desc="drawing", disable=None)))


def train_decoder(recipe: DecoderRecipe, options: Options) -> Path:
    """Train, write the component's folder `output/vae` and return it; of a recipe with a model, the whole model's
    folder `output/model`, in half precision."""
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    objective = DecoderObjective(recipe, dataset)
    before = tree_map(mx.array, objective.model.decoder.parameters())
    inputs = {"the autoencoder": weights_sha256(recipe.vae), "the model": None}
    if recipe.model is not None and recipe.drawn:
        inputs["the model"] = weights_sha256(recipe.model / "unet", recipe.model / "text_encoder")
    settings = run_settings(recipe, dataset.sha256, inputs)
    fit(objective, recipe.loop, recipe.output, options.resume, settings, recipe.seed)
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
