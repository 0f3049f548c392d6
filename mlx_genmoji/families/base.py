"""The interface of a model family: all that the drawing loop (`generation`) uses of a model; and its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from ..checkpoint.weight_files import Weights
from ..errors import UserError
from ..models import CONFIG_KEY
from ..samplers import SPACINGS, Schedule

if TYPE_CHECKING:
    from ..textual_inversion import Learned

STRENGTH = 0.8
"""The default strength of image to image, as in diffusers."""
NOISE_SOURCES = ("mlx", "torch")
"""Whose random numbers a seed stands for."""
MAX_SIDE = 4096
"""Of a picture, in pixels."""
MAX_CLIP_SKIP = 100


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `Genmoji.generate` under their names, where they are explained; None is the model's default."""

    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    spacing: str | None = None
    karras: bool | None = None
    prompt_weights: bool = False
    long_prompts: bool = False
    noise: str = "mlx"

    def __post_init__(self) -> None:
        """Raise UserError for a value that no model takes."""
        for name in ("width", "height"):
            side = getattr(self, name)
            if side is not None and not (_is_whole(side) and 1 <= side <= MAX_SIDE):
                raise UserError(f"The {name} must be a whole number from 1 to {MAX_SIDE} pixels, not {side!r:.80}.")
        skipped = self.clip_skip
        if skipped is not None and not (_is_whole(skipped) and 0 <= skipped <= MAX_CLIP_SKIP):
            raise UserError(f"clip_skip must be a whole number from 0 to {MAX_CLIP_SKIP}, not {skipped!r:.80}.")
        if self.spacing is not None and self.spacing not in SPACINGS:
            raise UserError(f"There is no spacing {self.spacing!r:.80}; there are {', '.join(SPACINGS)}.")
        if self.noise not in NOISE_SOURCES:
            raise UserError(f"There is no noise {self.noise!r:.80}; there are {' and '.join(NOISE_SOURCES)}.")

    @classmethod
    def of(cls, *, size: int | None, width: int | None, height: int | None, **others: Any) -> Settings:
        """Settings with a `size`, which is the width and the height of a square. Raises UserError for both."""
        if size is not None and not (width is None and height is None):
            raise UserError("Give either the size of a square picture, or its width and height.")
        return cls(width=size if width is None else width, height=size if height is None else height, **others)

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not the default, for a recipe."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The settings in a recipe, whose other fields are passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def picture_size(self, own: tuple[int, int], multiple: int) -> tuple[int, int]:
        """Height and width of the picture, in pixels.

        own: the model's. multiple: the side of a latent in pixels. Raises UserError for sides that are no multiples of
        it, and names the nearest that are.
        """
        size = (self.height or own[0], self.width or own[1])
        nearest = [max(round(side / multiple), 1) * multiple for side in size]
        if list(size) != nearest:
            raise UserError(
                f"The model draws widths and heights that are multiples of {multiple} pixels, not"
                f" {size[1]} x {size[0]}; the nearest are {nearest[1]} x {nearest[0]}."
            )
        return size


DEFAULT_SETTINGS = Settings()


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
    reference: Image.Image | None = None
    """A picture, RGB of the drawing's size, to which the finished drawing is likened (`generation.likeness`)."""


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
    def quantization(self) -> dict[str, Any] | None:
        """How the weights are quantized, by component; None if none are."""
        configs = {name: model.raw_config for name, model in self.models.items()}
        if all(config.get(CONFIG_KEY) is None for config in configs.values()):
            return None
        from ..quantization import configs_of

        return configs_of(configs)

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
        """The guided prediction, float32, of the shape of `latents`, (B, h, w, c).

        conditions: of B pictures, all unconditional rows first where there are two (`generation.joined`).
        """

    @abstractmethod
    def encode(self, pixels: mx.array) -> mx.array:
        """Pictures (1, H, W, 3) in [-1, 1] -> scaled latents."""

    @abstractmethod
    def decode(self, latents: mx.array, preview: bool = False) -> mx.array:
        """Scaled latents -> pictures, float32 (1, H, W, 3) in [-1, 1]. preview: by the faster decoder, if any."""

    def learn(self, learned: Learned, file: str) -> None:
        """Read texts with these learned tokens, in place of those before. Raises UserError if they do not fit.

        file: where they come from, for messages.
        """
        if learned.tokens:
            raise UserError(f"{file} is a textual inversion, and {self.name} learns no tokens.")

    @abstractmethod
    def layers_changed(self) -> None:
        """Called after adapters were exchanged: a compiled denoiser must then be compiled anew."""

    def posterior(self, pixels: mx.array) -> tuple[mx.array, mx.array | None]:
        """As `encode`, and the standard deviation of the latents, for a family whose encoder has one."""
        return self.encode(pixels), None

    def noise(self, seed: int, settings: Settings = DEFAULT_SETTINGS) -> mx.array:
        """The standard normal noise of a seed, (1, h, w, c)."""
        return mx.random.normal((1, *self.shape(settings)), key=mx.random.key(seed))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def shift_and_scale(vae: Any) -> tuple[Any, Any]:
    """A UNet's latents are the autoencoder's minus the first, times the second (numbers or per channel)."""
    config = vae.config
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and deviation is not None:
        return mx.array(mean), config.scaling_factor / mx.array(deviation)
    return config.shift_factor or 0.0, config.scaling_factor
