"""Reading a prompt, once: `Options` go in, one `Reading` comes out, which every later step takes.

A model's form decides how: `OpenReader` for models that take any text, which gets the prompt as it is, or in a template
and in words that the model knows; `closed_form.ClosedReader` for models whose folder declares what they draw
(`vocabulary`). A prompt that is exactly one of a vocabulary's labels is read without anything else; for
other prompts `languages` puts them into English, `lexicon` looks words up in the tables of `tables/`, and `grammar`
makes a scene of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..checkpoint import EMOJI_SETS, Defaults
from ..errors import UserError
from ..prompt.safety import check_safe, clean_final
from ..prompt.words import Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    import mlx.core as mx
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ..combinations.combination import Combination, Part
    from ..families.base import Family, Settings
    from ..generation.variation import Variation
    from ..lora.active import Adapters
    from ..prompt import CaptionForm, PromptPlan, Rewriter


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
    style: str | None = None
    rewrite: str | Path | Rewriter | PromptPlan | None = None
    sampler: str | None = None
    image: Image.Image | None = None
    strength: float | None = None
    mask: Image.Image | None = None
    latents: mx.array | NDArray[np.float32] | None = None
    combine: bool | Combination = True
    variety: float = 1.0
    trigger: bool = True
    size: int | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    spacing: str | None = None
    karras: bool | None = None
    prompt_weights: bool = False
    long_prompts: bool = False
    noise: str = "mlx"

    @property
    def settings(self) -> Settings:
        """The options that the family carries out. Raises UserError for a value that no model takes."""
        from ..families.base import Settings

        names = ("size", *(field.name for field in fields(Settings)))
        return Settings.of(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Reading:
    """What a model draws for a prompt."""

    final_prompt: str
    """The caption of a drawing in one go."""
    template: str
    skin_tone: str | None = None
    person_type: str | None = None
    negative_prompt: str = ""
    plan: PromptPlan | None = None
    """Of a rewriter, or the one that was given."""
    combination: Combination | None = None
    """The parts to draw, each with its caption, and how they are put together; None for a drawing in one go."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what of the prompt was left out, or is drawn as something else."""
    label: str = ""
    """What a closed vocabulary's model draws in one go."""
    words: str = ""
    """What the prompt says, in English."""
    has_emoji: bool = False
    """Whether the prompt shows emoji as characters, which stand for exactly their drawings."""


AS_IS = "{prompt}"
"""The template of a model that takes any prompt: its text encoder gets the prompt as it is."""


