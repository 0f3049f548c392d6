"""Reading prompts for models that take any text: as it is, or in a template and in words that the model knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoint.defaults import EMOJI_SETS, Defaults
from ..errors import UserError
from ..families.base import Family
from ..lora.active import Adapters
from ..prompt import compose, parse
from ..prompt.safety import clean_final
from ..prompt.words import Words
from .options import Options
from .reading import Reading

if TYPE_CHECKING:
    from ..combinations.combination import Part
    from ..prompt import CaptionForm, PromptPlan, Rewriter

AS_IS = "{prompt}"
"""The template of a model that takes any prompt: its text encoder gets the prompt as it is."""


class OpenReader:
    """Reads prompts for one model: its defaults, its words, and the adapters that it draws with."""

    def __init__(self, family: Family, defaults: Defaults, words: Words, adapters: Adapters):
        self.family = family
        self.defaults = defaults
        self.words = words
        self.adapters = adapters
        self.rewriters: dict[str, Rewriter] = {}
        """The language models that were loaded, by name."""

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

    def read(self, prompt: str, options: Options) -> Reading:
        """What is drawn for a prompt. Chooses among adapters by the skin tone and person type.

        Raises UserError for an empty or contradictory request, UnsafePrompt for a refused one.
        """
        plan = self.plan(prompt, options)
        if plan is not None:
            return self._read_plan(plan, options)
        negative_prompt = clean_final(options.negative_prompt)
        template = self.template if options.template is None else options.template
        skin_tone, person_type = options.skin_tone, options.person_type
        if template == AS_IS and not self.adapters.routes:
            final_prompt = compose(prompt, template, skin_tone, person_type)
            return Reading(final_prompt, template, skin_tone, person_type, negative_prompt)
        parsed = parse(prompt, max_characters=None)
        skin_tone, person_type = parsed.skin_tone or skin_tone, parsed.person_type or person_type
        self.adapters.route(skin_tone, person_type)
        template = self.template if options.template is None else options.template
        if template == AS_IS:
            final_prompt = compose(prompt, template, options.skin_tone, options.person_type)
            return Reading(final_prompt, template, skin_tone, person_type, negative_prompt)
        # A person type that the prompt names is among its words.
        added = None if parsed.person_type else person_type
        reading = Reading(
            compose(self.words.own(parsed.subject), template, skin_tone, added),
            template,
            skin_tone,
            person_type,
            negative_prompt,
        )
        return self._by_parts(parsed.subject, reading, options)

    def _read_plan(self, plan: PromptPlan, options: Options) -> Reading:
        self.adapters.route(plan.skin_tone, plan.person_type)
        template = self.template if options.template is None else options.template
        # Only now is it known which adapter draws, and so which captions it was trained on.
        plan = plan.finished(self.caption_form(template))
        negative_prompt = clean_final(options.negative_prompt or plan.negative_prompt)
        reading = Reading(plan.final_prompt, template, plan.skin_tone, plan.person_type, negative_prompt, plan)
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
