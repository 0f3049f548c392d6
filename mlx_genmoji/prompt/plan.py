"""The plan of a picture: what the user said, what was added to it, and the text that the drawing model is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import UserError, quoted
from .final_prompt import with_person
from .lexicon import PERSON_TYPES, SKIN_TONES
from .parser import Parsed
from .safety import check_safe, clean, clean_final

OPTIONAL = ("expression", "pose", "wearing", "holding", "colours")

# Which to leave out first where the text encoder has no room.
DROP_ORDER = ("colours", "holding", "wearing", "pose", "expression")

NO_ROOM = "no room in the text encoder"

SOURCES = ("llm", "partial", "template")


@dataclass(frozen=True)
class CaptionForm:
    """How a drawing model wants its captions: those that it, or its adapter, was trained on."""

    template: str = "{prompt}"
    fits: Callable[[str], bool] = lambda text: True
    """Whether the model's text encoder has room for all of a text."""
    fields: tuple[str, ...] = OPTIONAL
    """The optional fields that it makes something of; the others stay in the plan, and out of the final prompt."""
    own_words: Callable[[str], str] = lambda text: text
    """The subject in words that the model knows; the plan keeps the user's."""


@dataclass(frozen=True)
class PromptPlan:
    """What is drawn. Subject, tone and person type are the user's; the optional fields a language model's, or None."""

    subject: str
    category: str = "unknown"
    skin_tone: str | None = None
    person_type: str | None = None
    expression: str | None = None
    pose: str | None = None
    wearing: str | None = None
    holding: str | None = None
    colours: str | None = None
    final_prompt: str = ""
    """What the drawing model reads: your own words, or made of the fields, anew for each model that draws the plan."""
    composed_prompt: str = ""
    """What final_prompt was when it was made of the fields; where it is something else now, it is your own."""
    negative_prompt: str = ""
    source: str = "template"
    """llm: all that was asked for came from a language model; partial: some of it; template: nothing."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Fields that were not used, and why."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            known = {"skin_tone": SKIN_TONES, "person_type": PERSON_TYPES, "source": SOURCES}.get(name)
            if known and value not in known and not (value is None and name != "source"):
                raise UserError(f"The plan's {name} is {quoted(value)}; there are {', '.join(known)}.")
            if name == "dropped":
                if not isinstance(value, Mapping):
                    raise UserError(f"The plan's dropped fields are {quoted(value)}, not fields and reasons.")
            elif not (isinstance(value, str) or (value is None and name in (*OPTIONAL, "skin_tone", "person_type"))):
                raise UserError(f"The plan's {name} is {quoted(value)}, not a text.")
        if not self.subject.strip():
            raise UserError("The plan has no subject: say what to draw.")

    @classmethod
    def of(cls, parsed: Parsed, skin_tone: str | None = None, person_type: str | None = None) -> PromptPlan:
        """The plan without a language model. `skin_tone`, `person_type`: the user's choice where the prompt says none.

        What the prompt itself says counts more than the choice, which is then among what was dropped.
        """
        dropped = dict(parsed.dropped)
        chosen: dict[str, Any] = {"skin_tone": skin_tone, "person_type": person_type}
        for name, value in chosen.items():
            said = getattr(parsed, name)
            if said and value and said != value:
                dropped[name] = f"{value} was asked for, the prompt says {said}"
            chosen[name] = said or value
        return cls(parsed.subject, parsed.category, **chosen, dropped=dropped)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PromptPlan:
        """The plan of a recipe, or one that was edited. Raises UserError where it is none."""
        known = {item.name for item in fields(cls)}
        if not isinstance(values, Mapping) or not known >= values.keys() or "subject" not in values:
            raise UserError(f"A plan has a subject and may have {', '.join(sorted(known - {'subject'}))}, no more.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"dropped": dict(self.dropped)}

    def edited(self, **changes: Any) -> PromptPlan:
        """The plan with fields changed, and so, unless that is among them, with its final prompt to be made anew."""
        return self.from_dict(self.to_dict() | {"final_prompt": "", "composed_prompt": ""} | changes)

    @property
    def own_final_prompt(self) -> str | None:
        """The final prompt where somebody wrote it, and it was not made of the fields."""
        own = clean_final(self.final_prompt)
        return own if own and self.final_prompt != self.composed_prompt else None

    def finished(self, form: CaptionForm) -> PromptPlan:
        """The plan with the final prompt to draw: its own where it has one, else what `composed` makes for the form."""
        own = self.own_final_prompt
        if own is None:
            return self.composed(form)
        check_safe(own)
        return replace(self, final_prompt=own)

    def composed(self, form: CaptionForm) -> PromptPlan:
        """The plan with its final prompt, which fits the form: optional fields go first, the end of the subject last.

        Raises UserError for a template without `{prompt}` or without room, UnsafePrompt where the whole is refused.
        """
        if "{prompt}" not in form.template:
            raise UserError(f"The template {form.template!r} has no {{prompt}} in it.")
        # What another form had no room for, this one may have.
        dropped = {name: why for name, why in self.dropped.items() if not why.startswith(NO_ROOM)}
        used = [name for name in OPTIONAL if getattr(self, name) and name in form.fields]
        subject = clean(self.subject)
        for name in DROP_ORDER:
            if not form.fits(self._caption(subject, used, form)) and name in used:
                used.remove(name)
                dropped[name] = f"{NO_ROOM}: {getattr(self, name)}"
        while subject and not form.fits(self._caption(subject, used, form)):
            # Words from the end; letters where there is only one word.
            subject = subject.rpartition(" ")[0] or subject[: len(subject) // 2]
        if not subject:
            raise UserError(f"The template {form.template!r} leaves no room for a prompt in the text encoder.")
        if lost := clean(self.subject)[len(subject) :].strip():
            dropped["subject"] = f"{NO_ROOM}: {lost}"
        final = self._caption(subject, used, form)
        check_safe(final)
        return replace(self, final_prompt=final, composed_prompt=final, dropped=dropped)

    def _caption(self, subject: str, used: list[str], form: CaptionForm) -> str:
        said = {"wearing": f"wearing {self.wearing}", "holding": f"holding {self.holding}"}
        subject = form.own_words(subject)
        parts = [with_person(subject, self.person_type), *(said.get(name) or getattr(self, name) for name in used)]
        if self.skin_tone:
            parts.append(f"{self.skin_tone} skin tone")
        return form.template.replace("{prompt}", ", ".join(parts))
