"""The objective of a diffusion model, whether an adapter learns or a whole model: predict the noise of a noisy picture.

    samples (row, caption, timestep, noise) -> batch.py -> noisy latents, target, weights, texts -> UNet -> loss

The scheduler config names what the UNet predicts: epsilon, v or x0 (Ho et al., 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.errors import UserError
from mlx_genmoji.prompt.safety import check_safe, clean_final
from mlx_genmoji.samplers import NoiseConfig, alphas_cumprod

from .batch import Noise, Sample, draw_sample, noisy_arrays
from .data.captions import variants
from .data.dataset import Dataset
from .fit.distributed import World
from .fit.step import Batch
from .noise import Floats
from .recipe import Recipe
from .texts import Texts

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class DenoisingRecipe(Recipe):
    """How the batches of a diffusion model are drawn and weighed."""

    caption_dropout: float = 0.05
    """Share of captions replaced by the empty one, which guidance needs."""
    min_snr_gamma: float = 0.0
    """Above 0, timesteps of little noise count for less; 5 is usual."""
    noise_offset: float = 0.0
    """How much of the noise is one number for each channel; 0.05 helps with very dark and very bright pictures."""
    timestep_shift: float = 1.0
    """Above 1, noisy timesteps are drawn more often: their median is shift / (1 + shift) of the schedule."""
    sample_prompts: tuple[str, ...] = ()
    """Captions of the sample sheets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        prompts = tuple(clean_final(prompt) for prompt in self.sample_prompts)
        if not all(prompts):
            raise UserError("Recipe: one of 'sample_prompts' is empty.")
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
    """The parts of a model that are trained, by their names ("unet"), as one tree of parameters."""

    def __init__(self, models: Mapping[str, nn.Module]):
        super().__init__()
        for name, model in models.items():
            self[name] = model


class DenoisingObjective:
    """The weighted mean squared error of the UNet's prediction."""

    def __init__(
        self,
        recipe: DenoisingRecipe,
        dataset: Dataset,
        latents: Floats,
        model: Trained,
        texts: Texts,
        scheduler: Mapping[str, Any],
        held_out: Rows | None = None,
    ):
        """latents: those of `dataset.whole`, in its order. held_out: the rows of `dataset` that are never drawn."""
        self.recipe = recipe
        self.dataset = dataset
        self.latents = latents
        self.model = model
        self.texts = texts
        self.size = recipe.data.size, recipe.data.size
        self.dtype = model.unet.conv_norm_out.weight.dtype
        if str(scheduler.get("_class_name")).startswith("EDM"):
            raise UserError("The model was trained on sigmas (EDM): models of this form cannot be trained here.")
        self.signal = alphas_cumprod(scheduler)
        self.prediction_type = NoiseConfig.read(scheduler).prediction_type
        self.captions = training_captions(dataset)
        weights = np.array(dataset.weights)
        weights[held_out if held_out is not None else []] = 0
        # Rounding must not leave the last of them below 1.
        self.cumulative = np.cumsum(weights) / np.cumsum(weights)[-1]
        self.world = World()

    def batch(self, step: int) -> Batch:
        """Noisy latents, timesteps, target, weights, and what `texts` gives for the captions."""
        return self.arrays(self.samples(step), self.recipe.min_snr_gamma)

    def samples(self, step: int) -> list[Sample]:
        """This machine's samples of a step."""
        recipe, world = self.recipe, self.world
        count = recipe.loop.batch_size
        noise = Noise(recipe.timestep_shift, recipe.noise_offset, len(self.signal), self.latents.shape[1:])
        return [
            draw_sample(
                (recipe.seed, step, index),
                count * world.size,
                self.cumulative,
                self.captions,
                recipe.caption_dropout,
                noise,
            )
            for index in range(world.rank * count, (world.rank + 1) * count)
        ]

    def arrays(self, samples: list[Sample], min_snr_gamma: float = 0.0) -> Batch:
        """The arrays of a batch; see `batch`."""
        clean = self.latents[self.dataset.places[[sample.row for sample in samples]]]
        arrays = noisy_arrays(samples, clean, self.signal, self.prediction_type, min_snr_gamma)
        return *arrays, *self.texts.rows([sample.caption for sample in samples])

    def loss(
        self, noisy: mx.array, timesteps: mx.array, target: mx.array, weights: mx.array, *texts: mx.array
    ) -> mx.array:
        conditions = self.texts.conditions(self.model, self.size, texts)
        states = conditions.states.astype(self.dtype)
        added = {name: value.astype(self.dtype) for name, value in conditions.added.items()}
        prediction = self.model.unet(noisy.astype(self.dtype), timesteps, states, added)
        errors = (prediction.astype(mx.float32) - target).square().mean((1, 2, 3))
        return (weights * errors).mean()


def training_captions(dataset: Dataset) -> list[list[str]]:
    """For each row of `dataset`, the captions that it is trained with."""
    whole = [variants(dataset.data, row, number) for number, (_, row) in enumerate(dataset.whole.rows)]
    return [whole[place] for place in dataset.places]


def every_caption(dataset: Dataset) -> list[str]:
    """All captions that a run over `dataset`, or over a part of it, may ask for."""
    whole = dataset.whole
    return sorted({*whole.captions, *(text for texts in training_captions(whole) for text in texts)})
