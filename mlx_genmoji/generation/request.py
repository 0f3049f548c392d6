"""What is asked of a model, checked and read: the arguments of `Genmoji.generate` in, one `Request` out."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
from PIL import Image

from ..checkpoint.defaults import EMOJI_SETS, Defaults
from ..errors import UserError
from ..families.base import STRENGTH, Family, ImageStart
from ..lora.active import Adapters
from ..prompt import compose, parse
from ..prompt.safety import check_safe, clean_final
from ..prompt.words import Words
from ..samplers import Schedule
from .recipe import Recipe

if TYPE_CHECKING:
    from ..combinations.reading import Combination, Part
    from ..prompt import CaptionForm, PromptPlan, Rewriter

AS_IS = "{prompt}"
"""The template of a model that takes any prompt: its text encoder gets the prompt as it is."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `Genmoji.generate`, where they are explained."""

    count: int = 1
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str = ""
    skin_tone: str | None = None
    person_type: str | None = None
    template: str | None = None
    rewrite: str | Path | Rewriter | PromptPlan | None = None
    sampler: str | None = None
    image: Image.Image | None = None
    strength: float | None = None
    mask: Image.Image | None = None
    latents: mx.array | None = None
    combine: bool | Combination = True


@dataclass(frozen=True)
class Request:
    """What is drawn, and how."""

    captions: Sequence[str]
    """One for each drawing: a prompt's only one, or the parts of a combination, the subject last."""
    recipe: Recipe
    """Of the first candidate."""
    schedule: Schedule
    start: ImageStart
    count: int = 1
    seed: int = 0
    latents: mx.array | None = None
    """(count, h, w, c): the initial noise that a program gave."""

    @property
    def repeatable(self) -> bool:
        """Whether captions, seeds and settings alone decide what is drawn: no given noise, no picture to start from."""
        return self.latents is None and not self.recipe.image

    def noise(self, family: Family, i: int) -> mx.array:
        """The initial noise of candidate `i`, (1, h, w, c)."""
        return family.noise(self.seed + i) if self.latents is None else self.latents[i : i + 1]

    def recipe_of(self, i: int) -> Recipe:
        """The recipe of candidate `i`."""
        return replace(self.recipe, seed=self.seed + i if self.latents is None else None)


class Text(NamedTuple):
    """A prompt as it was read."""

    final_prompt: str
    subject: str
    """The prompt without what it says of skin tone."""
    template: str
    skin_tone: str | None
    person_type: str | None
    negative_prompt: str
    plan: PromptPlan | None


class Reader:
    """Reads prompts for one model: its defaults, its words, and the adapters that it draws with."""

    def __init__(self, family: Family, defaults: Defaults, words: Words, adapters: Adapters):
        self.family = family
        self.defaults = defaults
        self.words = words
        self.adapters = adapters
        self._rewriters: dict[str, Rewriter] = {}

    @property
    def template(self) -> str:
        """The adapter's template where it has one, else the model's."""
        return self.adapters.template or self.defaults.template

    def caption_form(self, template: str | None = None) -> CaptionForm:
        """How a plan's final prompt is made for the model."""
        from ..prompt import CaptionForm

        template = self.template if template is None else template
        words = Words({}) if template == AS_IS else self.words
        return CaptionForm(template, self.family.fits, self.defaults.plan_fields, words.own)

    def read(self, prompt: str, options: Options) -> Text:
        """The final prompt, and what the prompt or the options say of people. Routes adapters.

        Raises UserError for an empty or contradictory request, UnsafePrompt for a refused one.
        """
        plan = self._plan(prompt, options)
        if plan is not None:
            self.adapters.route(plan.skin_tone, plan.person_type)
            template = self.template if options.template is None else options.template
            # Only now is it known which adapter draws, and so which captions it was trained on.
            plan = plan.finished(self.caption_form(template))
            negative_prompt = clean_final(options.negative_prompt or plan.negative_prompt)
            return Text(
                plan.final_prompt, plan.subject, template, plan.skin_tone, plan.person_type, negative_prompt, plan
            )
        negative_prompt = clean_final(options.negative_prompt)
        template = self.template if options.template is None else options.template
        skin_tone, person_type = options.skin_tone, options.person_type
        if template == AS_IS and not self.adapters.routes:
            final_prompt = compose(prompt, template, skin_tone, person_type)
            return Text(final_prompt, prompt, template, skin_tone, person_type, negative_prompt, None)
        parsed = parse(prompt, max_characters=None)
        skin_tone, person_type = parsed.skin_tone or skin_tone, parsed.person_type or person_type
        self.adapters.route(skin_tone, person_type)
        template = self.template if options.template is None else options.template
        if template == AS_IS:
            final_prompt = compose(prompt, template, options.skin_tone, options.person_type)
        else:
            # A person type that the prompt names is among its words.
            added = None if parsed.person_type else person_type
            final_prompt = compose(self.words.own(parsed.subject), template, skin_tone, added)
        return Text(final_prompt, parsed.subject, template, skin_tone, person_type, negative_prompt, None)

    def combination(self, text: Text) -> Combination | None:
        """What is drawn by parts, each with its caption; None for what is drawn in one go."""
        plan = text.plan
        if plan is not None and (plan.own_final_prompt or self.defaults.plan_fields):
            return None
        if not self.defaults.parts or text.template == AS_IS:
            return None
        from ..combinations.reading import read

        styles = dict(self.defaults.parts) | {name: name for name in EMOJI_SETS}
        words = set(text.template.lower().replace("{prompt}", " ").replace(",", " ").split())
        emoji_set = next((likened for style, likened in styles.items() if style.lower() in words), "noto")
        found = read(text.subject, self.words, emoji_set)

        def caption(part: Part) -> str:
            person = (text.skin_tone, text.person_type) if part.role == "person" else ()
            return compose(part.text, text.template, *person)

        return found and found.captioned(caption)

    def _plan(self, prompt: str, options: Options) -> PromptPlan | None:
        """The plan to draw; its final prompt is still to be made, unless the user wrote one. None without rewriting."""
        rewrite = options.rewrite
        if rewrite is None:
            return None
        from ..prompt import PromptPlan, Rewriter

        if isinstance(rewrite, PromptPlan):
            _check_agreement(rewrite, options)
            return rewrite
        if isinstance(rewrite, (str, Path)):
            name = str(rewrite)
            if name not in self._rewriters:
                self._rewriters[name] = Rewriter.load(name)
            rewrite = self._rewriters[name]
        return rewrite.rewrite(prompt, options.skin_tone, options.person_type).edited()


