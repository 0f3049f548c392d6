"""Reading prompts for a model with a closed vocabulary: no caption reaches it that it was not trained on.

A prompt becomes one of the model's labels, or a combination of labels. What is not understood is left out, and said in
the reading's notes. What only some prompts need (other languages, the grammar, combinations) is imported for them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..checkpoint import Defaults
from ..errors import UserError, quoted
from ..families.base import Family
from ..prompt.lexicon import PERSON_TYPES, SKIN_TONES, emojis
from ..prompt.safety import check_safe
from ..prompt.words import Words
from . import AS_IS, OpenReader, Options, Reading
from .lexicon import Lexicon
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..combinations.combination import Combination
    from ..generation.variation import Variation
    from ..prompt.llm.rewriter import Rewriter
    from ..prompt.parser import Parsed
    from ..prompt.plan import PromptPlan
    from .scene import Scene

MAX_SUGGESTIONS = 3

GROWN_UPS = {"girl": "woman", "boy": "man", "child": "person"}
"""Children, whose hair the model does not know -> who is drawn with that hair."""

SMOLLM2 = "smollm2"


class ClosedReader(OpenReader):
    """Reads prompts for a model that declares what it draws."""

    closed: ClassVar[bool] = True

    def __init__(self, family: Family, defaults: Defaults, words: Words, vocabulary: Vocabulary):
        super().__init__(family, defaults, words)
        self.vocabulary = vocabulary

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words that are understood."""
        return Lexicon(self.vocabulary, self.words)

    @property
    def styles(self) -> Mapping[str, str]:
        return {style: f"{{prompt}}, {style}" for style in self.vocabulary.styles}

    def read(self, prompt: str, options: Options) -> Reading:
        options = self.with_style(options)
        if options.template == AS_IS:
            return super().read(prompt, options)
        if options.rewrite is None and prompt in self.vocabulary and prompt in _things():
            return self._read_label(prompt, options)
        return self._read_text(prompt, options)

    def _read_label(self, label: str, options: Options) -> Reading:
        """The same as `_read_text` for a prompt that is exactly the label of a thing, without reading its words."""
        check_safe(label)
        skin_tone, person_type = _people(None, None, options)
        self.route(skin_tone, person_type)
        template = self._template(options.template, None)
        return Reading(
            self.caption(label, template, skin_tone),
            template,
            skin_tone,
            person_type,
            notes=_without_negative(options.negative_prompt),
            label=label,
            words=label,
        )

    def _read_text(self, prompt: str, options: Options) -> Reading:
        """What any prompt, or the plan that a rewriter makes of it, means."""
        from ..prompt.parser import parse

        plan = self.plan(prompt, options)
        english = plan.text if plan else _in_english(prompt)
        text, style = self._without_style(english)
        parsed = parse(text, max_characters=None)
        skin_tone, person_type = _people(parsed, plan, options)
        self.route(skin_tone, person_type)
        template = self._template(options.template, style)
        scene, combination, notes = self._understood(prompt, parsed.subject, person_type, template, options, plan)
        assert scene.subject is not None
        if plan is None and english != prompt:
            notes = (f"Read in English: {quoted(repr(english), 80)}.", *notes)
        final_prompt = self.caption(scene.subject, template, skin_tone)
        if combination is not None:
            combination = combination.captioned(lambda part: self.caption(part.label, template, skin_tone))
        if plan is not None:
            plan = replace(plan, final_prompt=final_prompt, composed_prompt=final_prompt)
        return Reading(
            final_prompt,
            template,
            skin_tone,
            person_type,
            "",
            plan,
            combination,
            (*notes, *_without_negative(options.negative_prompt or (plan.negative_prompt if plan else ""))),
            label=scene.subject,
            words=parsed.subject,
            has_emoji=any(unicodedata.category(char) == "So" for char in prompt),
        )

    def vary(self, reading: Reading, seed: int, options: Options) -> tuple[Reading, Variation | None]:
        drawn_freely = options.image is None and options.latents is None and isinstance(options.combine, bool)
        if not options.variety or not drawn_freely or not reading.words:
            return reading, None
        from .variety import vary

        def caption(label: str) -> str:
            return self.caption(label, reading.template, reading.skin_tone)

        varied, variation = vary(reading, seed, options.variety, self.lexicon, caption)
        if varied.plan is not None:
            prompt = varied.final_prompt
            varied = replace(varied, plan=replace(varied.plan, final_prompt=prompt, composed_prompt=prompt))
        return varied, variation

    def plan(self, prompt: str, options: Options) -> PromptPlan | None:
        rewrite = options.rewrite
        from ..prompt.plan import PromptPlan

        if rewrite is None or isinstance(rewrite, PromptPlan) or options.template == AS_IS:
            return super().plan(prompt, options)
        from ..prompt.parser import parse
        from .filling import fill

        text, style = self._without_style(_in_english(prompt))
        parsed = parse(text, max_characters=None)
        scene = self._scene(parsed.subject)
        added = fill(parsed.subject, scene, self.lexicon, self.load_rewriter(rewrite))
        plan = PromptPlan.of(parsed, options.skin_tone, options.person_type)
        subject = f"{parsed.subject}, {style}" if style else parsed.subject
        changes: dict[str, Any] = {"subject": subject, "source": "llm" if added else "template", **added}
        return replace(plan, **changes)

    def load_rewriter(self, rewrite: str | Path | Rewriter) -> Rewriter:
        """The language model of a name; SmolLM2 without its adapter, which was trained for other answers."""
        if rewrite == SMOLLM2:
            from ..prompt.llm.smollm2 import smollm2_folder

            return super().load_rewriter(smollm2_folder())
        return super().load_rewriter(rewrite)

    def _without_style(self, text: str) -> tuple[str, str | None]:
        """A prompt without the style that it ends with ("octopus, flat"), and that style."""
        for style in self.vocabulary.styles:
            for ending in (f", {style}", f" in {style}", f" {style} style", f" in {style} style"):
                if text.lower().rstrip(" .").endswith(ending):
                    return text.rstrip(" .")[: -len(ending)], style
        return text, None

    def _template(self, requested: str | None, style: str | None) -> str:
        """The template of the user, else that of a style of the model, else the adapter's or the model's."""
        if requested is not None:
            check_safe(requested)
            if "{prompt}" not in requested:
                raise UserError(f"The template {requested!r} has no {{prompt}} in it.")
            return requested
        return f"{{prompt}}, {style}" if style else self.template

    def _understood(
        self,
        prompt: str,
        subject: str,
        person_type: str | None,
        template: str,
        options: Options,
        plan: PromptPlan | None,
    ) -> tuple[Scene, Combination | None, tuple[str, ...]]:
        """The scene of a prompt, its combination and its notes. Raises UserError where nothing is understood."""
        from .scene import Scene

        added = plan is not None and plan.adds_fields
        combination = None if added else self._plain_combination(subject, template, options)
        if combination is not None:
            return Scene(combination.subject.label, subject), combination, ()
        scene, notes = self._scene_without_flags(subject)
        if plan is not None and added:
            from .filling import add_fields

            scene, notes = add_fields(scene, plan, self.lexicon)
        if scene.subject is None:
            raise UserError(self._nothing_known(prompt))
        grown_up = GROWN_UPS.get(scene.subject)
        if scene.hair and grown_up and f"{grown_up}: {scene.hair}" in self.vocabulary:
            scene.nearest.append((scene.subject, f"{grown_up}: {scene.hair}"))
            scene.subject = grown_up
        scene.subject = self._person(scene.subject, scene.hair, person_type)
        if scene.hair and not scene.subject.endswith(scene.hair):
            scene.unknown.append(scene.hair)
        combination, left_out = self._combination(scene, template, options)
        from .notes import notes_of

        return scene, combination, (*notes, *notes_of(scene, left_out, combination, self.lexicon))

    def caption(self, label: str, template: str, skin_tone: str | None) -> str:
        """The caption of a label in the style of a template; an adapter's own style is taken as it is."""
        style = template.replace("{prompt}", "").strip(" ,")
        if style in self.vocabulary.styles:
            return self.vocabulary.caption(label, style, skin_tone)
        toned = any(skin_tone in tones for tones in self.vocabulary.labels[label].values())
        return template.replace("{prompt}", f"{label}, {skin_tone} skin tone" if toned else label)

    def _plain_combination(self, text: str, template: str, options: Options) -> Combination | None:
        """The combination that a text is in the wordings of `combinations.phrases`, each part by its plain name."""
        if not self.defaults.parts or not _wants_parts(options) or "+" in text:
            return None
        if self.vocabulary.spelled(text) is not None:
            return None
        from ..combinations.reading import read
        from .plain import is_plain

        found = read(text, self.words, self.emoji_set(template))
        return found if found is not None and is_plain(found, text, self.vocabulary) else None

    def _scene_without_flags(self, text: str) -> tuple[Scene, tuple[str, ...]]:
        """The scene of a text in which countries' flags are plain ones, and the note about that."""
        from .flags import DRAWN_AS, country_flags, note, with_plain_flags
        from .notes import drawn_name

        flags = country_flags(text)
        if not flags or self.vocabulary.spelled(text) is not None:
            return self._scene(text), ()
        scene = self._scene(with_plain_flags(text))
        scene.nearest = [(words, label) for words, label in scene.nearest if label != DRAWN_AS]
        return scene, (note(flags, drawn_name(DRAWN_AS)),)

    def _scene(self, text: str) -> Scene:
        from .grammar import understand
        from .scene import Scene

        label = self.vocabulary.spelled(text) or self.lexicon.label(text)
        if label is not None:
            return Scene(label, text)
        return understand(text, self.lexicon)

    def _person(self, label: str, hair: str | None, person_type: str | None) -> str:
        """The label of the same person with this hair and person type, where the model draws that."""
        who = person_type if person_type in ("man", "woman", "person") else None
        for form in (
            f"{label}: {hair}" if hair else "",
            f"{who}: {hair}" if hair and who and label in ("man", "woman", "person") else "",
            f"{who} {label.removeprefix('person ')}" if who else "",
        ):
            if form in self.vocabulary:
                return form
        return label

    def _combination(
        self, scene: Scene, template: str, options: Options
    ) -> tuple[Combination | None, Sequence[tuple[str, str]]]:
        """The combination of a scene's wishes, and the kinds and labels of those that cannot be drawn."""
        if not scene.wishes:
            return None, ()
        if not self.defaults.parts or not _wants_parts(options):
            return None, [(wish.kind, wish.label) for wish in scene.wishes]
        from ..combinations.arrange import Wish, arrange, best_drawing, part_of

        assert scene.subject is not None
        emoji_set = self.emoji_set(template)
        wishes = [Wish(wish.kind, wish.label) for wish in scene.wishes]
        subject, rest = best_drawing(part_of(scene.subject), wishes, emoji_set)
        if subject.label in self.vocabulary:
            scene.subject, wishes = subject.label, rest
        combination, refused = arrange(part_of(scene.subject), wishes, emoji_set)
        return combination, [(wish.kind, wish.label) for wish in refused]

    def _nothing_known(self, prompt: str) -> str:
        from .flags import is_country, message

        if is_country(prompt):
            return message()
        near = self.lexicon.nearest(prompt, MAX_SUGGESTIONS)
        hint = f"; the nearest that can be drawn: {', '.join(near)}" if near else ""
        return f"Nothing in {quoted(repr(prompt), 80)} is known to the model{hint}."


