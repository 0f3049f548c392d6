"""Training the UNet and the text encoder of a diffusion model, over latents and captions computed once.

The result is a diffusers folder: UNet, text encoder, the autoencoder it was trained over, tokenizer, scheduler.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.checkpoint.defaults import DEFAULTS_FILE, Defaults
from mlx_genmoji.errors import UserError
from mlx_genmoji.families.clip_text import TextTowers
from mlx_genmoji.families.stable_diffusion import StableDiffusion
from mlx_genmoji.files import write_json
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL
from mlx_genmoji.pipeline import Genmoji
from mlx_genmoji.prompt.words import FILE as WORDS_FILE
from mlx_genmoji.samplers import NoiseConfig, add_noise, alphas_cumprod, make_sampler, training_target
from mlx_genmoji.tokenizer import CLIPTokenizer

from ..data.dataset import Dataset
from ..fit.loop import fit
from ..fit.step import Batch, flat
from ..recipe import Loop, Recipe
from .autoencoder import cached_latents, load_vae, sheet
from .text_side import TextObjective, TextRegressor
from .vocabulary import train_clip_vocabulary

# From this many captions the linear layer over a trained text encoder is solved for.
SOLVED = 16_384


@dataclass(frozen=True)
class DiffusionRecipe(Recipe):
    """What a diffusion model needs beside the loop."""

    vae: Path = Path()
    """The folder of the trained autoencoder."""
    start_from: Path | None = None
    """The folder of a model of this kind to go on from: its UNet, text encoder and tokenizer. Those of the recipe are
    then not needed."""
    unet: dict[str, Any] = field(default_factory=dict)
    """The `config.json` of the UNet; `in_channels` and `out_channels` are the autoencoder's."""
    text_encoder: dict[str, Any] = field(default_factory=dict)
    """The `config.json` of the text encoder; `vocab_size` and the special ids are the vocabulary's."""
    vocabulary: int = 2048
    """Most tokens of the vocabulary, which is learned from the captions."""
    scheduler: dict[str, Any] = field(default_factory=dict)
    """The `scheduler_config.json`: noise schedule, what is predicted, and how it is sampled."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """How the finished model is used: template, steps, guidance."""
    words: Path | None = None
    """Which other words mean those of the captions: the file that `genmoji scrape synonyms` writes beside its rows."""
    caption_dropout: float = 0.1
    """Share of captions replaced by the empty one, which guidance needs."""
    timestep_shift: float = 1.0
    """Above 1, noisy timesteps are drawn more often: their median is shift / (1 + shift) of the schedule."""
    sample_prompts: tuple[str, ...] = ()
    """Captions of the sample sheets."""
    text_loop: Loop | None = None
    """How the text side is fitted by itself before the rest; not at all where it is missing."""
    text_frozen: bool = False
    """Whether the text encoder then stays as it is, which saves a fifth of each step."""


class Denoiser(nn.Module):
    """What is trained: the UNet and the text encoder as one tree of parameters."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def __call__(self, latents: mx.array, timesteps: mx.array, text: mx.array) -> mx.array:
        """`text`: token ids (B, L), or what the text encoder says of them (B, L, D)."""
        states = text if text.ndim == 3 else self.text_encoder(text).last_hidden_state
        return self.unet(latents, timesteps, states)


