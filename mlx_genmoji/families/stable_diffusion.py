"""The family of Stable Diffusion 1.x, 2.x and XL, of models distilled from them (LCM), and of inpainting models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from ..checkpoint.components import is_kind, load_model, weight_paths
from ..checkpoint.weight_files import Weights
from ..errors import UserError
from ..hub import resolve
from ..models import DENSE_KEY, sample_size
from ..models.ops import on_cpu
from ..samplers import NoiseConfig, Schedule, make_sampler
from ..tokenizer import CLIPTokenizer
from .base import DEFAULT_SETTINGS, STRENGTH, Conditions, Family, ImageStart, Settings, shift_and_scale

if TYPE_CHECKING:
    from ..models.clip import CLIPTextModel
    from ..models.tiny_vae import AutoencoderTiny
    from ..models.unet import UNet2DConditionModel
    from ..models.vae import AutoencoderKL
    from ..quantization import Quantization
    from ..textual_inversion import Learned

    Autoencoder = AutoencoderKL | AutoencoderTiny

UNET = ("UNet2DConditionModel",)
CLIP = ("CLIPTextModel",)
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


class TextTowers:
    """The text encoders of a model, each with its tokenizer: one, or the two of XL."""

    def __init__(
        self, tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[CLIPTextModel], zeros_for_empty: bool = False
    ):
        """zeros_for_empty: XL's `force_zeros_for_empty_prompt`: an empty negative prompt is encoded as zeros."""
        self.tokenizers = tokenizers
        self.encoders = encoders
        self.zeros_for_empty = zeros_for_empty
        self._plain: list[tuple[CLIPTokenizer, nn.Module]] | None = None
        """The tokenizers and embeddings without learned tokens, while there are any."""

    @property
    def width(self) -> int:
        """Channels of the states."""
        return sum(encoder.config.hidden_size for encoder in self.encoders)

    def learn(self, learned: Learned) -> None:
        """Read texts with these learned tokens, in place of those before. Their vectors fit the text encoders."""
        if self._plain is not None:
            self._read_with(*zip(*self._plain, strict=True))
            self._plain = None
        if learned.tokens:
            from ..textual_inversion import extended

            embeddings = [encoder.text_model.embeddings.token_embedding for encoder in self.encoders]
            self._plain = list(zip(self.tokenizers, embeddings, strict=True))
            self._read_with(*extended(self.tokenizers, self.encoders, learned))

    def _read_with(self, tokenizers: Sequence[CLIPTokenizer], embeddings: Sequence[nn.Module]) -> None:
        self.tokenizers = list(tokenizers)
        for encoder, embedding in zip(self.encoders, embeddings, strict=True):
            tables: Any = encoder.text_model.embeddings
            tables.token_embedding = embedding

    def __call__(
        self, prompt: str, negative_prompt: str | None, size: tuple[int, int], settings: Settings = DEFAULT_SETTINGS
    ) -> Conditions:
        """Conditions for a prompt: two rows, the negative prompt's first; one row if that is None.

        size: height and width of the picture in pixels, a condition of XL. settings: `clip_skip`, which as in
        diffusers changes the prompt's row alone, `prompt_weights` and `long_prompts`.
        """
        texts = [prompt] if negative_prompt is None else [negative_prompt, prompt]
        if settings.clip_skip or settings.prompt_weights or settings.long_prompts:
            from .text_chunks import encode_texts

            states, pooled = encode_texts(self.tokenizers, self.encoders, texts, settings)
        else:
            states, pooled = self.encode(self.tokenize(texts, warn=False))
        if pooled is None:
            return Conditions(states, {})
        if negative_prompt == "" and self.zeros_for_empty:
            kept = mx.array([0.0, 1.0])
            states, pooled = states * kept[:, None, None], pooled * kept[:, None]
        return Conditions(states, {"text_embeds": pooled, "time_ids": time_ids(size, len(texts))})

    def tokenize(self, texts: Sequence[str], warn: bool = True) -> list[mx.array]:
        """Token ids, (B, L) for each tower. warn: of texts that are too long; those of a prompt are in its notes."""
        return [mx.array(tokenizer(texts, warn)) for tokenizer in self.tokenizers]

    def encode(self, ids: Sequence[mx.array]) -> tuple[mx.array, mx.array | None]:
        """Token ids, (B, L) for each tower -> states (B, L, D) and, for XL, `text_embeds` (B, P), else None."""
        outputs = []
        for tower_ids, encoder in zip(ids, self.encoders, strict=True):
            outputs.append(encoder(tower_ids))
        if len(outputs) == 1:
            return outputs[0].last_hidden_state, None
        # Podell et al. 2023, https://arxiv.org/abs/2307.01952: the last layer but one of both, the second's pooled.
        return mx.concatenate([output.hidden_states[-2] for output in outputs], axis=-1), outputs[-1].pooled