def _wants_parts(options: Options) -> bool:
    """Whether a combination may be drawn by parts: also for a picture, to which the whole of it is likened."""
    return options.combine is True and options.latents is None


def _without_negative(negative_prompt: str) -> tuple[str, ...]:
    """A note about a negative prompt, if there is one."""
    if not negative_prompt:
        return ()
    from .notes import without_negative

    return without_negative(negative_prompt)


def _in_english(prompt: str) -> str:
    """The prompt in English words, as far as the tables of its language have them."""
    from .languages import translate

    found = translate(prompt)
    if found is None:
        return prompt
    # The words that are refused in other languages are none of their tables.
    check_safe(prompt)
    return found[1]


@cache
def _things() -> frozenset[str]:
    """The labels of emoji that show a thing: none of their words names a person or a skin tone."""
    return frozenset(entry.label for entry in emojis().values() if entry.kind not in ("person", "symbol"))


def _people(parsed: Parsed | None, plan: PromptPlan | None, options: Options) -> tuple[str | None, str | None]:
    """Skin tone and person type: what the prompt says, else the plan, else the options. Raises UserError."""
    for what, value, known in (
        ("skin tone", options.skin_tone, SKIN_TONES),
        ("person type", options.person_type, PERSON_TYPES),
    ):
        if value is not None and value not in known:
            raise UserError(f"There is no {what} {value!r}; there are {', '.join(known)}.")
    skin_tone = (parsed and parsed.skin_tone) or (plan and plan.skin_tone) or options.skin_tone
    person_type = (parsed and parsed.person_type) or (plan and plan.person_type) or options.person_type
    return skin_tone, person_type


def make_reader(family: Family, defaults: Defaults, words: Words, vocabulary: Vocabulary | None) -> OpenReader:
    """The reader for a model. vocabulary: what it draws, if that is a closed list."""
    if vocabulary is None:
        return OpenReader(family, defaults, words)
    return ClosedReader(family, defaults, words, vocabulary)