class OpenReader:
    """Reads prompts for a model that takes any text: its defaults, its words, and the adapters that it draws with."""

    closed: ClassVar[bool] = False
    """Whether the model declares all that it draws."""
    adapters: Adapters | None = None
    """Set with the first adapter."""

    def __init__(self, family: Family, defaults: Defaults, words: Words):
        self.family = family
        self.defaults = defaults
        self.words = words
        self.rewriters: dict[str, Rewriter] = {}
        """The language models that were loaded, by name."""

    @property
    def template(self) -> str:
        """The adapter's template where it has one, else the model's."""
        return (self.adapters and self.adapters.template) or self.defaults.template

    @property
    def styles(self) -> Mapping[str, str]:
        """The templates of the styles that the model and its adapters declare, by their names; the usual first."""
        own = dict(self.defaults.styles)
        return own | self.adapters.styles if self.adapters else own

    def with_style(self, options: Options) -> Options:
        """The options with the template of the style that they name. Raises UserError for a style that there is not."""
        if options.style is None:
            return options
        if options.template is not None:
            raise UserError("Give either a style or a template.")
        named = {name.casefold(): template for name, template in self.styles.items()}
        if options.style.casefold() not in named:
            there_are = f"it has {' and '.join(self.styles)}" if named else "it declares none"
            raise UserError(f"The model {self.family.name} has no style {options.style!r:.80}; {there_are}.")
        return replace(options, template=named[options.style.casefold()], style=None)

    def route(self, skin_tone: str | None, person_type: str | None) -> None:
        """Choose the adapter for a skin tone and person type, where there is a folder of them."""
        if self.adapters is not None:
            self.adapters.route(skin_tone, person_type)

    def caption_form(self, template: str | None = None) -> CaptionForm:
        """How a plan's final prompt is made for the model."""
        from ..prompt import CaptionForm

        template = self.template if template is None else template
        words = Words({}) if template == AS_IS else self.words
        return CaptionForm(template, self.family.fits, self.defaults.plan_fields, words.own)

    def read(self, prompt: str, options: Options) -> Reading:
        """What is drawn for a prompt. Chooses among adapters by the skin tone and person type.

        Raises UserError for an empty or contradictory request, UnsafePrompt for a refused one.
        """
        reading = self._read(prompt, self.with_style(options))
        return reading if self.adapters is None else replace(reading, notes=(*reading.notes, *self.adapters.notes))

    def _read(self, prompt: str, options: Options) -> Reading:
        """`read` without the notes of adapters' cards."""
        plan = self.plan(prompt, options)
        if plan is not None:
            return self._read_plan(plan, options)
        from ..prompt import compose, parse

        negative_prompt = clean_final(options.negative_prompt)
        template = self.template if options.template is None else options.template
        skin_tone, person_type = options.skin_tone, options.person_type
        if template == AS_IS and not (self.adapters and self.adapters.routes):
            final_prompt = compose(prompt, template, skin_tone, person_type)
            return self._as_is(Reading(final_prompt, template, skin_tone, person_type, negative_prompt), options)
        parsed = parse(prompt, max_characters=None)
        skin_tone, person_type = parsed.skin_tone or skin_tone, parsed.person_type or person_type
        self.route(skin_tone, person_type)
        template = self.template if options.template is None else options.template
        if template == AS_IS:
            final_prompt = compose(prompt, template, options.skin_tone, options.person_type)
            return self._as_is(Reading(final_prompt, template, skin_tone, person_type, negative_prompt), options)
        template, notes = self._triggered(prompt, template, options)
        # A person type that the prompt names is among its words.
        added = None if parsed.person_type else person_type
        reading = Reading(
            compose(self.words.own(parsed.subject), template, skin_tone, added),
            template,
            skin_tone,
            person_type,
            negative_prompt,
            notes=notes,
        )
        return self._by_parts(parsed.subject, reading, options)

    def _triggered(self, text: str, template: str, options: Options) -> tuple[str, tuple[str, ...]]:
        """The template with the triggers of the model and its adapters that a prompt lacks, and notes.

        A template of the user's stays.
        """
        add = options.trigger and options.template is None
        notes: tuple[str, ...] = ()
        if self.defaults.trigger:
            from ..lora.triggers import with_trigger

            template, notes = with_trigger(self.defaults.trigger, text, template, add)
        if self.adapters is None:
            return template, notes
        template, more = self.adapters.with_triggers(text, options.negative_prompt, template, add)
        return template, (*notes, *more)

    def _as_is(self, reading: Reading, options: Options) -> Reading:
        """A prompt that is drawn as it is, in the triggers of adapters that it lacks. Raises UnsafePrompt."""
        template, notes = self._triggered(reading.final_prompt, reading.template, options)
        final_prompt = template.replace("{prompt}", reading.final_prompt)
        check_safe(final_prompt)
        return replace(reading, final_prompt=final_prompt, template=template, notes=(*reading.notes, *notes))

    def vary(self, reading: Reading, seed: int, options: Options) -> tuple[Reading, Variation | None]:
        """The reading of the candidate with a seed, and the changes of its picture; None where it is left as it is.

        The candidates of a model without a closed vocabulary differ by their noise alone.
        """
        return reading, None

    def _read_plan(self, plan: PromptPlan, options: Options) -> Reading:
        self.route(plan.skin_tone, plan.person_type)
        template = self.template if options.template is None else options.template
        words = plan.final_prompt if plan.own_final_prompt else plan.subject
        template, notes = self._triggered(words, template, options)
        # Only now is it known which adapter draws, and so which captions it was trained on.
        plan = plan.finished(self.caption_form(template))
        negative_prompt = clean_final(options.negative_prompt or plan.negative_prompt)
        reading = Reading(
            plan.final_prompt, template, plan.skin_tone, plan.person_type, negative_prompt, plan, notes=notes
        )
        if plan.own_final_prompt or self.defaults.plan_fields:
            return reading
        return self._by_parts(plan.subject, reading, options)

    def emoji_set(self, template: str) -> str:
        """The emoji set whose drawings the model's are like in the style of a template."""
        styles = dict(self.defaults.parts) | {name: name for name in EMOJI_SETS}
        words = set(template.lower().replace("{prompt}", " ").replace(",", " ").split())
        return next((likened for style, likened in styles.items() if style.lower() in words), "noto")

    def _by_parts(self, subject: str, reading: Reading, options: Options) -> Reading:
        """The reading with the combination that its subject names, for a model that draws combinations by parts."""
        if not self.defaults.parts or reading.template == AS_IS or not wants_parts(options):
            return reading
        from ..combinations.reading import read
        from ..prompt import compose

        def caption(part: Part) -> str:
            person = (reading.skin_tone, reading.person_type) if part.role == "person" else ()
            return compose(part.text, reading.template, *person)

        found = read(subject, self.words, self.emoji_set(reading.template))
        return replace(reading, combination=found and found.captioned(caption))

    def plan(self, prompt: str, options: Options) -> PromptPlan | None:
        """The plan to draw; its final prompt is still to be made, unless the user wrote one. None without rewriting."""
        rewrite = options.rewrite
        if rewrite is None:
            return None
        from ..prompt import PromptPlan

        if isinstance(rewrite, PromptPlan):
            _check_agreement(rewrite, options)
            return rewrite
        rewriter = self.load_rewriter(rewrite)
        return rewriter.rewrite(prompt, options.skin_tone, options.person_type).edited()

    def load_rewriter(self, rewrite: str | Path | Rewriter) -> Rewriter:
        """The language model of a name, loaded once."""
        if not isinstance(rewrite, (str, Path)):
            return rewrite
        from ..prompt import Rewriter

        name = str(rewrite)
        if name not in self.rewriters:
            self.rewriters[name] = Rewriter.load(name)
        return self.rewriters[name]


def wants_parts(options: Options) -> bool:
    """Whether a combination may be drawn by parts."""
    return options.combine is True and options.image is None and options.latents is None


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