class DiffusionObjective:
    """The mean squared error of the prediction that the scheduler's config names (Ho et al., 2020)."""

    def __init__(self, recipe: DiffusionRecipe, dataset: Dataset, model: Denoiser, vae: AutoencoderKL):
        self.recipe = recipe
        self.dataset = dataset
        self.model = model
        self.vae = vae
        self.tokenizer = CLIPTokenizer.load(recipe.output / "tokenizer")
        self.input_ids = self.tokenizer(dataset.captions)
        self.empty_ids = self.tokenizer([""])[0]
        self.states: NDArray[np.float32] | None = None
        cache = recipe.output.parent / "cache"
        self.latents = cached_latents(vae, recipe.vae, dataset.pictures, cache) * vae.config.scaling_factor
        self.signal = alphas_cumprod(recipe.scheduler)
        self.prediction_type = NoiseConfig.read(recipe.scheduler).prediction_type

    def freeze_text(self) -> None:
        """Leave the text encoder as it is: what it says of each caption, and of the empty one, is computed once."""
        self.model.text_encoder.freeze()
        ids = np.concatenate([self.input_ids, self.empty_ids[None]])
        states = []
        for part in np.array_split(ids, -(-len(ids) // 256)):
            states.append(np.asarray(self.model.text_encoder(mx.array(part)).last_hidden_state))
        self.states = np.concatenate(states)

    def batch(self, step: int) -> Batch:
        """Noisy latents, timesteps, token ids (or what the frozen encoder says of them), what is to be predicted."""
        count = self.recipe.loop.batch_size
        rng = np.random.default_rng((self.recipe.seed, step))
        rows = self.dataset.draw(rng, count)
        latents = self.latents[rows]
        # One timestep from each of `count` equal parts of the schedule: the same distribution with less variance.
        share = (np.arange(count) + rng.random(count)) / count
        # Esser et al. 2024, https://arxiv.org/abs/2403.03206, formula (23).
        shift = self.recipe.timestep_shift
        timesteps = (shift * share / (1 + (shift - 1) * share) * len(self.signal)).astype(np.int64)
        noise = mx.array(rng.standard_normal(latents.shape, np.float32))
        signal, clean = mx.array(self.signal[timesteps]), mx.array(latents)
        dropped = rng.random(count) < self.recipe.caption_dropout
        if self.states is None:
            text = np.where(dropped[:, None], self.empty_ids, self.input_ids[rows])
        else:
            text = self.states[np.where(dropped, len(self.dataset), rows)]
        target = training_target(self.prediction_type, clean, noise, signal)
        return add_noise(clean, noise, signal), mx.array(timesteps), mx.array(text), target

    def loss(self, noisy: mx.array, timesteps: mx.array, text: mx.array, target: mx.array) -> mx.array:
        return (self.model(noisy, timesteps, text) - target).square().mean()

    def sample(self, path: Path) -> None:
        """One sticker for each sample prompt."""
        genmoji = Genmoji(
            StableDiffusion(
                unet=self.model.unet,
                text=TextTowers([self.tokenizer], [self.model.text_encoder]),
                vae=self.vae,
                scheduler=self.recipe.scheduler,
            ),
            defaults=Defaults.read(self.recipe.defaults),
            name="in training",
        )
        prompts = self.recipe.sample_prompts
        if not prompts:
            return
        pictures = [
            np.asarray(genmoji.generate(p, seed=i, template="{prompt}")[0].image) for i, p in enumerate(prompts)
        ]
        sheet(np.stack(pictures), columns=8).save(path)


def train_diffusion(recipe: DiffusionRecipe, resume: bool) -> Path:
    """Train, and write the whole model's folder `output/model`, which is returned."""
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    vae = load_vae(recipe.vae)
    # What the finished folder will be asked for is checked before the training, not after.
    make_sampler(recipe.scheduler).schedule(Defaults.read(recipe.defaults).steps)
    if recipe.words is not None and not recipe.words.is_file():
        raise UserError(
            f"Recipe: there is no file {recipe.words}, which 'words' names; make it: genmoji scrape synonyms."
        )
    mx.random.seed(recipe.seed)
    if recipe.start_from:
        unet, text_encoder = _started(recipe.start_from, recipe.output)
        unet = widened(unet, vae.config.latent_channels)
    else:
        unet, text_encoder = _created(recipe, dataset, vae.config.latent_channels)

    objective = DiffusionObjective(recipe, dataset, Denoiser(unet, text_encoder), vae)
    if recipe.text_loop:
        latents = objective.latents
        regressor = TextRegressor(text_encoder, unet, latents[0].size)
        if recipe.start_from:
            rows = dataset.draw(np.random.default_rng(recipe.seed), SOLVED)
            regressor.solve(objective.input_ids[rows], latents[rows].reshape(len(rows), -1))
        text = TextObjective(
            regressor,
            dataset,
            objective.input_ids,
            latents,
            recipe.text_loop.batch_size,
            recipe.seed,
        )
        fit(text, recipe.text_loop, recipe.output / "text", resume)
    if recipe.text_frozen:
        objective.freeze_text()
    fit(objective, recipe.loop, recipe.output, resume)
    folder = recipe.output / "model"
    write_model(folder, recipe, unet, text_encoder, vae)
    return folder


def _started(folder: Path, output: Path) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """What a run goes on from, in float32, its tokenizer beside the run. Raises UserError where it is another kind."""
    unet, text_encoder = (load_model(folder / part) for part in ("unet", "text_encoder"))
    for model in (unet, text_encoder):
        # On a GPU they are loaded in half precision.
        model.set_dtype(mx.float32)
    if not isinstance(unet, UNet2DConditionModel) or not isinstance(text_encoder, CLIPTextModel):
        raise UserError(
            f"Recipe: 'start_from' must be a model with a UNet and a CLIP text encoder; {folder} is not one."
        )
    shutil.copytree(folder / "tokenizer", output / "tokenizer", dirs_exist_ok=True)
    return unet, text_encoder


def widened(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """The same for latents with more channels behind those it knows: at first it neither sees nor draws them.

    Raises UserError where that would be fewer.
    """
    before = unet.config.in_channels
    if channels == before:
        return unet
    if channels < before:
        raise UserError(
            f"Recipe: 'vae' has {channels} latent channels, the UNet of 'start_from' {before}, which is more."
        )
    new = create_model(dict(unet.raw_config) | {"in_channels": channels, "out_channels": channels})
    assert isinstance(new, UNet2DConditionModel)
    weights = flat(unet.parameters())
    more = channels - before
    weights["conv_in.weight"] = mx.pad(weights["conv_in.weight"], [(0, 0), (0, 0), (0, 0), (0, more)])
    weights["conv_out.weight"] = mx.pad(weights["conv_out.weight"], [(0, more), (0, 0), (0, 0), (0, 0)])
    weights["conv_out.bias"] = mx.pad(weights["conv_out.bias"], [(0, more)])
    new.load_weights(list(weights.items()))
    return new


def _created(recipe: DiffusionRecipe, dataset: Dataset, channels: int) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """New ones, and a vocabulary learned from the captions beside the run."""
    folder = recipe.output / "tokenizer"
    max_length = recipe.text_encoder.get("max_position_embeddings", 77)
    train_clip_vocabulary(sorted(set(dataset.captions)), recipe.vocabulary, folder, max_length)
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    unet = create_model(recipe.unet | {"in_channels": channels, "out_channels": channels})
    ids = {"bos_token_id": "<|startoftext|>", "eos_token_id": "<|endoftext|>", "pad_token_id": "<|endoftext|>"}
    text_encoder = create_model(
        recipe.text_encoder | {"vocab_size": len(vocabulary)} | {name: vocabulary[token] for name, token in ids.items()}
    )
    if not isinstance(unet, UNet2DConditionModel) or not isinstance(text_encoder, CLIPTextModel):
        raise UserError("Recipe: 'unet' must be a UNet2DConditionModel and 'text_encoder' a CLIPTextModel.")
    initialise(unet, text_encoder)
    return unet, text_encoder


def initialise(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    """Residual branches and the last convolution start at zero, embeddings small, as is usual for both kinds."""
    for name, module in unet.named_modules():
        if name.endswith(("conv2", "proj_out", "conv_out")):
            module.weight = mx.zeros_like(module.weight)
            module.bias = mx.zeros_like(module.bias)
    embeddings = text_encoder.text_model.embeddings
    for embedding, deviation in ((embeddings.token_embedding, 0.02), (embeddings.position_embedding, 0.01)):
        embedding.weight = deviation * mx.random.normal(embedding.weight.shape)
    mx.eval(unet.parameters(), text_encoder.parameters())


def write_model(
    folder: Path, recipe: DiffusionRecipe, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, vae: AutoencoderKL
) -> None:
    """The diffusers folder of a trained model, weights in half precision."""
    save_model(unet, folder / "unet", mx.float16)
    save_model(text_encoder, folder / "text_encoder", mx.float16)
    save_model(vae, folder / "vae", mx.float16)
    shutil.copytree(recipe.output / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", recipe.scheduler)
    write_json(folder / DEFAULTS_FILE, recipe.defaults)
    if recipe.words is not None:
        shutil.copyfile(recipe.words, folder / WORDS_FILE)
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", recipe.scheduler["_class_name"]],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
