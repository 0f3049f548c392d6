"""The plan of a picture: the user's subject, the fields that were added to it, and the final prompt made of both."""

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

# The order in which fields are left out of a final prompt that is too long.
DROP_ORDER = ("colours", "holding", "wearing", "pose", "expression")

NO_ROOM = "no room in the text encoder"

SOURCES = ("llm", "partial", "template")


@dataclass(frozen=True)
class CaptionForm:
    """The form of the captions that a drawing model, or its adapter, was trained on."""

    template: str = "{prompt}"
    fits: Callable[[str], bool] = lambda text: True
    """Whether a text fits into the model's text encoder."""
    fields: tuple[str, ...] = OPTIONAL
    """Optional fields this model was trained on. Others are kept in the plan but not put into the final prompt."""
    own_words: Callable[[str], str] = lambda text: text
    """Replaces words of the subject by those that the model was trained on; the plan keeps the user's."""


@dataclass(frozen=True)
class PromptPlan:
    """Subject, skin tone and person type are the user's; the optional fields a language model's, or None."""

    subject: str
    category: str = "unknown"
    skin_tone: str | None = None
    person_type: str | None = None
    expression: str | None = None
    pose: str | None = None
    wearing: str | None = None
    holding: str | None = None
    colours: str | None = None
    place: str | None = None
    """Where the subject is. Only drawn by models with a closed vocabulary."""
    final_prompt: str = ""
    """The text that the drawing model reads: made of the fields for each drawing model, or edited by a user."""
    composed_prompt: str = ""
    """The final_prompt that was made of the fields. If final_prompt differs from it, a user has edited it."""
    negative_prompt: str = ""
    source: str = "template"
    """llm: a language model filled in all fields that it was asked for; partial: some of them; template: none."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """The reason by field for each that was not used."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            known = {"skin_tone": SKIN_TONES, "person_type": PERSON_TYPES, "source": SOURCES}.get(name)
            if known and value not in known and not (value is None and name != "source"):
                raise UserError(f"The plan's {name} is {quoted(value)}; there are {', '.join(known)}.")
            if name == "dropped":
                if not isinstance(value, Mapping):
                    raise UserError(f"The plan's dropped fields are {quoted(value)}, not fields and reasons.")
            elif not (
                isinstance(value, str) or (value is None and name in (*OPTIONAL, "place", "skin_tone", "person_type"))
            ):
                raise UserError(f"The plan's {name} is {quoted(value)}, not a text.")
        if not self.subject.strip():
            raise UserError("The plan has no subject: say what to draw.")

    @classmethod
    def of(cls, parsed: Parsed, skin_tone: str | None = None, person_type: str | None = None) -> PromptPlan:
        """The plan without a language model. skin_tone, person_type: the user's choice if the prompt names none.

        A skin tone or person type in the prompt takes precedence; the choice is then in `dropped`.
        """
        dropped = dict(parsed.dropped)
        chosen: dict[str, Any] = {"skin_tone": skin_tone, "person_type": person_type}
        for name, value in chosen.items():
            in_prompt = getattr(parsed, name)
            if in_prompt and value and in_prompt != value:
                dropped[name] = f"{value} was asked for, the prompt says {in_prompt}"
            chosen[name] = in_prompt or value
        return cls(parsed.subject, parsed.category, **chosen, dropped=dropped)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PromptPlan:
        """The inverse of `to_dict`, for recipes and edited plans. Raises UserError for anything else."""
        known = {item.name for item in fields(cls)}
        if not isinstance(values, Mapping) or not known >= values.keys() or "subject" not in values:
            raise UserError(f"A plan has a subject and may have {', '.join(sorted(known - {'subject'}))}, no more.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self) | {"dropped": dict(self.dropped)}
        if self.place is None:
            del values["place"]
        return values

    def edited(self, **changes: Any) -> PromptPlan:
        """The plan with `changes`. Clears the final prompt, which is then made again, unless it is one of them."""
        return self.from_dict(self.to_dict() | {"final_prompt": "", "composed_prompt": ""} | changes)

    @property
    def own_final_prompt(self) -> str | None:
        """The final prompt if a user wrote it; None if it was made of the fields."""
        text = clean_final(self.final_prompt)
        return text if text and self.final_prompt != self.composed_prompt else None

    @property
    def text(self) -> str:
        """What is read of it: the user's own final prompt, or the subject, to which the other fields are added."""
        return self.own_final_prompt or self.subject

    @property
    def adds_fields(self) -> bool:
        """Whether there is more to draw of it than its subject."""
        fields = (self.wearing, self.holding, self.pose, self.expression, self.place)
        return any(fields) and not self.own_final_prompt

    def finished(self, form: CaptionForm) -> PromptPlan:
        """The plan with the final prompt to draw: the one that a user wrote, else the one that `composed` makes."""
        written = self.own_final_prompt
        if written is None:
            return self.composed(form)
        check_safe(written)
        return replace(self, final_prompt=written)

    def composed(self, form: CaptionForm) -> PromptPlan:
        """The plan with a final prompt that fits into the text encoder: if it is too long, optional fields are left out
        in `DROP_ORDER`, then words at the end of the subject.

        Raises UserError for a template without `{prompt}` or without room for one, UnsafePrompt if the result is
        refused.
        """
        if "{prompt}" not in form.template:
            raise UserError(f"The template {form.template!r} has no {{prompt}} in it.")
        # Fields that did not fit another form may fit this one.
        dropped = {name: why for name, why in self.dropped.items() if not why.startswith(NO_ROOM)}
        used = [name for name in OPTIONAL if getattr(self, name) and name in form.fields]
        subject = clean(self.subject)
        for name in DROP_ORDER:
            if not form.fits(self._caption(subject, used, form)) and name in used:
                used.remove(name)
                dropped[name] = f"{NO_ROOM}: {getattr(self, name)}"
        while subject and not form.fits(self._caption(subject, used, form)):
            # Drop the last word, or half of the only word.
            subject = subject.rpartition(" ")[0] or subject[: len(subject) // 2]
        if not subject:
            raise UserError(f"The template {form.template!r} leaves no room for a prompt in the text encoder.")
        if lost := clean(self.subject)[len(subject) :].strip():
            dropped["subject"] = f"{NO_ROOM}: {lost}"
        final = self._caption(subject, used, form)
        check_safe(final)
        return replace(self, final_prompt=final, composed_prompt=final, dropped=dropped)

    def _caption(self, subject: str, used: list[str], form: CaptionForm) -> str:
        phrases = {"wearing": f"wearing {self.wearing}", "holding": f"holding {self.holding}"}
        subject = form.own_words(subject)
        parts = [with_person(subject, self.person_type), *(phrases.get(name) or getattr(self, name) for name in used)]
        if self.skin_tone:
            parts.append(f"{self.skin_tone} skin tone")
        return form.template.replace("{prompt}", ", ".join(parts))
