"""Fine-tuning any model that draws with a low-rank adapter, the model's own weights, dense or quantized, frozen.

    base model -> latents and text embeddings, once -> adapter attached -> fit -> adapter.safetensors

`output` holds, beside what every run leaves there: `adapter.safetensors` (kohya's spelling, which ComfyUI, A1111, Draw
Things and diffusers read), `adapters/` (those of the kept checkpoints and the best by validation, each with what it
draws), `choose.png` (these drawings below one another) and `curve.png`.
"""

import gc
import shutil
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.components import create_model
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.families.clip_text import TextTowers
from mlx_genmoji.families.stable_diffusion import StableDiffusion
from mlx_genmoji.lora import LoRAConfig, adapter_of, attach, attach_adapter, dense_weights, load_adapter, save_adapter
from mlx_genmoji.lora.layer_tree import Models
from mlx_genmoji.models.checkpointing import checkpoint_blocks
from mlx_genmoji.prompt.safety import check_safe, clean_final
from mlx_genmoji.quantization import CONFIG_KEY, MODES, Quantization, packable
from mlx_genmoji.samplers import NoiseConfig, add_noise, alphas_cumprod, training_target
from quantize.fuse import fuse

from ..data.cached import dataset_latents
from ..data.captions import tidy, variants
from ..data.dataset import Dataset
from ..fit.checkpoints import CHECKPOINTS, Checkpoints, write_whole
from ..fit.distributed import World
from ..fit.loop import fit
from ..fit.machine import memory_limit
from ..fit.step import Batch
from ..model.autoencoder import sheet
from ..noise import loss_weights, offset_noise, sample_rng, shifted
from ..recipe import Data, Recipe, check_seed
from .kept import AdapterFollower
from .memory import check_memory, measure
from .texts import FrozenTexts, Told, TrainedTexts
from .validation import SEED, Validation, band_timestep, held_out

ADAPTER = "adapter.safetensors"
DENSE_ADAPTER = "adapter-for-dense.safetensors"
"""Where an adapter repairs the rounding of its base first: the same for the base that needs no repair."""
MODEL = "model"


@dataclass(frozen=True)
class LoRARecipe(Recipe):
    """What an adapter needs beside the loop."""

    base: str | None = None
    """The model: a folder, or an id of the Hugging Face hub; without it, the built-in one."""
    bits: int | None = None
    """Of the base's weights, quantized before the training; without it, as they are."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    start_from: Path | None = None
    """An adapter to go on from; rank, alpha and targets are then its own."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass: half the memory or less, a third more time."""
    caption_dropout: float = 0.05
    """Share of captions replaced by the empty one, which guidance needs."""
    min_snr_gamma: float = 0.0
    """Above 0, timesteps of little noise count for less; 5 is usual."""
    noise_offset: float = 0.0
    """How much of the noise is one number for each channel; 0.05 helps with very dark and very bright pictures."""
    timestep_shift: float = 1.0
    """Above 1, noisy timesteps are drawn more often: their median is shift / (1 + shift) of the schedule."""
    validation: Validation = field(default_factory=Validation)
    sample_prompts: tuple[str, ...] = ()
    """Captions of the sample sheets."""
    sample_seed: int = 0
    cache: Path | None = None
    """Where latents and what is told of captions are kept; without it, `cache` beside `output`."""
    fuse_bits: int | None = None
    """Afterwards, also the whole model with the adapter in its weights, in so many bits: the folder `output/model`."""
    skin_tone: str | None = None
    """What the adapter is for, which is written into its file."""
    person_type: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed("sample_seed", self.sample_seed)
        prompts = tuple(clean_final(prompt) for prompt in self.sample_prompts)
        if not all(prompts):
            raise UserError("Recipe: one of 'sample_prompts' is empty.")
        for name in ("bits", "fuse_bits"):
            if (bits := getattr(self, name)) is not None and bits not in MODES["affine"][0]:
                known = ", ".join(map(str, sorted(MODES["affine"][0])))
                raise UserError(f"Recipe: {name!r} must be one of {known}, not {bits}.")
        for prompt in prompts:
            check_safe(prompt)
        object.__setattr__(self, "sample_prompts", prompts)
        for name, low, high in (
            ("caption_dropout", 0, 1),
            ("min_snr_gamma", 0, 1000),
            ("noise_offset", 0, 1),
            ("timestep_shift", 0.01, 100),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"Recipe: {name!r} must be from {low} to {high}, not {getattr(self, name)}.")


