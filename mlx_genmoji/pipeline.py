"""Genmoji: a prompt in, stickers out.

text -> tokenizer -> text encoder -> UNet, once for each step of the sampler -> autoencoder -> picture
"""

import itertools
import math
import re
import secrets
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from .checkpoint.components import load_model
from .checkpoint.weight_files import weights_sha256
from .combinations.assemble import put_together
from .combinations.reading import SOURCES, Combination, Part, read
from .errors import Cancelled, UserError, quoted
from .families.stable_diffusion import DEFAULTS_FILE, FAMILIES, Conditions, Defaults, TextTowers, guidance_embedding
from .files import read_json
from .generation.image_start import latent_mask, to_array
from .hub import resolve
from .lora.active import Adapters, Given
from .models.clip import CLIPTextModel
from .models.ops import inference, on_cpu
from .models.ops.metal import wired_memory
from .models.tiny_vae import AutoencoderTiny
from .models.unet import UNet2DConditionModel
from .models.vae import AutoencoderKL
from .pictures import fingerprint, fit_mask, fit_picture
from .prompt import PERSON_TYPES, SKIN_TONES, CaptionForm, PromptPlan, Rewriter, compose, parse
from .prompt.safety import check_safe, clean_final
from .prompt.words import Words
from .quantization import DENSE_KEY, Quantization
from .samplers import LCM, History, NoiseConfig, Schedule, make_sampler, step_noise
from .sticker import Sticker
from .tokenizer import CLIPTokenizer

__all__ = ["DEFAULTS_FILE", "PERSON_TYPES", "SKIN_TONES", "Defaults", "Genmoji"]

BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_NAME = "builtin"
COMMIT = re.compile(r"[0-9a-f]{40}")

# How far a user's picture is changed where nobody says; as in diffusers.
STRENGTH = 0.8

Callback = Callable[[int, int, mx.array], Any]

Autoencoder = AutoencoderKL | AutoencoderTiny


class Start(NamedTuple):
    """Where a generation begins: at which step, from which latents, and what the UNet sees beside them."""

    step: int = 0
    latents: mx.array | None = None
    """(1, h, w, c) of a user's picture; None for pure noise."""
    beside: mx.array | None = None
    """(1, h, w, 1 + c): what is repainted, and the latents of the picture without it."""
    recipe: Mapping[str, Any] = {}


