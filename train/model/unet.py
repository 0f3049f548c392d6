"""Training the UNet and the text encoder of a diffusion model, over latents and texts computed once.

    created or loaded -> text side by itself (text_side.py) -> UNet (../denoising.py) -> output/model

The result is a diffusers folder: UNet, text encoder, the autoencoder of its latents, tokenizer, scheduler.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_genmoji.checkpoint import DEFAULTS_FILE, Defaults
from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.families.stable_diffusion import StableDiffusion, TextTowers
from mlx_genmoji.files import read_json, write_json
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL
from mlx_genmoji.pipeline import Genmoji
from mlx_genmoji.prompt.words import FILE as WORDS_FILE
from mlx_genmoji.reader.vocabulary import write_vocabulary
from mlx_genmoji.samplers import make_sampler
from mlx_genmoji.sticker import OUTLINES_FILE
from mlx_genmoji.tokenizer import CLIPTokenizer

from ..data.dataset import Dataset
from ..data.latents import dataset_latents
from ..denoising import DenoisingObjective, DenoisingRecipe, Trained, every_caption
from ..fit.loop import fit
from ..fit.settings import run_settings
from ..fit.step import flat
from ..noise import Floats
from ..options import Options
from ..recipe import Loop
from ..sheets import sheet
from ..texts import FrozenTexts, Texts, TrainedTexts
from .autoencoder import load_vae
from .text_side import TextObjective, TextRegressor
from .vocabulary import train_clip_vocabulary
from .weights import parameters_sha256

REGRESSION_CAPTIONS = 16_384
"""Captions that the linear layer over a trained text encoder is fitted to at first, by regression."""

TEXT_INDEPENDENT = (
    "loop.", "text_loop", "text_frozen", "caption_dropout", "min_snr_gamma", "noise_offset", "timestep_shift",
)  # fmt: skip
"""Settings of a recipe that its text side does not depend on."""


@dataclass(frozen=True)
class DiffusionRecipe(DenoisingRecipe):
    """The recipe of a whole diffusion model."""

    vae: Path = Path()
    """The folder of the trained autoencoder."""
    start_from: Path | None = None
    """The folder of a model of this kind to go on from. `unet`, `text_encoder` and `vocabulary` are then not needed."""
    unet: dict[str, Any] = field(default_factory=dict)
    """The `config.json` of the UNet; `in_channels` and `out_channels` are the autoencoder's."""
    text_encoder: dict[str, Any] = field(default_factory=dict)
    """The `config.json` of the text encoder; `vocab_size` and the special ids are the vocabulary's."""
    vocabulary: int = 2048
    """The largest number of tokens of the vocabulary, which is learned from the captions."""
    scheduler: dict[str, Any] = field(default_factory=dict)
    """The `scheduler_config.json`: noise schedule, prediction type, sampler."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """The `genmoji.json` of the finished model: template, steps, guidance."""
    words: Path | None = None
    """The file of synonyms that `genmoji scrape synonyms` writes, copied into the finished model."""
    outlines: Path | None = None
    """The file of pale emoji's outlines that `genmoji scrape outlines` writes, copied into the finished model."""
    closed: bool = False
    """Whether the finished model is given its training captions alone: its folder then declares them."""
    caption_dropout: float = 0.1
    """See `DenoisingRecipe`."""
    text_loop: Loop | None = None
    """How the text side is fitted by itself before the UNet; without it, it is not."""
    text_frozen: bool = False
    """Whether the text encoder is then frozen, which saves a fifth of each step."""


