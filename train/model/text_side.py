"""A warm start for the text side of a diffusion model: predict a picture's latents from its caption alone.

From pure noise the best prediction is the mean of the latents that have the caption, so a model must first learn to
tell captions apart. Through a UNet that takes most of its training. Here the text encoder and the UNet's embedding of
the whole text learn it under one linear layer, at a fifth of a step's cost, and the UNet starts with an embedding that
tells captions apart already. The linear layer is then dropped.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji.errors import UserError
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.ops import silu
from mlx_genmoji.models.unet import UNet2DConditionModel

from ..data.dataset import Dataset
from ..fit.step import Batch
from .regression import ridge


class TextRegressor(nn.Module):
    """Token ids (B, L) -> flattened latents (B, h * w * c)."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, outputs: int):
        """The layers are shared, not copied. Raises UserError where the UNet does not embed the whole text."""
        super().__init__()
        if "add_embedding" not in unet:
            raise UserError("Recipe: 'text_loop' needs a UNet whose 'addition_embed_type' is text.")
        self.text_encoder = text_encoder
        self.add_embedding = unet.add_embedding
        self.to_latents = nn.Linear(unet.add_embedding.proj.weight.shape[0], outputs)

    def __call__(self, input_ids: mx.array) -> mx.array:
        return self.to_latents(self._features(input_ids))

    def _features(self, input_ids: mx.array) -> mx.array:
        return silu(self.add_embedding(self.text_encoder(input_ids).last_hidden_state))

    def regress(self, input_ids: NDArray[Any], latents: NDArray[np.float32]) -> None:
        """Set the linear layer to the best one for a text side that is trained already."""
        parts = [
            np.asarray(self._features(mx.array(part))) for part in np.array_split(input_ids, -(-len(input_ids) // 256))
        ]
        features = np.concatenate(parts).astype(np.float64)
        penalty = float(1e-2 * (features - features.mean(0)).var())
        self.to_latents.weight, self.to_latents.bias = ridge(features, latents, penalty)


class TextObjective:
    """The mean squared error of the latents of a caption's picture."""

    def __init__(
        self,
        model: TextRegressor,
        dataset: Dataset,
        input_ids: NDArray[Any],
        latents: NDArray[np.float32],
        batch_size: int,
        seed: int,
    ):
        self.model = model
        self.dataset = dataset
        self.input_ids = input_ids
        self.latents = latents.reshape(len(latents), -1)
        self.batch_size = batch_size
        self.seed = seed

    def batch(self, step: int) -> Batch:
        """Token ids and flattened latents."""
        rows = self.dataset.draw(np.random.default_rng((self.seed, step)), self.batch_size)
        return mx.array(self.input_ids[rows]), mx.array(self.latents[rows])

    def loss(self, input_ids: mx.array, latents: mx.array) -> mx.array:
        return (self.model(input_ids) - latents).square().mean()

    def sample(self, path: Path) -> None:
        """Without a UNet there are no pictures to draw."""