class Genmoji:
    """A diffusion model ready to draw. Use `Genmoji.load`.

    MLX's arrays belong to the thread that made them: load and generate in one thread.
    """

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        text: TextTowers,
        vae: Autoencoder,
        scheduler: Mapping[str, Any],
        defaults: Defaults,
        name: str,
        folder: Path | None = None,
        preview_vae: Autoencoder | None = None,
        words: Words | None = None,
    ):
        self.unet = unet
        self.text = text
        self.vae = vae
        self.scheduler = scheduler
        self.defaults = defaults
        self.name = name
        self.folder = folder
        self.preview_vae = preview_vae or vae
        self.words = words or Words({})
        self._rewriters: dict[str, Rewriter] = {}
        self._compiled: tuple[Any, Callable[..., mx.array]] | None = None
        # A circle of references would keep the weights in memory until Python happens to look for one.
        own = weakref.ref(self)
        # A norm is neither quantized nor adapted: what it is kept in is what the UNet computes in.
        dtype = unet.conv_norm_out.weight.dtype
        self.adapters = Adapters(self.models, dtype, lambda: own().sha256, self.dense_sha256)  # type: ignore[union-attr]

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        preview: str | Path | None = None,
        bits: int | None = None,
        adapters: str | Path | Sequence[Given] = (),
    ) -> "Genmoji":
        """Load a Stable Diffusion checkpoint: a diffusers folder, or an id of the Hugging Face hub, fetched if it is
        not here yet; without either, the built-in model.

        1.x, 2.x, XL and what was distilled from them, inpainting models and LCM; `FAMILIES` has the pipelines by name.
        revision: a branch, tag or commit of the hub. preview: the folder or id of an AutoencoderTiny (TAESD), which
        makes the previews of a slow autoencoder's latents quick. bits: of the UNet's weights, packed while they are
        loaded; text encoders get 8 or more, the autoencoder stays as it is. adapters: see `set_adapters`. Raises
        UserError in one sentence where a file is missing, damaged or not supported.
        """
        quantization = None if bits is None else Quantization(bits)
        if model is None:
            folder, name = BUILTIN, BUILTIN_NAME
        else:
            folder = resolve(model, revision)
            if folder.is_file():
                raise UserError(
                    f"{model} is one file, not a folder; make a folder of it with: genmoji convert {model} -o FOLDER"
                )
            # A snapshot of the hub is called by its commit.
            name = str(model).partition("@")[0] if COMMIT.fullmatch(folder.name) else folder.resolve().name
        index = read_json(folder / "model_index.json")
        asked = index.get("_class_name")
        family = FAMILIES.get(asked) if isinstance(asked, str) else None
        if family is None:
            raise UserError(f"{folder}: model_index.json asks for a {asked}, supported are {', '.join(FAMILIES)}.")
        scheduler = read_json(folder / "scheduler" / "scheduler_config.json") | dict(family.scheduler)
        NoiseConfig.read(scheduler)
        defaults = read_json(folder / DEFAULTS_FILE) if (folder / DEFAULTS_FILE).exists() else {}
        suffixes = [f"_{i + 1}" if i else "" for i in range(family.text_encoders)]
        tokenizers = [CLIPTokenizer.load(folder / f"tokenizer{suffix}") for suffix in suffixes]
        for_text = quantization and quantization.for_text
        encoders = [
            _component(folder / f"text_encoder{suffix}", CLIPTextModel, quantization=for_text) for suffix in suffixes
        ]
        genmoji = cls(
            unet=_component(folder / "unet", UNet2DConditionModel, quantization=quantization),
            text=TextTowers(tokenizers, encoders, bool(index.get("force_zeros_for_empty_prompt", True))),
            vae=_component(folder / "vae", AutoencoderKL, AutoencoderTiny),
            scheduler=scheduler,
            defaults=Defaults.read(defaults, family.defaults),
            name=name,
            folder=folder,
            preview_vae=None if preview is None else _component(resolve(preview), AutoencoderTiny, AutoencoderKL),
            words=Words.load(folder),
        )
        genmoji._check_fit()
        genmoji.set_adapters(adapters)
        return genmoji

    def set_adapters(self, adapters: str | Path | Sequence[Given]) -> None:
        """Draw with adapters in place of those before: files, each alone or with its weight: (file, 0.8).

        None of them is the model as it is. Or a folder with an index (`lora.index`): each request is then drawn by the
        adapter for its skin tone and person type, else by the style's, with a warning. Quick: the model stays loaded.
        Raises UserError where one cannot be read or is of another model; warns of one that was trained on other
        weights.
        """
        self.adapters.set(adapters)

    @inference()
    @wired_memory()
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
        rewrite: "str | Path | Rewriter | PromptPlan | None" = None,
        sampler: str | None = None,
        image: Image.Image | None = None,
        strength: float | None = None,
        mask: Image.Image | None = None,
        latents: mx.array | None = None,
        callback: Callback | None = None,
        combine: bool | Combination = True,
    ) -> list[Sticker]:
        """Draw `count` candidates of `prompt`; candidate i is what seed + i gives alone. Evaluated on return.

        steps, guidance, template: None is the model's own, of the template an adapter's that has one; template
        "{prompt}" leaves the prompt as it is, any other says it in words that the model knows (`prompt.words`).
        guidance (Ho and Salimans, 2022): up to 1 is none, as in diffusers.
        sampler: None is the folder's, else a name of `samplers.SAMPLERS`.
        rewrite: None is the prompt in the template. "smollm2", another language model of mlx-lm's by id or folder, or a
        `Rewriter` makes a plan of the prompt first; a `PromptPlan`, such as an edited one, is drawn, its final prompt
        made of its fields as this model wants it, unless you wrote one. The plan is in the recipe.
        image: a picture to start from, changed by `strength` from 0 (hardly) to 1 (wholly), 0.8 where not said. mask:
        for an inpainting model, white where `image` is painted anew; its strength is 1 where not said.
        latents: the initial noise, (count, height / f, width / f, latent channels), before the sampler's scaling.
        callback: called after each step with the step, the number of all steps (of all candidates) and what the
        finished latents look like from there, which `preview` makes a picture of; False from it stops, with Cancelled.
        combine: whether a model that draws emoji alone draws what a prompt combines ("flying pig") by parts, one after
        another, and puts these together by rule (`parts.put_together`); a picture to start from, noise of your own and
        the template "{prompt}" are drawn as a whole. Or the combination itself, with the captions of its parts.
        Raises UserError for an argument that is out of range, or says something else than the plan.
        """
        steps = self.defaults.steps if steps is None else steps
        guidance = self.defaults.guidance if guidance is None else guidance
        if isinstance(rewrite, PromptPlan):
            _check_agreement(rewrite, skin_tone, person_type, negative_prompt, template)
        plan = self._plan(prompt, rewrite, skin_tone, person_type)
        own, asked = prompt, (skin_tone, person_type)
        if plan is not None:
            skin_tone, person_type = plan.skin_tone, plan.person_type
            negative_prompt = negative_prompt or plan.negative_prompt
        elif template != "{prompt}":
            said = parse(prompt, max_characters=None)
            own, skin_tone, person_type = said.subject, said.skin_tone or skin_tone, said.person_type or person_type
            # What the prompt says of a person is among its words.
            asked = skin_tone, None if said.person_type else person_type
        negative_prompt = clean_final(negative_prompt)
        self.adapters.route(skin_tone, person_type)
        template = (self.adapters.template or self.defaults.template) if template is None else template
        if plan is None:
            final_prompt = compose(prompt if template == "{prompt}" else self.words.own(own), template, *asked)
        else:
            # Only now is it known which adapter draws, and so how it wants its captions.
            plan = plan.finished(self.caption_form(template))
            final_prompt = plan.final_prompt
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
        if isinstance(schedule, LCM) and self._guided_within and image is not None:
            schedule = schedule.of_strength(STRENGTH if strength is None else strength)
        start = self._start(schedule, image, strength, mask)
        if isinstance(combine, Combination):
            combination: Combination | None = combine
        elif combine and image is None and latents is None:
            combination = self._combination(own if plan is None else plan, template, skin_tone, person_type)
        else:
            combination = None
        # The subject last: it is what previews end with.
        captions = [final_prompt] if combination is None else [part.text for part in reversed(combination.parts)]
        for caption in captions:
            check_safe(caption)
        conditions = [self._conditions(caption, negative_prompt, guidance) for caption in captions]
        mx.eval(conditions, start.latents, start.beside)

        stickers = []
        moments = itertools.count()
        moments_in_all = count * len(captions) * (len(schedule.timesteps) - start.step)

        def step_done(finished: mx.array) -> None:
            if callback is not None and callback(next(moments), moments_in_all, finished) is False:
                raise Cancelled

        for i in range(count):
            noise = self._noise(seed + i) if latents is None else latents[i : i + 1]
            drawn = [self._denoised(noise, seed + i, schedule, start, one, guidance, step_done) for one in conditions]
            pictures = [self._decode(x, self.vae) for x in drawn]
            recipe = {
                "prompt": prompt,
                "final_prompt": final_prompt,
                "negative_prompt": negative_prompt,
                "skin_tone": skin_tone,
                "person_type": person_type,
                "template": template,
                **({} if plan is None else {"plan": plan.to_dict()}),
                "seed": seed + i if latents is None else None,
                "steps": steps,
                "guidance": guidance,
                "sampler": chosen.name,
                **start.recipe,
                **({} if combination is None else {"combination": combination.to_dict()}),
                "model": {
                    "name": self.name,
                    "revision": self._revision,
                    "sha256": self.sha256,
                    "quantization": self.quantization,
                },
                "adapters": self.adapters.recipe,
                "version": _version(),
            }
            if combination is None:
                picture = pictures[0]
            else:
                picture = put_together(combination, dict(zip(reversed(combination.parts), pictures, strict=True)))
            stickers.append(Sticker(picture, recipe))
        return stickers

    def replay(
        self, recipe: Mapping[str, Any], *, image: Image.Image | None = None, mask: Image.Image | None = None
    ) -> Sticker:
        """Draw a sticker again from its recipe (`sticker.read_recipe`), to the bit on the machine that drew it.

        `image` and `mask`: those that it started from, where it did. Raises UserError where another model, other
        adapters, another picture or something else that the recipe lacks would give another sticker.
        """
        try:
            model, final_prompt, seed = recipe["model"], recipe["final_prompt"], recipe["seed"]
            theirs = model["sha256"]
            arguments = {name: recipe[name] for name in ("negative_prompt", "steps", "guidance", "sampler")}
            combination = Combination.from_dict(recipe["combination"]) if "combination" in recipe else False
        except KeyError as error:
            raise UserError(f"The recipe is not whole: {error} is missing.") from None
        except (TypeError, ValueError):
            raise UserError("The recipe is not whole: parts of it are something else.") from None
        if theirs != self.sha256:
            raise UserError(
                f"The sticker was drawn by other weights, of the model {model.get('name')!r}; load that one."
            )
        packed = model.get("quantization")
        if packed != self.quantization:
            theirs, ours = (quoted(value or "not packed") for value in (packed, self.quantization))
            raise UserError(f"The sticker was drawn by weights in other bits: {theirs}; the model's here are {ours}.")
        if seed is None:
            raise UserError("The sticker was drawn from noise that a program gave, which the recipe does not hold.")
        for what, given in (("image", image), ("mask", mask)):
            expected = recipe.get(f"{what}_sha256")
            fit = fit_picture if what == "image" else fit_mask
            found = None if given is None else fingerprint(fit(given, *self.size))
            if expected != found:
                wanted = f"needs the {what} that it started from" if expected else f"started from no {what}"
                raise UserError(f"The sticker {wanted}; {'another one' if given else 'none'} was given.")
        with self.adapters.of_recipe(recipe):
            drawn = self.generate(
                final_prompt,
                template="{prompt}",
                seed=seed,
                image=image,
                mask=mask,
                strength=recipe.get("strength"),
                combine=combination,
                **arguments,
            )[0]
        own = ("prompt", "skin_tone", "person_type", "template", "plan")
        return Sticker(drawn.image, drawn.recipe | {name: recipe[name] for name in own if name in recipe})

    def caption_form(self, template: str | None = None) -> CaptionForm:
        """How the model wants its captions: what a plan's final prompt is made by."""

        def fits(text: str) -> bool:
            return not any(tokenizer.truncated(text) for tokenizer in self.text.tokenizers)

        own = self.adapters.template or self.defaults.template
        template = own if template is None else template
        words = Words({}) if template == "{prompt}" else self.words
        return CaptionForm(template, fits, self.defaults.plan_fields, words.own)

    def preview(self, latents: mx.array) -> Image.Image:
        """What a callback's latents (1, h, w, c) look like."""
        return self._decode(latents, self.preview_vae)

    @property
    def models(self) -> dict[str, nn.Module]:
        """The parts that an adapter can change, by their names in the model's folder."""
        towers = zip(("text_encoder", "text_encoder_2"), self.text.encoders, strict=False)
        return {"unet": self.unet, **dict(towers)}

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latents of one picture."""
        return *_sample_size(self.unet.raw_config), self.vae.config.latent_channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture, in pixels."""
        height, width, _ = self.latents_shape
        return height * self.vae.downscale, width * self.vae.downscale

    @cached_property
    def sha256(self) -> str | None:
        """A hash of the weights of all components; None where the model has no folder."""
        if self.folder is None:
            return None
        return weights_sha256(*(self.folder / part for part in (*self.models, "vae")))

    @property
    def dense_sha256(self) -> str | None:
        """The `sha256` that a packed folder's model had before; None where it is not known, or the same."""
        said = self.unet.raw_config.get(DENSE_KEY)
        return said if isinstance(said, str) else None

    @property
    def quantization(self) -> dict[str, Any] | None:
        """How the weights are packed, by part; None where none are."""
        configs = {name: Quantization.read(part.raw_config) for name, part in self.models.items()}
        return {name: config.as_config() for name, config in configs.items() if config is not None} or None

    @property
    def _revision(self) -> str | None:
        """The commit of a model that is from the hub."""
        return self.folder.name if self.folder and COMMIT.fullmatch(self.folder.name) else None

    @property
    def _repaints(self) -> bool:
        """Whether the UNet sees a picture and what of it to repaint, beside the latents."""
        return self.unet.config.in_channels == 2 * self.vae.config.latent_channels + 1

    @property
    def _guided_within(self) -> bool:
        """Whether the UNet is told the guidance, instead of predicting twice (LCM)."""
        return self.unet.config.time_cond_proj_dim is not None

    def _plan(
        self,
        prompt: str,
        rewrite: "str | Path | Rewriter | PromptPlan | None",
        skin_tone: str | None,
        person_type: str | None,
    ) -> PromptPlan | None:
        """The plan to draw, its final prompt to come unless it is the user's; None for a prompt as it is."""
        if rewrite is None or isinstance(rewrite, PromptPlan):
            return rewrite
        if isinstance(rewrite, (str, Path)):
            name = str(rewrite)
            if name not in self._rewriters:
                self._rewriters[name] = Rewriter.load(name)
            rewrite = self._rewriters[name]
        return rewrite.rewrite(prompt, skin_tone, person_type).edited()

    def _combination(
        self, asked: str | PromptPlan, template: str, skin_tone: str | None, person_type: str | None
    ) -> Combination | None:
        """What is to be drawn by parts, each with its caption; None for what is drawn as a whole."""
        whole = isinstance(asked, PromptPlan) and (asked.own_final_prompt or self.defaults.plan_fields)
        if whole or not self.defaults.parts or template == "{prompt}":
            return None
        styles = dict(self.defaults.parts) | {source: source for source in SOURCES}
        said = set(re.findall(r"[\w-]+", template.lower()))
        source = next((source for style, source in styles.items() if style.lower() in said), "noto")
        found = read(asked.subject if isinstance(asked, PromptPlan) else asked, self.words, source)

        def caption(part: Part) -> str:
            person = (skin_tone, person_type) if part.role == "person" else ()
            return compose(part.text, template, *person)

        return found and found.captioned(caption)

    def _denoised(
        self,
        noise: mx.array,
        seed: int,
        schedule: Schedule,
        start: Start,
        conditions: Conditions,
        guidance: float,
        step_done: Callable[[mx.array], None],
    ) -> mx.array:
        """The latents of one picture, (1, h, w, c), evaluated."""
        if start.latents is None:
            x = noise * schedule.init_noise_sigma
        else:
            x = schedule.add_noise(start.latents, noise, start.step)
        history: History = ()
        for step in range(start.step, len(schedule.timesteps)):
            scaled = schedule.scale_model_input(x, step)
            output = self._predict(scaled, schedule.timesteps[step], conditions, guidance, start.beside)
            drawn = step_noise(seed, step, x.shape) if schedule.stochastic else None
            x, history = schedule.step(output, step, x, history, drawn)
            mx.eval(x, history)
            last = step + 1 == len(schedule.timesteps)
            step_done(x if last else history[0])
        return x

    def _conditions(self, prompt: str, negative_prompt: str, guidance: float) -> Conditions:
        two = guidance > 1 and not self._guided_within
        conditions = self.text(prompt, negative_prompt if two else None, self.size)
        if channels := self.unet.config.time_cond_proj_dim:
            conditions.added["timestep_cond"] = guidance_embedding(guidance, channels)
        return conditions

    def _start(
        self, schedule: Schedule, image: Image.Image | None, strength: float | None, mask: Image.Image | None
    ) -> Start:
        """Where to begin for a user's picture. Raises UserError for what does not go together."""
        if self._repaints and (image is None or mask is None):
            raise UserError(f"The model {self.name} repaints pictures: it needs an image and a mask.")
        if mask is not None and not self._repaints:
            raise UserError(f"The model {self.name} takes no mask: only inpainting models do.")
        if image is None:
            if strength is not None:
                raise UserError("A strength says how far an image is changed: it needs one.")
            return Start()
        if strength is None:
            strength = STRENGTH if mask is None else 1.0
        picture = fit_picture(image, *self.size)
        recipe: dict[str, Any] = {"strength": strength, "image_sha256": fingerprint(picture)}
        step, pixels = schedule.start(strength), to_array(picture)
        if mask is None:
            return Start(step, self._encode(pixels), None, recipe)
        fitted = fit_mask(mask, *self.size)
        repainted = to_array(fitted.convert("RGB")) > 0
        beside = mx.concatenate(
            [latent_mask(fitted, self.vae.downscale), self._encode(mx.where(repainted, 0, pixels))], axis=-1
        )
        latents = None if strength == 1 else self._encode(pixels)
        return Start(step, latents, beside, recipe | {"mask_sha256": fingerprint(fitted)})

    def _noise(self, seed: int) -> mx.array:
        return mx.random.normal((1, *self.latents_shape), key=mx.random.key(seed))

    @property
    def _unet(self) -> Callable[..., mx.array]:
        """The UNet; on a GPU compiled. On a CPU that would take its C++ compiler a minute, for a fifth of a step."""
        if on_cpu():
            return self.unet
        # Arrays may change under what is compiled, layers and numbers may not.
        adapters = self.adapters.recipe
        if self._compiled is None or self._compiled[0] != adapters:
            self._compiled = adapters, mx.compile(self.unet, inputs=self.unet.state)
        return self._compiled[1]

    def _predict(
        self, x: mx.array, timestep: float, conditions: Conditions, guidance: float, beside: mx.array | None
    ) -> mx.array:
        """The guided prediction, float32, for latents (1, h, w, c)."""
        dtype = self.unet.conv_norm_out.weight.dtype
        if beside is not None:
            x = mx.concatenate([x, beside], axis=-1)
        rows = len(conditions.states)
        sample = mx.broadcast_to(x, (rows, *x.shape[1:])).astype(dtype)
        added = {name: value.astype(dtype) for name, value in conditions.added.items()}
        timesteps = mx.full((rows,), timestep)
        output = self._unet(sample, timesteps, conditions.states.astype(dtype), added).astype(mx.float32)
        if rows == 1:
            return output
        unconditional, conditional = output[:1], output[1:]
        return unconditional + guidance * (conditional - unconditional)

    def _encode(self, pixels: mx.array) -> mx.array:
        """Pictures (1, H, W, 3) in [-1, 1] -> their mean latents, scaled."""
        config = self.vae.config
        mean, _ = self.vae.encode(pixels.astype(_dtype(self.vae)))
        return (mean.astype(mx.float32) - (config.shift_factor or 0.0)) * config.scaling_factor

    def _decode(self, latents: mx.array, vae: Autoencoder) -> Image.Image:
        config = vae.config
        latents = latents / config.scaling_factor + (config.shift_factor or 0.0)
        pictures = vae.decode(latents.astype(_dtype(vae)))
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
        unet, vae = self.unet.config, self.vae.config
        widths = unet.cross_attention_dim
        width = widths[0] if isinstance(widths, tuple) else widths
        latents = vae.latent_channels
        own = unet.in_channels if self._repaints else latents
        for what, ours, theirs in (
            ("the text encoders' hidden_size and the UNet's cross_attention_dim", self.text.width, width),
            ("the autoencoder's latent_channels and the UNet's in_channels", own, unet.in_channels),
            ("the autoencoder's latent_channels and the UNet's out_channels", latents, unet.out_channels),
            ("the autoencoder's out_channels and those of an RGB picture", vae.out_channels, 3),
        ):
            if ours != theirs:
                raise UserError(f"The model's parts do not fit: {what} differ ({ours} and {theirs}).")
        for tokenizer, encoder in zip(self.text.tokenizers, self.text.encoders, strict=True):
            text = encoder.config
            for what, needs, holds in (
                ("vocab_size", tokenizer.vocab_size, text.vocab_size),
                ("max_position_embeddings", tokenizer.max_length, text.max_position_embeddings),
            ):
                if needs > holds:
                    raise UserError(
                        f"The model's parts do not fit: the tokenizer needs a {what} of {needs}, not {holds}."
                    )
        if (unet.addition_embed_type == "text_time") != (len(self.text.encoders) == 2):
            raise UserError(
                "The model's parts do not fit: two text encoders and an addition_embed_type of text_time go together."
            )
        _sample_size(self.unet.raw_config)