class StableDiffusion(Family):
    """CLIP text encoders, a UNet and an autoencoder."""

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        text: TextTowers,
        vae: Autoencoder,
        scheduler: Mapping[str, Any],
        preview_vae: Autoencoder | None = None,
    ):
        self.unet = unet
        self.text = text
        self.vae = vae
        self.scheduler = scheduler
        self.preview_vae = preview_vae or vae
        self._compiled: Callable[..., mx.array] | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        text_encoders: int,
        scheduler: Mapping[str, Any],
        zeros_for_empty: bool,
        quantization: Quantization | None,
        preview: str | Path | None,
        vae: str | Path | None = None,
        allow_pickle: bool = False,
    ) -> StableDiffusion:
        """Load the components of a diffusers folder; see `Genmoji.load`. Raises UserError for a faulty one."""
        NoiseConfig.read(scheduler)
        tokenizers: list[CLIPTokenizer] = []
        encoders: list[Any] = []
        for suffix in ("", "_2")[:text_encoders]:
            tokenizers.append(CLIPTokenizer.load(folder / f"tokenizer{suffix}"))
            path = folder / f"text_encoder{suffix}"
            for_text = quantization and quantization.for_text
            encoders.append(load_model(path, CLIP, quantization=for_text, allow_pickle=allow_pickle))
        unet: Any = load_model(folder / "unet", UNET, quantization=quantization, allow_pickle=allow_pickle)
        if vae is None:
            autoencoder: Any = load_model(folder / "vae", AUTOENCODERS, allow_pickle=allow_pickle)
        else:
            from ..checkpoint.autoencoders import load_other

            autoencoder = load_other(vae, folder / "vae" / "config.json", allow_pickle)
        preview_vae: Any = None if preview is None else load_model(resolve(preview), AUTOENCODERS[::-1])
        text = TextTowers(tokenizers, encoders, zeros_for_empty)
        family = cls(unet=unet, text=text, vae=autoencoder, scheduler=scheduler, preview_vae=preview_vae)
        components = (*family.models.values(), family.vae)
        family.weights = Weights([path for component in components for path in weight_paths(component)])
        family.check_fit()
        return family

    @property
    def models(self) -> dict[str, nn.Module]:
        encoders = zip(("text_encoder", "text_encoder_2"), self.text.encoders, strict=False)
        return {"unet": self.unet, **dict(encoders)}

    @property
    def dtype(self) -> mx.Dtype:
        # Norms are never quantized or adapted, so their dtype is the compute dtype.
        return self.unet.conv_norm_out.weight.dtype

    @property
    def dense_sha256(self) -> str | None:
        value = self.unet.raw_config.get(DENSE_KEY)
        return value if isinstance(value, str) else None

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        return *sample_size(self.unet.raw_config), self.vae.config.latent_channels

    @property
    def size(self) -> tuple[int, int]:
        height, width, _ = self.latents_shape
        return height * self.vae.downscale, width * self.vae.downscale

    def picture_size(self, settings: Settings) -> tuple[int, int]:
        return settings.picture_size(self.size, self.vae.downscale)

    def shape(self, settings: Settings) -> tuple[int, int, int]:
        height, width = self.picture_size(settings)
        return height // self.vae.downscale, width // self.vae.downscale, self.vae.config.latent_channels

    @property
    def inpaints(self) -> bool:
        """Whether the UNet takes a picture and a mask in addition to the latents."""
        return self.unet.config.in_channels == 2 * self.vae.config.latent_channels + 1

    @property
    def guidance_distilled(self) -> bool:
        """Whether the guidance is an input of the UNet (LCM), so that it predicts once instead of twice."""
        return self.unet.config.time_cond_proj_dim is not None

    def fits(self, text: str) -> bool:
        return not any(tokenizer.truncated(text) for tokenizer in self.text.tokenizers)

    def cut_off(self, text: str, settings: Settings) -> str:
        if settings.long_prompts:
            return ""
        if settings.prompt_weights:
            from .text_chunks import plain_text

            text = plain_text(text, settings)
        return max((tokenizer.truncated(text) for tokenizer in self.text.tokenizers), key=len, default="")

    def schedule(
        self, sampler: str | None, steps: int, strength: float | None, settings: Settings = DEFAULT_SETTINGS
    ) -> tuple[str, Schedule]:
        made = make_sampler(self.scheduler, sampler, spacing=settings.spacing, karras=settings.karras)
        schedule = made.schedule(steps)
        if self.guidance_distilled and strength is not None:
            from ..samplers.lcm import LCM

            if isinstance(schedule, LCM):
                schedule = schedule.of_strength(strength)
        return made.name, schedule

    def start(
        self,
        schedule: Schedule,
        image: Image.Image | None,
        strength: float | None,
        mask: Image.Image | None,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> ImageStart:
        if self.inpaints and (image is None or mask is None):
            raise UserError(f"The model {self.name} repaints pictures: it needs an image and a mask.")
        if mask is not None and not self.inpaints:
            raise UserError(f"The model {self.name} takes no mask: only inpainting models do.")
        if image is None:
            if strength is not None:
                raise UserError("A strength is for image to image: give an image with it.")
            return ImageStart()
        from ..generation.image_start import image_start

        if strength is None:
            strength = STRENGTH if mask is None else 1.0
        size = self.picture_size(settings)
        return image_start(self, size, self.vae.downscale, schedule, image, strength, mask)

    def conditions(
        self, prompt: str, negative_prompt: str, guidance: float, settings: Settings = DEFAULT_SETTINGS
    ) -> Conditions:
        two_rows = guidance > 1 and not self.guidance_distilled
        conditions = self.text(prompt, negative_prompt if two_rows else None, self.picture_size(settings), settings)
        if channels := self.unet.config.time_cond_proj_dim:
            from ..models.unet import guidance_embedding

            conditions.added["timestep_cond"] = guidance_embedding(guidance, channels)
        return conditions

    def predict(
        self, latents: mx.array, timestep: float, conditions: Conditions, guidance: float, start: ImageStart
    ) -> mx.array:
        dtype = self.dtype
        if start.inpainting is not None:
            latents = mx.concatenate([latents, start.inpainting], axis=-1)
        count, rows = len(latents), len(conditions.states)
        sample = mx.concatenate([latents] * (rows // count)).astype(dtype)
        added = {name: value.astype(dtype) for name, value in conditions.added.items()}
        timesteps = mx.full((rows,), timestep)
        output = self._denoiser()(sample, timesteps, conditions.states.astype(dtype), added).astype(mx.float32)
        if rows == count:
            return output
        unconditional, conditional = output[:count], output[count:]
        return unconditional + float(guidance) * (conditional - unconditional)

    def _denoiser(self) -> Callable[..., mx.array]:
        """The UNet, compiled on a GPU. On a CPU compiling takes a minute and saves a fifth of a step."""
        if on_cpu():
            return self.unet
        if self._compiled is None:
            self._compiled = mx.compile(self.unet, inputs=self.unet.state)
        return self._compiled

    def learn(self, learned: Learned, file: str) -> None:
        from ..textual_inversion import ENCODERS, check_fit

        widths = {name: encoder.config.hidden_size for name, encoder in zip(ENCODERS, self.text.encoders, strict=False)}
        check_fit(learned.tokens, widths, file)
        self.text.learn(learned)

    def layers_changed(self) -> None:
        # A compiled function picks up new arrays in its layers, but not new layers or new numbers.
        self._compiled = None

    def encode(self, pixels: mx.array) -> mx.array:
        return self.posterior(pixels)[0]

    def posterior(self, pixels: mx.array) -> tuple[mx.array, mx.array | None]:
        mean, log_variance = self.vae.encode(pixels.astype(_dtype(self.vae)))
        shift, scale = shift_and_scale(self.vae)
        mean = (mean.astype(mx.float32) - shift) * scale
        if is_kind(self.vae, "AutoencoderTiny"):
            return mean, None
        return mean, mx.exp(log_variance.astype(mx.float32) / 2) * scale

    def decode(self, latents: mx.array, preview: bool = False) -> mx.array:
        vae = self.preview_vae if preview else self.vae
        shift, scale = shift_and_scale(vae)
        latents = latents / scale + shift
        return vae.decode(latents.astype(_dtype(vae))).astype(mx.float32)

    def check_fit(self) -> None:
        """Raise UserError if the components, each valid by itself, do not fit together."""
        unet, vae = self.unet.config, self.vae.config
        widths = unet.cross_attention_dim
        width = widths[0] if isinstance(widths, tuple) else widths
        latents = vae.latent_channels
        unet_input = unet.in_channels if self.inpaints else latents
        for what, ours, theirs in (
            ("the text encoders' hidden_size and the UNet's cross_attention_dim", self.text.width, width),
            ("the autoencoder's latent_channels and the UNet's in_channels", unet_input, unet.in_channels),
            ("the autoencoder's latent_channels and the UNet's out_channels", latents, unet.out_channels),
            ("the autoencoder's out_channels and those of an RGB picture", vae.out_channels, 3),
        ):
            if ours != theirs:
                raise UserError(f"The model's parts do not fit: {what} differ ({ours} and {theirs}).")
        for tokenizer, encoder in zip(self.text.tokenizers, self.text.encoders, strict=True):
            tokenizer.check_fit(encoder.config)
        if (unet.addition_embed_type == "text_time") != (len(self.text.encoders) == 2):
            raise UserError(
                "The model's parts do not fit: two text encoders and an addition_embed_type of text_time go together."
            )
        sample_size(self.unet.raw_config)


def time_ids(size: tuple[int, int], count: int) -> mx.array:
    """The size conditions of XL for `count` pictures, (count, 6): original size, crop offset (0, 0), target size."""
    return mx.array([[*size, 0, 0, *size]] * count, mx.float32)


def _dtype(vae: Autoencoder) -> mx.Dtype:
    """The dtype that an autoencoder computes in: half precision on a GPU, unless its config asks for `force_upcast`."""
    first = vae.encoder.layers[0] if is_kind(vae, "AutoencoderTiny") else vae.encoder.conv_in
    return first.weight.dtype
