"""The interface of a model family: all that the drawing loop (`generation.denoise`) uses of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from ..checkpoint.weight_files import Weights
from ..samplers import Schedule
from .settings import DEFAULT_SETTINGS, Settings

STRENGTH = 0.8
"""The default strength of image to image, as in diffusers."""


class Conditions(NamedTuple):
    """The denoiser's inputs made from the text: one row, or two if guidance needs an unconditional prediction."""

    states: mx.array
    """`encoder_hidden_states`, (rows, L, D)."""
    added: dict[str, mx.array]
    """Other inputs of the denoiser by their names in the checkpoint; each (rows, ...)."""


class ImageStart(NamedTuple):
    """Where a generation begins: the step, the latents, and for inpainting the denoiser's further input channels."""

    step: int = 0
    latents: mx.array | None = None
    """(1, h, w, c) of a user's picture; None for pure noise."""
    inpainting: mx.array | None = None
    """(1, h, w, 1 + c): the mask, and the latents of the picture with the masked pixels removed."""
    deviations: tuple[mx.array | None, mx.array | None] = (None, None)
    """The standard deviations of `latents` and of the encoded picture in `inpainting`, where the encoder has them."""
    recipe: Mapping[str, Any] = {}
    """`strength`, `image_sha256` and `mask_sha256`, for the sticker's recipe."""


class Family(ABC):
    """A loaded model of one family: its text side, latents, conditions and sampler.

    Latents are float32 (1, h, w, c).
    """

    name: str = "the model"
    """The model's name, for messages."""
    weights: Weights | None = None
    """The files that it was loaded from."""

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
        """The hash of the dense weights that the folder was quantized from; None if it was not, or not known."""

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
    def picture_size(self, settings: Settings) -> tuple[int, int]:
        """Height and width of a picture in pixels. Raises UserError for a size that the model cannot draw."""

    @abstractmethod
    def shape(self, settings: Settings) -> tuple[int, int, int]:
        """Height, width and channels of the latents of one picture of `picture_size`."""

    @abstractmethod
    def cut_off(self, text: str, settings: Settings) -> str:
        """The end of `text` that the text encoders do not see; "" if they see all of it."""

    @abstractmethod
    def schedule(
        self, sampler: str | None, steps: int, strength: float | None, settings: Settings = DEFAULT_SETTINGS
    ) -> tuple[str, Schedule]:
        """The sampler's name and its schedule.

        sampler: a name that `samplers.make_sampler` takes; None is the checkpoint's own. strength: for image to image,
        else None. settings: `spacing` and `karras`.
        """

    @abstractmethod
    def start(
        self,
        schedule: Schedule,
        image: Image.Image | None,
        strength: float | None,
        mask: Image.Image | None,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> ImageStart:
        """Where to begin, given a user's picture and mask. Raises UserError for arguments that exclude each other."""

    @abstractmethod
    def conditions(
        self, prompt: str, negative_prompt: str, guidance: float, settings: Settings = DEFAULT_SETTINGS
    ) -> Conditions:
        """The denoiser's inputs made from the text."""

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
        """Scaled latents -> pictures, float32 (1, H, W, 3) in [-1, 1]. preview: by the faster decoder, if any."""

    @abstractmethod
    def layers_changed(self) -> None:
        """Called after adapters were exchanged: a compiled denoiser must then be compiled anew."""

    def posterior(self, pixels: mx.array) -> tuple[mx.array, mx.array | None]:
        """As `encode`, and the standard deviation of the latents, for a family whose encoder has one."""
        return self.encode(pixels), None

    def noise(self, seed: int, settings: Settings = DEFAULT_SETTINGS) -> mx.array:
        """The standard normal noise of a seed, (1, h, w, c)."""
        return mx.random.normal((1, *self.shape(settings)), key=mx.random.key(seed))