class Trained(nn.Module):
    """The parts of a model that an adapter changes, by their names, as one tree of parameters."""

    def __init__(self, models: Mapping[str, nn.Module]):
        super().__init__()
        for name, model in models.items():
            self[name] = model


class Sample(NamedTuple):
    """What is drawn for one picture of a batch."""

    row: int
    caption: str
    timestep: int
    noise: NDArray[np.float32]
    """(h, w, c)."""


class LoRAObjective:
    """The mean squared error of what the base's scheduler says that it predicts (Ho et al., 2020)."""

    def __init__(self, recipe: LoRARecipe, genmoji: Genmoji, dataset: Dataset):
        """`genmoji`: the base. The adapter is attached to it; what is not needed any more is left to be freed."""
        check_base(genmoji)
        if recipe.fuse_bits is not None:
            check_packable(genmoji.models, recipe.fuse_bits, "Recipe: 'fuse_bits'")
        side = recipe.data.size
        if side % genmoji.vae.downscale:
            raise UserError(f"Recipe: 'data.size' must be a multiple of {genmoji.vae.downscale}, not {side}.")
        self.recipe = recipe
        self.dataset = dataset
        self.size = side, side
        self.base = {"base_model": genmoji.name, "base_sha256": str(genmoji.sha256)}
        self.dtype = genmoji.unet.conv_norm_out.weight.dtype
        self.signal = alphas_cumprod(genmoji.scheduler)
        self.prediction_type = NoiseConfig.read(genmoji.scheduler).prediction_type
        assert genmoji.folder is not None
        self.latents = dataset_latents(genmoji.vae, dataset.whole, weights_sha256(genmoji.folder / "vae"))
        every = [variants(recipe.data, row, number) for number, (_, row) in enumerate(dataset.whole.rows)]
        self.captions = [every[place] for place in dataset.places]
        self.validation_rows = held_out(dataset.hashes, recipe.validation.pictures)
        weights = np.array(dataset.weights)
        weights[self.validation_rows] = 0
        # Rounding must not leave the last of them below 1.
        self.cumulative = np.cumsum(weights) / np.cumsum(weights)[-1]

        self.layers = attach_to(genmoji, recipe)
        self.texts: FrozenTexts | TrainedTexts
        text: TextTowers
        if any(path.startswith("text_encoder") for path in self.layers):
            self.models = genmoji.models
            self.texts, text = TrainedTexts(genmoji.text), genmoji.text
        else:
            self.models = {"unet": genmoji.unet}
            told = {*dataset.whole.captions, *(text for own in every for text in own)}
            towers = [genmoji.folder / name for name in genmoji.models if name != "unet"]
            key = [weights_sha256(*towers), recipe.bits]
            self.texts = FrozenTexts(genmoji.text, sorted(told), dataset.cache, key, recipe.sample_prompts)
            text = Told(self.texts)
        self.model = Trained(self.models)
        self.model.eval()
        checkpoint_blocks(self.model, recipe.checkpointing)
        self.painter = Genmoji(
            StableDiffusion(unet=genmoji.unet, text=text, vae=genmoji.vae, scheduler=genmoji.scheduler),
            defaults=genmoji.defaults,
            name=genmoji.name,
        )
        self.world = World()

    def batch(self, step: int) -> Batch:
        """Noisy latents, timesteps, what is to be predicted, weights, what is told of the captions."""
        count, (rank, machines) = self.recipe.loop.batch_size, (self.world.rank, self.world.size)
        samples = [self._draw(step, index, count * machines) for index in range(rank * count, (rank + 1) * count)]
        return self.arrays(samples, self.recipe.min_snr_gamma)

    def _draw(self, step: int, index: int, count: int) -> Sample:
        """Sample `index` of the `count` of a step."""
        recipe, rng = self.recipe, sample_rng(self.recipe.seed, step, index)
        row = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        caption = self.captions[row][rng.integers(len(self.captions[row]))]
        if rng.random() < recipe.caption_dropout:
            caption = ""
        # One timestep from each of `count` equal parts of the schedule: the same distribution with less variance.
        share = shifted((index + rng.random()) / count, recipe.timestep_shift)
        noise = offset_noise(rng, self.latents.shape[1:], recipe.noise_offset)
        return Sample(row, caption, int(share * len(self.signal)), noise)

    def arrays(self, samples: Sequence[Sample], min_snr_gamma: float = 0.0) -> Batch:
        """The arrays of a batch; see `batch`."""
        timesteps = np.array([sample.timestep for sample in samples])
        clean = mx.array(self.latents[self.dataset.places[[sample.row for sample in samples]]])
        noise = mx.array(np.stack([sample.noise for sample in samples]))
        signal = mx.array(self.signal[timesteps])
        target = training_target(self.prediction_type, clean, noise, signal)
        weights = loss_weights(self.signal[timesteps], self.prediction_type, min_snr_gamma)
        told = self.texts.rows([sample.caption for sample in samples])
        return add_noise(clean, noise, signal), mx.array(timesteps), target, mx.array(weights), *told

    def loss(
        self, noisy: mx.array, timesteps: mx.array, target: mx.array, weights: mx.array, *told: mx.array
    ) -> mx.array:
        conditions = self.texts.conditions(self.model, self.size, told)
        states = conditions.states.astype(self.dtype)
        added = {name: value.astype(self.dtype) for name, value in conditions.added.items()}
        prediction = self.model.unet(noisy.astype(self.dtype), timesteps, states, added)
        errors = (prediction.astype(mx.float32) - target).square().mean((1, 2, 3))
        return (weights * errors).mean()

    def validate(self) -> list[float]:
        """The loss of the held-out pictures in each band of timesteps, from the least noisy."""
        bands, rows = self.recipe.validation.bands, self.validation_rows
        loop = self.recipe.loop
        # No more at the same time than in training.
        part_size = loop.batch_size // loop.parts
        losses = []
        for band in range(bands):
            samples = []
            for place, row in enumerate(rows.tolist()):
                timestep = band_timestep(band, bands, (place + 0.5) / len(rows), len(self.signal))
                noise = np.random.default_rng((SEED, band, place)).standard_normal(self.latents.shape[1:], np.float32)
                samples.append(Sample(row, self.dataset.captions[row], timestep, noise))
            total = 0.0
            for part in np.array_split(np.arange(len(samples)), -(-len(samples) // part_size)):
                total += len(part) * np.asarray(self.loss(*self.arrays([samples[i] for i in part]))).item()
            losses.append(total / len(samples))
        return losses

    def paint(self, prompts: Sequence[str]) -> NDArray[np.uint8]:
        """What the model draws of captions, (N, H, W, 3)."""
        drawn = [self.painter.generate(text, seed=self.recipe.sample_seed, template="{prompt}") for text in prompts]
        return np.stack([np.asarray(stickers[0].image) for stickers in drawn])

    def sample(self, path: Path) -> None:
        """One sticker for each sample prompt."""
        if self.recipe.sample_prompts:
            sheet(self.paint(self.recipe.sample_prompts), columns=8).save(path)

    def save(self, path: Path, steps: int, for_dense: bool = False) -> None:
        """Write the adapter as it is now; `for_dense`, without what it makes up for on a quantized base."""
        recipe = self.recipe
        facts = {
            **self.base,
            "base_bits": None if for_dense else recipe.bits,
            "init": "zero" if for_dense else recipe.lora.init,
            "skin_tone": recipe.skin_tone,
            "person_type": recipe.person_type,
            "template": prompt_template(recipe.data),
            "dataset_sha256": self.dataset.sha256,
            "step": steps,
            "seed": recipe.seed,
        }
        adapter = adapter_of(self.models, for_dense)
        said = {**adapter.metadata} | {name: str(value) for name, value in facts.items() if value is not None}
        write_whole(path, lambda partial: save_adapter(replace(adapter, metadata=said), partial))


def train_lora(recipe: LoRARecipe, resume: bool, whole: Dataset | None = None) -> Path:
    """Train, write the file `output/adapter.safetensors` (and what the recipe wants fused), and return it.

    whole: the dataset that the recipe's is a part of, where there are several such runs.
    """
    # Of one run after another, no more than one base is in memory.
    gc.collect()
    mx.clear_cache()
    objective = LoRAObjective(recipe, load_base(recipe), open_dataset(recipe, whole))
    # What has begun has fitted.
    if not Checkpoints(recipe.output / CHECKPOINTS, recipe.loop.keep).paths:
        limit = memory_limit()
        check_memory(recipe, measure(objective, recipe.loop, limit), limit)
    fit(objective, recipe.loop, recipe.output, resume, recipe.seed, AdapterFollower(objective))
    path = recipe.output / ADAPTER
    if objective.world.writes:
        objective.save(path, recipe.loop.steps)
        if recipe.fuse_bits is not None:
            fused = path
            if recipe.lora.init == "loftq":
                fused = recipe.output / DENSE_ADAPTER
                objective.save(fused, recipe.loop.steps, for_dense=True)
            fuse_into(recipe, fused, recipe.fuse_bits, recipe.output / MODEL)
    objective.world.wait()
    return path


def fuse_into(recipe: LoRARecipe, adapter: Path, bits: int, folder: Path) -> float:
    """Write the model with the adapter in its weights, in place of one that a run before left.

    Returns how much of the adapter's change is left in so many bits, a cosine, which is said too; 1 where it is all in
    layers that stay dense.
    """
    shutil.rmtree(folder, ignore_errors=True)
    kept = fuse(recipe.base, [adapter], folder, bits=bits, lossy=True)
    if kept is None:
        return 1.0
    told = f"in {bits} bits the change of the weights has a cosine of {kept.cosine:.2f} to what was learned."
    warnings.warn(told, stacklevel=2)
    return kept.cosine


def check_packable(models: Models, bits: int, asked: str) -> None:
    """Raise UserError where a model with the adapter in its weights could not be written in so many bits.

    asked: what of the recipe or the command asks for it.
    """
    for name, model in models.items():
        own = Quantization(bits) if name == "unet" else Quantization(bits).for_text
        # Its weights are never computed.
        dense = create_model({key: value for key, value in model.raw_config.items() if key != CONFIG_KEY})
        if not any(own.fits(layer.weight) for _, layer in packable(dense)):
            raise UserError(
                f"{asked} asks for a packed model, and nothing of the {name} can be packed in groups of"
                f" {own.group_size} weights: leave it out."
            )


def open_dataset(recipe: LoRARecipe, whole: Dataset | None = None) -> Dataset:
    """The rows that the recipe asks for."""
    return Dataset(recipe.data, recipe.cache or recipe.output.parent / "cache", whole)


def load_base(recipe: LoRARecipe) -> Genmoji:
    """The model that is fine-tuned, quantized where the recipe asks for it."""
    return Genmoji.load(recipe.base, bits=recipe.bits)


def check_base(genmoji: Genmoji) -> None:
    """Raises UserError for a model of another kind than those whose training this is."""
    unet, vae = genmoji.unet.config, genmoji.vae.config
    if unet.in_channels != vae.latent_channels:
        raise UserError(
            f"{genmoji.name} is an inpainting model, which sees a picture beside the noise: train on its base model."
        )
    if unet.time_cond_proj_dim is not None:
        raise UserError(
            f"{genmoji.name} is a latent consistency model, which this training would undo: train on the model that it"
            " was distilled from."
        )


def attach_to(genmoji: Genmoji, recipe: LoRARecipe) -> list[str]:
    """Give the base an adapter to train, a new one or that of `start_from`; the paths of the layers that it changes."""
    if recipe.start_from is None:
        assert genmoji.folder is not None
        if recipe.lora.init == "loftq" and recipe.bits is None:
            raise UserError("Recipe: 'lora.init' is loftq, which repairs rounding: give a dense 'base' and 'bits'.")
        dense = dense_weights(genmoji.folder) if recipe.lora.init == "loftq" else None
        return attach(genmoji.models, recipe.lora, recipe.seed, dense)
    adapter = load_adapter(recipe.start_from)
    if recipe.fuse_bits is not None and adapter.metadata.get("init") == "loftq":
        raise UserError(
            f"{recipe.start_from} repairs the rounding of a quantized model, which is no part of what 'fuse_bits' fuses"
            " it into: leave it out."
        )
    base = adapter.metadata.get("base_sha256")
    if base not in (None, genmoji.sha256, genmoji.dense_sha256):
        raise UserError(
            f"{recipe.start_from} is an adapter for other weights, those of {adapter.metadata.get('base_model')}: give"
            " these as 'base', or start without 'start_from'."
        )
    return attach_adapter(genmoji.models, adapter, recipe.lora.dropout)


def prompt_template(data: Data) -> str | None:
    """The caption template as one for prompts: "{text}, {tags}, flat" -> "{prompt}, flat"; None where there is none."""
    styles = set(data.styles.values())
    fields = defaultdict(str, text="{prompt}", label="{prompt}", style=styles.pop() if len(styles) == 1 else "")
    template = tidy(data.caption.format_map(fields))
    return template if "{prompt}" in template else None