def _check_agreement(
    plan: PromptPlan, skin_tone: str | None, person_type: str | None, negative_prompt: str, template: str | None
) -> None:
    """Raise UserError where an argument would be ignored for what the plan says."""
    asked = {"skin tone": skin_tone, "person type": person_type, "negative prompt": negative_prompt}
    for what, value in asked.items():
        planned = getattr(plan, what.replace(" ", "_"))
        if value and value != planned and (planned or what != "negative prompt"):
            says = f"says {planned}" if planned else "says none"
            raise UserError(f"The {what} {value} was asked for and the plan {says}: change the plan's.")
    if template is not None and plan.own_final_prompt:
        raise UserError("The plan has a final prompt of its own, which stands in no template: leave one of them out.")


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


def _component(folder: Path, *kinds: type, quantization: Quantization | None = None) -> Any:
    """One of a model's parts. Raises UserError where its config describes another kind."""
    component = load_model(folder, quantization=quantization)
    if not isinstance(component, kinds):
        raise UserError(f"{folder}: config.json describes another kind of model than {kinds[0].__name__}.")
    return component


def _dtype(vae: Autoencoder) -> mx.Dtype:
    """What an autoencoder computes in: half precision on a GPU, where its config says that it stands that."""
    return vae.encoder.conv_in.weight.dtype if isinstance(vae, AutoencoderKL) else vae.encoder.layers[0].weight.dtype


def _version() -> str:
    try:
        return version("mlx-genmoji")
    except PackageNotFoundError:
        return "unknown"
