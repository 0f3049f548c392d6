"""Genmoji: a prompt in, stickers out.

prompt -> request (`generation.request`) -> latents, once for each caption (`generation.denoise`) -> picture
(`generation.finished`) -> sticker with its recipe (`generation.recipe`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from .checkpoint import DEFAULTS_FILE, Defaults
from .errors import UserError
from .families import load_family
from .families.base import Family
from .families.stable_diffusion import StableDiffusion
from .generation import Callback, Drawing, Each, Request, in_batches, to_picture
from .generation.recipe import ModelFacts, Recipe, package_version
from .generation.request import prepare, request_again
from .hub import BUILTIN, BUILTIN_NAME, locate, preset_of
from .models.ops import drawing
from .prompt import PERSON_TYPES, SKIN_TONES
from .prompt.words import Words
from .reader import AS_IS, Options
from .reader.closed_form import make_reader
from .reader.vocabulary import Vocabulary
from .sticker import Outlines, Sticker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .combinations.combination import Combination
    from .families.stable_diffusion import Autoencoder, TextTowers
    from .lora.active import Adapters, AdapterSpec
    from .models.unet import UNet2DConditionModel
    from .prompt import CaptionForm, PromptPlan, Rewriter

__all__ = ["BUILTIN", "BUILTIN_NAME", "DEFAULTS_FILE", "PERSON_TYPES", "SKIN_TONES", "Defaults", "Genmoji"]


class Genmoji:
    """A diffusion model ready to draw. Use `Genmoji.load`.

    Load and generate in the same thread: MLX's arrays belong to the thread that made them.
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
        """folder: where the model was loaded from, None if it was made in memory. revision: its hub commit.
        words: its synonyms. vocabulary: what it draws, if that is a closed list."""
        self.family = family
        self.defaults = defaults
        self.name = name
        self.folder = folder
        self.revision = revision
        self.words = words or Words({})
        self.family.name = name
        self.reader = self._reader = make_reader(family, defaults, self.words, vocabulary)
        self._outlines = Outlines(folder if defaults.parts else None)
        self._drawings: dict[tuple[Any, ...], Image.Image] | None = None
        """Pictures drawn within `keeping_drawings`, by caption, seed and settings; None outside of it."""
        self._drawing: Drawing | None = None
        """The newest call's."""

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        preview: str | Path | None = None,
        bits: int | None = None,
        adapters: str | Path | Sequence[AdapterSpec] = (),
        vae: str | Path | None = None,
        allow_pickle: bool = False,
    ) -> Genmoji:
        """Load a model: a diffusers folder, an id of the Hugging Face hub, a name in `presets`, or "builtin" or None.

        Supported are the pipelines in `families.PIPELINES`: Stable Diffusion 1.x, 2.x, XL, LCM and inpainting models.
        revision: a branch, tag or commit on the hub. adapters: see `set_adapters`.
        preview: the folder or id of an AutoencoderTiny (TAESD), which decodes previews faster than the model's own.
        bits: quantizes the UNet while it is loaded; text encoders get at least 8 bits, the autoencoder none.
        vae: the folder, file or id of an autoencoder to use instead. allow_pickle: read PyTorch's files (.bin) where
        there are no others; nothing in them is run. Raises UserError for what is missing, damaged or unsupported.
        """
        if (preset := preset_of(model)) is not None:
            return preset.load(cls.load, adapters, vae, preview=preview, bits=bits, allow_pickle=allow_pickle)
        folder, name, commit = locate(model, revision, allow_pickle)
        family, defaults = load_family(folder, name, bits=bits, preview=preview, vae=vae, allow_pickle=allow_pickle)
        genmoji = cls(
            family,
            defaults=defaults,
            name=name,
            folder=folder,
            revision=commit,
            words=Words.load(folder),
            vocabulary=Vocabulary.load(folder),
        )
        genmoji.set_adapters(adapters, allow_pickle=allow_pickle)
        return genmoji

    def set_adapters(self, adapters: str | Path | Sequence[AdapterSpec], *, allow_pickle: bool = False) -> None:
        """Draw with these adapters instead of those before, each alone or with its weight: (file, 0.8).

        An adapter is a file, a folder or owner/name[@revision][/file] on the Hugging Face hub: LoRA, LyCORIS, textual
        inversion. Its weight is by default what its card recommends, or 1. allow_pickle: read pickles, running no code.
        An empty list removes all. A folder with an index (`lora.persona_index`) has an adapter for each skin tone and
        person type: each request is then drawn with its own, or with the style's and a warning. The model stays loaded.
        Raises UserError if one cannot be read or is for another model; warns if it was trained for other weights.
        """
        if isinstance(adapters, str | Path) or adapters or self._reader.adapters is not None:
            self.adapters.set(adapters, allow_pickle)

    @property
    def adapters(self) -> Adapters:
        """The adapters that it draws with."""
        if self._reader.adapters is None:
            from .lora.active import Adapters

            self._reader.adapters = Adapters(self.family)
        return self._reader.adapters

    @drawing()
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
        style: str | None = None,
        rewrite: str | Path | Rewriter | PromptPlan | None = None,
        sampler: str | None = None,
        image: Image.Image | None = None,
        strength: float | None = None,
        mask: Image.Image | None = None,
        latents: mx.array | NDArray[np.float32] | None = None,
        callback: Callback | None = None,
        each: Each | None = None,
        combine: bool | Combination = True,
        variety: float = 1.0,
        trigger: bool = True,
        size: int | None = None,
        width: int | None = None,
        height: int | None = None,
        clip_skip: int | None = None,
        spacing: str | None = None,
        karras: bool | None = None,
        prompt_weights: bool = False,
        long_prompts: bool = False,
        noise: str = "mlx",
    ) -> list[Sticker]:
        """Draw `count` candidates of `prompt`. Candidate i is the same as a single one with the seed `seed + i`.

        steps, guidance, template: None is the model's default; for the template that of an adapter, if it has one. The
        template "{prompt}" leaves the prompt as it is; any other also replaces words that the model does not know
        (`prompt.words`). guidance (Ho and Salimans, 2022): 1 or less disables it, as in diffusers.
        sampler: a name of `samplers.SAMPLERS`, of diffusers' classes or of A1111's menu ("DPM++ 2M Karras"); None is
        the model's own. spacing: of the timesteps, leading, trailing or linspace. karras: whether to use their sigmas.
        rewrite: None draws the prompt itself. "smollm2", the id or folder of another mlx-lm model, or a `Rewriter`
        first makes a plan, which is in the recipe. A `PromptPlan`, such as an edited one, is drawn as it is; its final
        prompt is made from its fields unless you wrote one. See `reader.filling` for a closed vocabulary.
        image: a picture to start from. strength: how much of it changes, from 0 (hardly) to 1 (entirely); 0.8 by
        default, with a mask 1. A closed vocabulary's model likens its drawing to it (`generation.likeness`).
        mask: for an inpainting model, white where `image` is repainted.
        latents: the initial noise before the sampler's scaling, float32 (count, height / f, width / f, channels).
        callback: called after each step with its number, the number of all candidates' steps, and predicted latents,
        which `preview` decodes. If it returns False, Cancelled is raised. each: called with each finished sticker.
        combine: whether a model of single emoji draws a combination ("flying pig") part by part and assembles the parts
        (`combinations.assemble`). Not with `image`, `latents` or the template "{prompt}". Or the combination itself.
        variety: how much candidates differ, 0 to 1 (`reader.variety`). Without a closed vocabulary it does nothing.
        trigger: add the trigger words of the model and its adapters that a prompt lacks, if no template is given.
        size, or width and height: of the picture in pixels, multiples of the autoencoder's factor (8); by default the
        model's own. clip_skip: how many of the text encoder's last layers to leave out, counted as in diffusers.
        prompt_weights: reads "(word:1.3)" and "[word]" as A1111 does (`prompt.weights`). long_prompts: reads prompts of
        more than 75 tokens in chunks instead of cutting them.
        noise: "torch" is the noise of PyTorch's CPU generator, which gives the picture of diffusers for the same seed.
        Warns of what is left out of the prompt or drawn as something else (`Sticker.notes`).
        Raises UserError for an argument that is out of range or contradicts the plan.
        """
        arguments = {name: x for name, x in locals().items() if name not in ("self", "prompt", "callback", "each")}
        request = prepare(prompt, Options(**arguments), self._reader, self._facts)
        # A drawing that is kept has to be the same whatever it is put together with.
        if self._drawings is None:
            request = in_batches(request, self.family)
        return self._started(request).stickers(callback, each)

    @drawing()
    def replay(
        self, recipe: Mapping[str, Any], *, image: Image.Image | None = None, mask: Image.Image | None = None
    ) -> Sticker:
        """Draw a sticker again from its recipe (`sticker.read_recipe`): the same pixels on the machine that drew it.

        image, mask: those that it started from, if any. Raises UserError if the recipe is damaged, or if the model, the
        adapters or the pictures are not those that drew the sticker.
        """
        from .generation.replaying import check_replay

        stored = Recipe.from_dict(recipe)
        check_replay(stored, self._model_facts, self.family, self.adapters, image, mask)
        options = Options(seed=stored.seed, image=image, strength=stored.image.get("strength"), mask=mask)
        request = request_again(stored, options, self.family)
        return self._started(replace(request, recipes=[replace(stored, version=package_version())])).stickers()[0]

    def caption_form(self, template: str | None = None) -> CaptionForm:
        """The form of the model's captions, from which a plan's final prompt is made."""
        return self._reader.caption_form(template)

    def draws_parts(self, template: str | None = None) -> bool:
        """Whether `generate` draws combinations by parts, with this template or by default."""
        template = self._reader.template if template is None else template
        return bool(self.defaults.parts) and template != AS_IS

    def combination(
        self,
        prompt: str,
        *,
        template: str | None = None,
        skin_tone: str | None = None,
        person_type: str | None = None,
    ) -> Combination | None:
        """The combination that `generate` draws part by part for a prompt; None if it draws the prompt as a whole."""
        options = Options(template=template, skin_tone=skin_tone, person_type=person_type)
        return self._reader.read(prompt, options).combination

    @contextmanager
    def keeping_drawings(self) -> Iterator[None]:
        """Within the block, draw each caption once for the same seed and settings, and reuse its picture."""
        before, self._drawings = self._drawings, {}
        try:
            yield
        finally:
            self._drawings = before

    def preview(self, latents: mx.array) -> Image.Image:
        """The picture of a callback's latents (1, h, w, c); within the callback, the candidate as far as it is."""
        if self._drawing is not None and self._drawing.batch:
            return self._drawing.preview(latents)
        return to_picture(self.family.decode(latents, preview=True))

    @property
    def styles(self) -> list[str]:
        """The names that `style` takes, the usual one first."""
        return list(self._reader.styles)

    @property
    def models(self) -> dict[str, nn.Module]:
        """The components that an adapter can change, by their names in the model's folder."""
        return self.family.models

    @property
    def unet(self) -> UNet2DConditionModel:
        """The UNet. Only Stable Diffusion models have `unet`, `text`, `vae` and `scheduler`."""
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
            raise UserError(f"{self.name} is not a Stable Diffusion model.")
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
        """A hash of the loaded weights; None if the model was not loaded from a folder."""
        return None if self.family.weights is None else self.family.weights.sha256

    @property
    def dense_sha256(self) -> str | None:
        """The `sha256` of the model that this folder was quantized from; None if it was not, or not known."""
        return self.family.dense_sha256

    @property
    def quantization(self) -> dict[str, Any] | None:
        """How the weights are quantized, by component; None if none are."""
        return self.family.quantization

    @property
    def _model_facts(self) -> ModelFacts:
        return ModelFacts(self.name, self.revision, self.sha256, self.quantization)

    def _facts(self) -> dict[str, Any]:
        """The fields of a recipe about the model and its adapters."""
        adapters = () if self._reader.adapters is None else tuple(self._reader.adapters.recipe)
        return {"model": self._model_facts, "adapters": adapters, "version": package_version()}

    def _started(self, request: Request) -> Drawing:
        """The drawing of a request, which `preview` shows from now on."""
        drawings = {} if self._drawings is None else self._drawings
        parts = dict(self.defaults.parts)
        self._drawing = Drawing(self.family, request, parts=parts, outlines=self._outlines, drawings=drawings)
        return self._drawing
