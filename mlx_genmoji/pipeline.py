"""Genmoji: a prompt in, stickers out.

text -> tokenizer -> text encoder -> UNet, once for each step of the sampler -> autoencoder -> picture
"""

import hashlib
import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from .checkpoint import Model, load_model
from .errors import UserError
from .models.clip import CLIPTextModel
from .models.unet import UNet2DConditionModel
from .models.vae import AutoencoderKL
from .prompt import PERSON_TYPES, SKIN_TONES, compose
from .samplers import History, NoiseConfig, make_sampler
from .sticker import Sticker
from .tokenizer import CLIPTokenizer
from .weights import find_weights, read_json

__all__ = ["PERSON_TYPES", "SKIN_TONES", "Defaults", "Genmoji"]

BUILTIN = Path(__file__).parent / "builtin"
DEFAULTS_FILE = "genmoji.json"

Callback = Callable[[int, int, mx.array], None]

COMPONENTS: dict[str, type[Model]] = {
    "unet": UNet2DConditionModel,
    "text_encoder": CLIPTextModel,
    "vae": AutoencoderKL,
}


@dataclass(frozen=True)
class Defaults:
    """How a model is used where the user does not say: `genmoji.json` in its folder, which may be missing."""

    template: str = "{prompt}"
    steps: int = 25
    guidance: float = 7.5

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Defaults":
        """Raises UserError for a field that is unknown or of the wrong kind."""
        kinds = {field.name: type(field.default) for field in fields(cls)}
        for name, value in config.items():
            if name not in kinds:
                raise UserError(f"{DEFAULTS_FILE}: unknown field {name!r}.")
            if not isinstance(value, (int, float) if kinds[name] is float else kinds[name]):
                raise UserError(f"{DEFAULTS_FILE}: field {name!r} is {value!r}, not {kinds[name].__name__}.")
        return cls(**config)