def prepare(prompt: str, options: Options, reader: Reader, facts: Callable[[], Mapping[str, Any]]) -> Request:
    """The request that a prompt and its options make.

    facts: the recipe's `model`, `adapters` and `version`, once it is known which adapters draw. Raises UserError for an
    argument that is out of range or disagrees with another.
    """
    family, defaults = reader.family, reader.defaults
    steps = defaults.steps if options.steps is None else options.steps
    guidance = defaults.guidance if options.guidance is None else options.guidance
    text = reader.read(prompt, options)
    seed = check_numbers(options, guidance)
    if options.latents is not None:
        _check_latents(options.latents, options.count, family)
    strength = None if options.image is None else STRENGTH if options.strength is None else options.strength
    sampler, schedule = family.schedule(options.sampler, steps, strength)
    start = family.start(schedule, options.image, options.strength, options.mask)
    combination = None
    if not isinstance(options.combine, bool):
        combination = options.combine
    elif options.combine and options.image is None and options.latents is None:
        combination = reader.combination(text)
    recipe = Recipe(
        prompt=prompt,
        final_prompt=text.final_prompt,
        negative_prompt=text.negative_prompt,
        skin_tone=text.skin_tone,
        person_type=text.person_type,
        template=text.template,
        plan=text.plan,
        seed=seed,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        image=start.recipe,
        combination=combination,
        **facts(),
    )
    return Request(captions_of(recipe), recipe, schedule, start, options.count, seed, options.latents)


def request_again(recipe: Recipe, options: Options, family: Family) -> Request:
    """The request that a recipe was made by. options: its seed and strength, and the pictures that it started from.

    Raises UserError for a number that is out of range, UnsafePrompt for a caption that is refused.
    """
    if not recipe.final_prompt.strip():
        raise UserError("The recipe's 'final_prompt' is empty.")
    check_safe(recipe.final_prompt)
    seed = check_numbers(options, recipe.guidance)
    strength = options.strength
    _, schedule = family.schedule(recipe.sampler, recipe.steps, strength)
    start = family.start(schedule, options.image, strength, options.mask)
    return Request(captions_of(recipe), recipe, schedule, start, seed=seed)


def captions_of(recipe: Recipe) -> list[str]:
    """What is drawn, a caption each: the parts of a combination, the subject last, which previews so end with.

    Raises UnsafePrompt for a part that is refused.
    """
    if recipe.combination is None:
        return [recipe.final_prompt]
    captions = [part.text for part in reversed(recipe.combination.parts)]
    for caption in captions:
        check_safe(caption)
    return captions


def check_numbers(options: Options, guidance: float) -> int:
    """The seed, a random one where none is given. Raises UserError for a number that is out of range."""
    if options.count < 1:
        raise UserError(f"The count must be 1 or more, not {options.count}.")
    if not (math.isfinite(guidance) and guidance >= 0):
        raise UserError(f"The guidance must be 0 or more, not {guidance}.")
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    if not 0 <= seed < 2**63 - options.count:
        raise UserError(f"The seed must be a whole number from 0 to {2**63 - options.count - 1}, not {seed}.")
    return seed


def _check_latents(latents: mx.array, count: int, family: Family) -> None:
    expected = (count, *family.latents_shape)
    if tuple(latents.shape) != expected:
        raise UserError(f"The latents must have the shape {expected}, not {tuple(latents.shape)}.")
    if not mx.isfinite(latents).all().item():
        raise UserError("The latents hold values that are not finite numbers.")


def _check_agreement(plan: PromptPlan, options: Options) -> None:
    """Raise UserError where an option would be ignored in favour of the plan."""
    requested = {
        "skin tone": options.skin_tone,
        "person type": options.person_type,
        "negative prompt": options.negative_prompt,
    }
    for what, value in requested.items():
        planned = getattr(plan, what.replace(" ", "_"))
        if value and value != planned and (planned or what != "negative prompt"):
            says = f"says {planned}" if planned else "says none"
            raise UserError(f"The {what} {value} was asked for and the plan {says}: change the plan's.")
    if options.template is not None and plan.own_final_prompt:
        raise UserError("The plan has a final prompt of its own, which stands in no template: leave one of them out.")
