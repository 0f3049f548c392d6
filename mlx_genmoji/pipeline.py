"""Genmoji: a prompt in, stickers out.

prompt -> request (`generation.request`) -> latents, once for each caption (`generation.denoise`) -> picture
(`generation.decode`) -> sticker with its recipe (`generation.recipe`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from .checkpoint.defaults import DEFAULTS_FILE, Defaults
from .errors import UserError, quoted
from .families import load_family
from .families.base import Family
from .families.stable_diffusion import StableDiffusion
from .generation.decode import put_together, to_picture
from .generation.denoise import Callback, Progress, denoise
from .generation.recipe import ModelFacts, Recipe, package_version
from .generation.request import Request, prepare, request_again
from .hub import BUILTIN, BUILTIN_NAME, locate
from .lora.active import Adapters, Given
from .models.ops import inference
from .models.ops.metal import wired_memory
from .prompt import PERSON_TYPES, SKIN_TONES
from .prompt.words import Words
from .quantization import Quantization
from .reader import make_reader
from .reader.options import Options
from .reader.vocabulary import Vocabulary
from .sticker import Sticker

if TYPE_CHECKING:
    from .combinations.reading import Combination
    from .families.clip_text import TextTowers
    from .families.stable_diffusion import Autoencoder
    from .models.unet import UNet2DConditionModel
    from .prompt import CaptionForm, PromptPlan, Rewriter

__all__ = ["BUILTIN", "BUILTIN_NAME", "DEFAULTS_FILE", "PERSON_TYPES", "SKIN_TONES", "Defaults", "Genmoji"]


class Genmoji:
    """A diffusion model ready to draw. Use `Genmoji.load`.

    MLX's arrays belong to the thread that made them: load and generate in one thread.
    """

    def __init__(
        self,
        family: Family,
        *,
        defaults: Defaults,
        name: str,
        folder: Path | None = None,
        revision: str | None = None,
        words: Words | None = None,
        vocabulary: Vocabulary | None = None,
    ):
        """folder: where the model was loaded from, None for one that was made in memory. revision: its hub commit.

        words: its synonyms. vocabulary: what it draws, if that is a closed list.
        """
        self.family = family
        self.defaults = defaults
        self.name = name
        self.folder = folder
        self.revision = revision
        self.words = words or Words({})
        self.family.name = name
        self.adapters = Adapters(family)
        self._reader = make_reader(family, defaults, self.words, self.adapters, vocabulary)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        preview: str | Path | None = None,
        bits: int | None = None,
        adapters: str | Path | Sequence[Given] = (),
    ) -> Genmoji:
        """Load a model: a diffusers folder, an id of the Hugging Face hub (fetched if it is not here yet), or the
        built-in one ("builtin" or None).

        Stable Diffusion 1.x, 2.x, XL and what was distilled from them, inpainting models and LCM; `families.PIPELINES`
        lists the pipelines. revision: a branch, tag or commit of the hub. preview: the folder or id of an
        AutoencoderTiny (TAESD), which decodes previews faster than the model's own autoencoder. bits: packs the UNet's
        weights while they are loaded; text encoders get 8 or more, the autoencoder stays as it is. adapters: see
        `set_adapters`. Raises UserError where a file is missing, damaged or not supported.
        """
        quantization = None if bits is None else Quantization(bits)
        folder, name, commit = locate(model, revision)
        family, defaults = load_family(folder, name, quantization=quantization, preview=preview)
        genmoji = cls(
            family,
            defaults=defaults,
            name=name,
            folder=folder,
            revision=commit,
            words=Words.load(folder),
            vocabulary=Vocabulary.load(folder),
        )
        genmoji.set_adapters(adapters)
        return genmoji

    def set_adapters(self, adapters: str | Path | Sequence[Given]) -> None:
        """Draw with these adapters instead of those before: files, each alone or with its weight: (file, 0.8).

        An empty list is the model without adapters. Or a folder with an index (`lora.persona_index`): each request is
        then drawn by the adapter for its skin tone and person type, else by the style's, with a warning. Quick: the
        model stays loaded. Raises UserError where one cannot be read or is for another model; warns of one that was
        trained on other weights.
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
        rewrite: str | Path | Rewriter | PromptPlan | None = None,
        sampler: str | None = None,
        image: Image.Image | None = None,
        strength: float | None = None,
        mask: Image.Image | None = None,
        latents: mx.array | None = None,
        callback: Callback | None = None,
        combine: bool | Combination = True,
    ) -> list[Sticker]:
        """Draw `count` candidates of `prompt`; candidate i is what seed + i gives alone. Evaluated on return.

        steps, guidance, template: None is the model's own (of the template an adapter's that has one). The template
        "{prompt}" leaves the prompt as it is; any other puts it into words that the model knows (`prompt.words`).
        guidance (Ho and Salimans, 2022): up to 1 is none, as in diffusers.
        sampler: a name of `samplers.SAMPLERS`; None is the model's own.
        rewrite: None is the prompt in the template. "smollm2", the id or folder of another language model of mlx-lm's,
        or a `Rewriter` first makes a plan of the prompt. A `PromptPlan`, such as an edited one, is drawn: its final
        prompt is made of its fields for this model, unless you wrote one. The plan is in the recipe.
        image: a picture to start from; strength: how much of it changes, from 0 (hardly) to 1 (wholly), by default 0.8,
        with a mask 1. mask: for an inpainting model, white where `image` is painted anew.
        latents: the initial noise, float32 (count, height / f, width / f, latent channels), before the sampler's
        scaling.
        callback: called after each step with its number, the number of all steps (of all candidates), and the
        prediction of the finished latents, which `preview` makes a picture of. If it returns False, Cancelled is
        raised.
        combine: whether a model that draws single emoji draws a combination ("flying pig") by parts, one after another,
        and puts them together by rule (`combinations.assemble`); a picture to start from, given latents and the
        template "{prompt}" are drawn in one go. Or the combination itself, with the captions of its parts.
        Raises UserError for an argument that is out of range or disagrees with the plan.
        """
        options = Options(
            count=count,
            seed=seed,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            skin_tone=skin_tone,
            person_type=person_type,
            template=template,
            rewrite=rewrite,
            sampler=sampler,
            image=image,
            strength=strength,
            mask=mask,
            latents=latents,
            combine=combine,
        )
        return self._draw(prepare(prompt, options, self._reader, self._facts), callback)

    @inference()
    @wired_memory()
    def replay(
        self, recipe: Mapping[str, Any], *, image: Image.Image | None = None, mask: Image.Image | None = None
    ) -> Sticker:
        """Draw a sticker again from its recipe (`sticker.read_recipe`): the same pixels on the machine that drew it.

        `image` and `mask`: those that it started from, if any. Raises UserError for a recipe that is damaged, and where
        another model, other adapters or another picture would give another sticker.
        """
        stored = Recipe.from_dict(recipe)
        self._check_replay(stored, image, mask)
        options = Options(seed=stored.seed, image=image, strength=stored.image.get("strength"), mask=mask)
        request = request_again(stored, options, self.family)
        return self._draw(replace(request, recipe=replace(stored, version=package_version())), None)[0]

    def caption_form(self, template: str | None = None) -> CaptionForm:
        """How the model wants its captions: what a plan's final prompt is made by."""
        return self._reader.caption_form(template)

    def preview(self, latents: mx.array) -> Image.Image:
        """The picture of a callback's latents (1, h, w, c)."""
        return to_picture(self.family.decode(latents, preview=True))

    @property
    def models(self) -> dict[str, nn.Module]:
        """The components that an adapter can change, by their names in the model's folder."""
        return self.family.models

    @property
    def unet(self) -> UNet2DConditionModel:
        """Of a Stable Diffusion model, as are `text`, `vae` and `scheduler`."""
        return self._stable_diffusion.unet

    @property
    def text(self) -> TextTowers:
        return self._stable_diffusion.text

    @property
    def vae(self) -> Autoencoder:
        return self._stable_diffusion.vae

    @property
    def scheduler(self) -> Mapping[str, Any]:
        return self._stable_diffusion.scheduler

    @property
    def _stable_diffusion(self) -> StableDiffusion:
        if not isinstance(self.family, StableDiffusion):
            raise UserError(f"{self.name} is no Stable Diffusion model.")
        return self.family

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latents of one picture."""
        return self.family.latents_shape

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture, in pixels."""
        return self.family.size

    @property
    def sha256(self) -> str | None:
        """A hash of the weights that were loaded; None where the model was not loaded from a folder."""
        return None if self.family.weights is None else self.family.weights.sha256

    @property
    def dense_sha256(self) -> str | None:
        """The `sha256` of the model before its folder was quantized; None where it was not, or is not known."""
        return self.family.dense_sha256

    @property
    def quantization(self) -> dict[str, Any] | None:
        """How the weights are packed, by component; None where none are."""
        configs = {name: Quantization.read(model.raw_config) for name, model in self.models.items()}
        return {name: config.as_config() for name, config in configs.items() if config is not None} or None

    def _facts(self) -> dict[str, Any]:
        """What a recipe holds of the model and its adapters."""
        model = ModelFacts(self.name, self.revision, self.sha256, self.quantization)
        return {"model": model, "adapters": tuple(self.adapters.recipe), "version": package_version()}

    def _draw(self, request: Request, callback: Callback | None) -> list[Sticker]:
        recipe, schedule, start = request.recipe, request.schedule, request.start
        conditions = []
        for caption in request.captions:
            conditions.append(self.family.conditions(caption, recipe.negative_prompt, recipe.guidance))
        mx.eval(conditions, start.latents, start.inpainting)
        steps = len(schedule.timesteps) - start.step
        progress = Progress(callback, request.count * len(conditions) * steps)
        stickers = []
        for i in range(request.count):
            noise, seed = request.noise(self.family, i), request.seed + i
            latents, pictures = [], []
            for part in conditions:
                latents.append(denoise(self.family, schedule, start, noise, seed, part, recipe.guidance, progress))
            for x in latents:
                pictures.append(to_picture(self.family.decode(x)))
            stickers.append(Sticker(put_together(recipe.combination, pictures), request.recipe_of(i).to_dict()))
        return stickers

    def _check_replay(self, recipe: Recipe, image: Image.Image | None, mask: Image.Image | None) -> None:
        """Raise UserError where this model, with these pictures and adapters, would draw another sticker."""
        from .pictures import fingerprint, fit_mask, fit_picture

        model = recipe.model
        if model.sha256 != self.sha256:
            raise UserError(f"The sticker was drawn by other weights, of the model {model.name!r}; load that one.")
        if model.quantization != self.quantization:
            theirs, ours = (quoted(value or "not packed") for value in (model.quantization, self.quantization))
            raise UserError(f"The sticker was drawn by weights in other bits: {theirs}; the model's here are {ours}.")
        if recipe.seed is None:
            raise UserError("The sticker was drawn from noise that a program gave, which the recipe does not hold.")
        for what, given, fit in (("image", image, fit_picture), ("mask", mask, fit_mask)):
            expected = recipe.image.get(f"{what}_sha256")
            if expected != (None if given is None else fingerprint(fit(given, *self.size))):
                wanted = f"needs the {what} that it started from" if expected else f"started from no {what}"
                raise UserError(f"The sticker {wanted}; {'another one' if given else 'none'} was given.")
        self.adapters.route(recipe.skin_tone, recipe.person_type)
        if list(recipe.adapters) != self.adapters.recipe:
            names = ", ".join(f"{adapter['name']} with a weight of {adapter['weight']}" for adapter in recipe.adapters)
            raise UserError(f"The sticker was drawn with {names or 'no adapters'}; give the same.")