class Parts(NamedTuple):
    """The parts of the model that is trained."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer

    @property
    def text(self) -> TextTowers:
        """The text encoder with its tokenizer."""
        return TextTowers([self.tokenizer], [self.text_encoder])


class DiffusionObjective(DenoisingObjective):
    """The prediction of a UNet that is trained whole, with its text encoder or over a frozen one."""

    recipe: DiffusionRecipe

    def __init__(self, recipe: DiffusionRecipe, dataset: Dataset, latents: Floats, parts: Parts):
        texts: Texts = TrainedTexts(parts.text)
        models: dict[str, nn.Module] = {"unet": parts.unet, "text_encoder": parts.text_encoder}
        if recipe.text_frozen:
            vocabulary = (recipe.output / "tokenizer" / "merges.txt").read_text(encoding="utf-8")
            key = [parameters_sha256(parts.text_encoder.parameters()), vocabulary]
            texts = FrozenTexts(parts.text, every_caption(dataset), dataset.cache, key)
            models = {"unet": parts.unet}
        super().__init__(recipe, dataset, latents, Trained(models), texts, recipe.scheduler)
        self.parts = parts

    def sample(self, path: Path) -> None:
        """One sticker for each sample prompt."""
        prompts = self.recipe.sample_prompts
        if not prompts:
            return
        genmoji = Genmoji(
            StableDiffusion(
                unet=self.parts.unet,
                text=self.parts.text,
                vae=self.parts.vae,
                scheduler=self.recipe.scheduler,
            ),
            defaults=Defaults.read(self.recipe.defaults),
            name="in training",
        )
        pictures = [
            np.asarray(genmoji.generate(p, seed=i, template="{prompt}")[0].image) for i, p in enumerate(prompts)
        ]
        sheet(np.stack(pictures), columns=8).save(path)


def train_diffusion(recipe: DiffusionRecipe, options: Options) -> Path:
    """Train, and write the whole model's folder `output/model`, which is returned."""
    dataset = Dataset(recipe.data, recipe.output.parent / "cache")
    vae = load_vae(recipe.vae)
    _check_result(recipe)
    mx.random.seed(recipe.seed)
    if recipe.start_from:
        unet, text_encoder = _started(recipe.start_from, recipe.output)
        unet = widened(unet, vae.config.latent_channels)
    else:
        unet, text_encoder = _created(recipe, dataset, vae.config.latent_channels)
    parts = Parts(unet, text_encoder, vae, CLIPTokenizer.load(recipe.output / "tokenizer"))

    vae_key = weights_sha256(recipe.vae)
    latents = dataset_latents(vae, dataset, vae_key)
    settings = run_settings(recipe, dataset.sha256, {"the autoencoder": vae_key, "the start": _start_sha256(recipe)})
    if recipe.text_loop:
        fit_text_side(recipe, recipe.text_loop, dataset, latents, parts, settings, options)
    objective = DiffusionObjective(recipe, dataset, latents, parts)
    fit(objective, recipe.loop, recipe.output, options.resume, settings, recipe.seed)
    folder = recipe.output / "model"
    write_model(folder, recipe, parts)
    if recipe.closed:
        write_vocabulary(folder, [row for _, row in dataset.rows], recipe.data.styles)
    return folder


def _check_result(recipe: DiffusionRecipe) -> None:
    """Raise UserError, before the training, for a sampler, defaults or words that the result could not use."""
    make_sampler(recipe.scheduler).schedule(Defaults.read(recipe.defaults).steps)
    for key, path, maker in (("words", recipe.words, "synonyms"), ("outlines", recipe.outlines, "outlines")):
        if path is not None and not path.is_file():
            raise UserError(f"Recipe: there is no file {path}, which '{key}' names; make it: genmoji scrape {maker}.")


def _start_sha256(recipe: DiffusionRecipe) -> str | None:
    if recipe.start_from is None:
        return None
    return weights_sha256(*(recipe.start_from / part for part in ("unet", "text_encoder")))


def fit_text_side(
    recipe: DiffusionRecipe,
    loop: Loop,
    dataset: Dataset,
    latents: Floats,
    parts: Parts,
    settings: dict[str, Any],
    options: Options,
) -> None:
    """Fit the text side by itself, in the folder `output/text`, before the UNet is trained."""
    regressor = TextRegressor(parts.text_encoder, parts.unet, latents[0].size)
    input_ids = parts.tokenizer(dataset.captions)
    if recipe.start_from:
        rows = dataset.draw(np.random.default_rng(recipe.seed), REGRESSION_CAPTIONS)
        regressor.regress(input_ids[rows], latents[rows].reshape(len(rows), -1))
    objective = TextObjective(regressor, dataset, input_ids, latents, loop.batch_size, recipe.seed)
    # Only settings that the text side depends on: its own loop stands for the UNet's.
    kept = {name: value for name, value in settings.items() if not name.startswith(TEXT_INDEPENDENT)}
    kept |= {name.removeprefix("text_"): value for name, value in settings.items() if name.startswith("text_loop.")}
    fit(objective, loop, recipe.output / "text", options.resume, kept, recipe.seed)


def _started(folder: Path, output: Path) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The UNet and the text encoder of `start_from` in float32; its tokenizer is copied to the run's folder.

    Raises UserError for a model of another kind.
    """
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
    """The UNet for latents with more channels after the old ones; new weights are 0, so it ignores them at first.

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
    """A new UNet and text encoder; a vocabulary is learned from the captions and written to the run's folder."""
    folder = recipe.output / "tokenizer"
    max_length = recipe.text_encoder.get("max_position_embeddings", 77)
    train_clip_vocabulary(sorted(set(dataset.captions)), recipe.vocabulary, folder, max_length)
    vocabulary = read_json(folder / "vocab.json")
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


def write_model(folder: Path, recipe: DiffusionRecipe, parts: Parts) -> None:
    """Write the diffusers folder of a trained model, weights in half precision."""
    save_model(parts.unet, folder / "unet", mx.float16)
    save_model(parts.text_encoder, folder / "text_encoder", mx.float16)
    save_model(parts.vae, folder / "vae", mx.float16)
    shutil.copytree(recipe.output / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", recipe.scheduler)
    write_json(folder / DEFAULTS_FILE, recipe.defaults)
    if recipe.words is not None:
        shutil.copyfile(recipe.words, folder / WORDS_FILE)
    if recipe.outlines is not None:
        shutil.copyfile(recipe.outlines, folder / OUTLINES_FILE)
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
