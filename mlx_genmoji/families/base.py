"""What the drawing loop (`generation.denoise`) asks of a model, whichever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from ..checkpoint.weight_files import Weights
from ..samplers import Schedule

STRENGTH = 0.8
"""How far a user's picture is changed where nobody says; as in diffusers."""


class Conditions(NamedTuple):
    """The text as the denoiser takes it: a row for each prediction that guidance needs (1 or 2)."""

    states: mx.array
    """`encoder_hidden_states`, (rows, L, D)."""
    added: dict[str, mx.array]
    """Further inputs by the checkpoint's own names; each (rows, ...)."""


class ImageStart(NamedTuple):
    """Where a generation begins: at which step, from which latents, and what the denoiser sees beside them."""

    step: int = 0
    latents: mx.array | None = None
    """(1, h, w, c) of a user's picture; None for pure noise."""
    inpainting: mx.array | None = None
    """(1, h, w, 1 + c): the mask, and the latents of the picture without what the mask covers."""
    recipe: Mapping[str, Any] = {}
    """`strength`, `image_sha256` and `mask_sha256`, for the sticker's recipe."""


class Family(ABC):
    """A loaded model of one family: its text side, latents, conditions and sampler.

    Latents are float32 (1, h, w, c).
    """

    name: str = "the model"
    """For messages."""
    weights: Weights | None = None
    """The files it was loaded from."""

    @property
    @abstractmethod
    def models(self) -> dict[str, nn.Module]:
        """The components that an adapter can change, by their names in the model's folder."""

    @property
    @abstractmethod
    def dtype(self) -> mx.Dtype:
        """The dtype that the denoiser computes in."""

    @property
    @abstractmethod
    def dense_sha256(self) -> str | None:
        """The hash of the weights before the model's folder was quantized; None where it was not, or is not known."""

    @property
    @abstractmethod
    def latents_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latents of one picture."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width of a picture, in pixels."""

    @abstractmethod
    def fits(self, text: str) -> bool:
        """Whether the text encoders have room for all of `text`."""

    @abstractmethod
    def schedule(self, sampler: str | None, steps: int, strength: float | None) -> tuple[str, Schedule]:
        """The sampler's name and its schedule.

        sampler: a name of `samplers.SAMPLERS`; None is the checkpoint's own. strength: of image to image, else None.
        """

    @abstractmethod
    def start(
        self, schedule: Schedule, image: Image.Image | None, strength: float | None, mask: Image.Image | None
    ) -> ImageStart:
        """Where to begin for a user's picture. Raises UserError for what does not go together."""

    @abstractmethod
    def conditions(self, prompt: str, negative_prompt: str, guidance: float) -> Conditions:
        """The text as the denoiser takes it."""

    @abstractmethod
    def predict(
        self, latents: mx.array, timestep: float, conditions: Conditions, guidance: float, start: ImageStart
    ) -> mx.array:
        """The guided prediction, float32, of the shape of `latents`."""

    @abstractmethod
    def encode(self, pixels: mx.array) -> mx.array:
        """Pictures (1, H, W, 3) in [-1, 1] -> scaled latents."""

    @abstractmethod
    def decode(self, latents: mx.array, preview: bool = False) -> mx.array:
        """Scaled latents -> pictures, float32 (1, H, W, 3) in [-1, 1]. preview: by the quicker decoder, if any."""

    @abstractmethod
    def layers_changed(self) -> None:
        """Called when adapters were exchanged: a compiled denoiser must be compiled again."""

    def noise(self, seed: int) -> mx.array:
        """The standard normal noise that a seed stands for."""
        return mx.random.normal((1, *self.latents_shape), key=mx.random.key(seed))