class Genmoji:
    """A diffusion model ready to draw. Use `Genmoji.load`.

    MLX's arrays belong to the thread that made them: load and generate in one thread.
    """

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        scheduler: Mapping[str, Any],
        defaults: Defaults,
        name: str,
        folder: Path | None = None,
    ):
        self.unet = unet
        self.text_encoder = text_encoder
        self.vae = vae
        self.tokenizer = tokenizer
        self.scheduler = scheduler
        self.defaults = defaults
        self.name = name
        self.folder = folder

    @classmethod
    def load(cls, model: str | Path | None = None) -> "Genmoji":
        """Load a diffusers folder of the Stable Diffusion 1.x family; without one, the built-in model.

        Raises UserError in one sentence where the folder or a file in it is missing, damaged or not supported.
        """
        folder = BUILTIN if model is None else Path(model)
        if not folder.is_dir():
            raise UserError(f"There is no model folder {model}.")
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != "StableDiffusionPipeline":
            asked = index.get("_class_name")
            raise UserError(f"{folder}: model_index.json asks for a {asked}, supported is StableDiffusionPipeline.")
        # diffusers' StableDiffusionPipeline sets these two on the scheduler that it is given.
        scheduler = read_json(folder / "scheduler" / "scheduler_config.json") | {
            "steps_offset": 1,
            "clip_sample": False,
        }
        NoiseConfig.read(scheduler)
        defaults = read_json(folder / DEFAULTS_FILE) if (folder / DEFAULTS_FILE).exists() else {}
        tokenizer = CLIPTokenizer.load(folder / "tokenizer")
        components: dict[str, Any] = {}
        for part, kind in COMPONENTS.items():
            components[part] = load_model(folder / part)
            if not isinstance(components[part], kind):
                raise UserError(f"{folder / part}: config.json describes another kind of model than {kind.__name__}.")
        genmoji = cls(
            **components,
            tokenizer=tokenizer,
            scheduler=scheduler,
            defaults=Defaults.read(defaults),
            name="builtin" if model is None else folder.resolve().name,
            folder=folder,
        )
        genmoji._check_fit()
        return genmoji

    def generate(
        self,
        prompt: str,
        *,
        count: int = 1,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        skin_tone: str | None = None,
        person_type: str | None = None,
        template: str | None = None,
        sampler: str | None = None,
        latents: mx.array | None = None,
        callback: Callback | None = None,
    ) -> list[Sticker]:
        """Draw `count` candidates of `prompt`; candidate i is what seed + i gives alone. Evaluated on return.

        steps, guidance, template: None is the model's own; template "{prompt}" leaves the prompt as it is. guidance
        (Ho and Salimans, 2022): up to 1 is none, as in diffusers. sampler: None is the folder's, else a name of
        `samplers.SAMPLERS`.
        latents: the initial noise, (count, height / f, width / f, latent channels), before the sampler's scaling.
        callback: called after each step with the step, the number of all steps (of all candidates) and the latents.
        Raises UserError for an argument that is out of range.
        """
        steps = self.defaults.steps if steps is None else steps
        guidance = self.defaults.guidance if guidance is None else guidance
        template = self.defaults.template if template is None else template
        final_prompt = compose(prompt, template, skin_tone, person_type)
        if count < 1:
            raise UserError(f"The count must be 1 or more, not {count}.")
        if not (math.isfinite(guidance) and guidance >= 0):
            raise UserError(f"The guidance must be 0 or more, not {guidance}.")
        if seed is None:
            seed = secrets.randbelow(2**31)
        if not 0 <= seed < 2**63 - count:
            raise UserError(f"The seed must be a whole number from 0 on, not {seed}.")
        if latents is not None:
            self._check_latents(latents, count)
        chosen = make_sampler(self.scheduler, sampler)
        schedule = chosen.schedule(steps)

        texts = [final_prompt] if guidance <= 1 else [negative_prompt, final_prompt]
        text = self.text_encoder(mx.array(self.tokenizer(texts))).last_hidden_state
        stickers = []
        for i in range(count):
            noise = self._noise(seed + i) if latents is None else latents[i : i + 1]
            x = noise * schedule.init_noise_sigma
            history: History = ()
            for step, timestep in enumerate(schedule.timesteps):
                output = self._predict(schedule.scale_model_input(x, step), timestep, text, guidance)
                x, history = schedule.step(output, step, x, history)
                mx.eval(x, history)
                if callback is not None:
                    callback(i * len(schedule.timesteps) + step, count * len(schedule.timesteps), x)
            recipe = {
                "prompt": prompt,
                "final_prompt": final_prompt,
                "negative_prompt": negative_prompt,
                "skin_tone": skin_tone,
                "person_type": person_type,
                "template": template,
                "seed": seed + i if latents is None else None,
                "steps": steps,
                "guidance": guidance,
                "sampler": chosen.name,
                "model": {"name": self.name, "sha256": self.sha256},
                "version": _version(),
            }
            stickers.append(Sticker(self._decode(x), recipe))
        return stickers

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latents of one picture."""
        return *_sample_size(self.unet.raw_config), self.vae.config.latent_channels

    @cached_property
    def sha256(self) -> str | None:
        """A hash of the weights of all components; None where the model has no folder."""
        if self.folder is None:
            return None
        digest = hashlib.sha256()
        for part in COMPONENTS:
            for path in find_weights(self.folder / part):
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def _noise(self, seed: int) -> mx.array:
        return mx.random.normal((1, *self.latents_shape), key=mx.random.key(seed))

    def _predict(self, x: mx.array, timestep: float, text: mx.array, guidance: float) -> mx.array:
        """The guided prediction, float32, for latents (1, h, w, c) and texts (1 or 2, L, D)."""
        dtype = self.unet.conv_in.weight.dtype
        sample = mx.broadcast_to(x, (len(text), *x.shape[1:])).astype(dtype)
        output = self.unet(sample, mx.full((len(text),), timestep), text.astype(dtype)).astype(mx.float32)
        if len(text) == 1:
            return output
        unconditional, conditional = output[:1], output[1:]
        return unconditional + guidance * (conditional - unconditional)

    def _decode(self, latents: mx.array) -> Image.Image:
        config = self.vae.config
        pictures = self.vae.decode(latents / config.scaling_factor + (config.shift_factor or 0.0))
        pixels = np.asarray(pictures[0].astype(mx.float32))
        if not np.isfinite(pixels).all():
            raise UserError("The model's result is not a number: its weights may be damaged, or the guidance too high.")
        return Image.fromarray(np.round(np.clip(pixels / 2 + 0.5, 0, 1) * 255).astype(np.uint8))

    def _check_latents(self, latents: mx.array, count: int) -> None:
        expected = (count, *self.latents_shape)
        if tuple(latents.shape) != expected:
            raise UserError(f"The latents must have the shape {expected}, not {tuple(latents.shape)}.")
        if not mx.isfinite(latents).all().item():
            raise UserError("The latents hold values that are not finite numbers.")

    def _check_fit(self) -> None:
        """Raise UserError where the components, each sound, are not of one model."""
        text, unet, vae = self.text_encoder.config, self.unet.config, self.vae.config
        widths = unet.cross_attention_dim
        width = widths[0] if isinstance(widths, tuple) else widths
        for what, ours, theirs in (
            ("the text encoder's hidden_size and the UNet's cross_attention_dim", text.hidden_size, width),
            ("the autoencoder's latent_channels and the UNet's in_channels", vae.latent_channels, unet.in_channels),
            ("the UNet's in_channels and out_channels", unet.in_channels, unet.out_channels),
            ("the autoencoder's out_channels and those of an RGB picture", vae.out_channels, 3),
        ):
            if ours != theirs:
                raise UserError(f"The model's parts do not fit: {what} differ ({ours} and {theirs}).")
        for what, needs, holds in (
            ("vocab_size", self.tokenizer.vocab_size, text.vocab_size),
            ("max_position_embeddings", self.tokenizer.max_length, text.max_position_embeddings),
        ):
            if needs > holds:
                raise UserError(f"The model's parts do not fit: the tokenizer needs a {what} of {needs}, not {holds}.")
        _sample_size(self.unet.raw_config)


def _sample_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the latents that a UNet's config.json asks for. Raises UserError where it makes no sense."""
    size = config.get("sample_size") or 64
    # The first Stable Diffusion folders say 32 and mean 64; diffusers reads them so too.
    if type(size) is int and size < 64 and re.match(r"0\.[0-8]\b", str(config.get("_diffusers_version"))):
        size = 64
    sides = size if isinstance(size, (list, tuple)) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"The UNet's config field 'sample_size' is {size!r}, it must be one or two whole numbers.")
    return sides[0], sides[1]


def _version() -> str:
    try:
        return version("mlx-genmoji")
    except PackageNotFoundError:
        return "unknown"
