"""What someone asks the demo for, read strictly: every value may come from a stranger's program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.prompt import PERSON_TYPES, SKIN_TONES, PromptPlan
from mlx_genmoji.prompt.lexicon import GARMENTS, Entry
from mlx_genmoji.prompt.parser import spell_out
from mlx_genmoji.prompt.plan import OPTIONAL
from mlx_genmoji.prompt.safety import MAX_CHARACTERS, check_safe, clean
from mlx_genmoji.samplers import SAMPLERS

MOST_LETTERS = 500
MOST_PICTURES = 8
MOST_STEPS = 50
MOST_GUIDANCE = 30.0
MOST_SEED = 2**32 - 1

LIVING = ("person", "animal", "creature", "feeling")


@dataclass(frozen=True)
class Request:
    """One drawing to make. Use `Request.read` for what comes from outside."""

    prompt: str
    count: int = 4
    seed: int | None = None
    skin_tone: str | None = None
    person_type: str | None = None
    negative_prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    model: str | None = None
    """A name of the models that the demo was started with; None is the first."""
    adapter: str | None = None
    """A name of the adapters that the demo was started with; None is none."""
    plan: PromptPlan | None = None
    """What to draw instead of the prompt, as someone edited it."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Request:
        """Raises UserError for a value that is of another kind or out of range; what is empty is the default."""
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        plan = None if given.get("plan") is None else _plan(given["plan"])
        prompt = _text(given, "prompt") or (plan.subject if plan else "")
        if not clean(prompt):
            raise UserError('The prompt is empty: say what to draw, for example "flying pig".')
        count = _whole(given, "count", 1, MOST_PICTURES)
        return cls(
            prompt=prompt,
            count=cls.count if count is None else count,
            seed=_whole(given, "seed", 0, MOST_SEED),
            skin_tone=_choice(given, "skin_tone", SKIN_TONES),
            person_type=_choice(given, "person_type", PERSON_TYPES),
            negative_prompt=clean(_text(given, "negative_prompt")),
            steps=_whole(given, "steps", 1, MOST_STEPS),
            guidance=_number(given, "guidance", 0, MOST_GUIDANCE),
            sampler=_choice(given, "sampler", tuple(SAMPLERS)),
            model=_text(given, "model") or None,
            adapter=_text(given, "adapter") or None,
            plan=plan,
        )


def combined(prompt: str) -> str:
    """The prompt; of two emojis, "🐷 + 🦋" or "🐷🦋", words that put them together: "pig face with butterfly".

    "🐱👑" -> "cat face wearing a crown", "🐻🍕" -> "bear holding a pizza". Any other prompt is returned as it is.
    """
    parts = [part for part in spell_out(clean(prompt))[0] if isinstance(part, Entry) or part.strip(" +&\u200d")]
    if len(parts) != 2 or not all(isinstance(part, Entry) for part in parts):
        return prompt
    first, second = (part for part in parts if isinstance(part, Entry))
    if first.kind not in LIVING and second.kind in LIVING:
        first, second = second, first
    if first.kind in LIVING and second.label.split()[-1] in GARMENTS:
        return f"{first.label} wearing {_a(second.label)}"
    if first.kind in LIVING and second.kind in ("food", "plant", "thing"):
        return f"{first.label} holding {_a(second.label)}"
    return f"{first.label} with {second.label}"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plan(given: Any) -> PromptPlan:
    if isinstance(given, PromptPlan):
        plan = given
    elif isinstance(given, Mapping):
        plan = PromptPlan.from_dict(given)
    else:
        raise UserError(f"The plan is {quoted(given, 40)}, not an object with a subject.")
    texts = ("subject", "category", "final_prompt", "composed_prompt", "negative_prompt")
    said = (*texts, *OPTIONAL)
    kept: dict[str, Any] = {name: clean(_text(plan.to_dict(), name)) or None for name in said}
    for name, text in kept.items():
        if text:
            check_safe(text)
            # The final prompt is all of them, in a template.
            most = MOST_LETTERS if name.endswith("_prompt") else MAX_CHARACTERS
            if len(text) > most:
                raise UserError(f"The plan's {name} has {len(text):,} characters; {most} is the most.")
    required = {name: kept[name] or "" for name in texts}
    return PromptPlan.from_dict(plan.to_dict() | kept | required | {"dropped": {}})


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name) or ""
    said = _words(name)
    if not isinstance(value, str):
        raise UserError(f"The {said} is {quoted(value, 40)}, not a text.")
    if len(value) > MOST_LETTERS:
        raise UserError(f"The {said} has {len(value):,} characters; {MOST_LETTERS} is the most.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"The {said} is no valid Unicode.") from None
    return value


def _choice(given: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str | None:
    value = given.get(name)
    if value is not None and value not in known:
        raise UserError(f"There is no {_words(name)} {quoted(value, 40)}; there are {', '.join(known)}.")
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"The {_words(name)} is {quoted(value, 40)}, not a number.")
    # Nothing is made of the number before it is known to be small: a whole one may have a million digits.
    if not least <= value <= most:
        shown = f", not {value:g}" if abs(value) < 1e9 else ""
        raise UserError(f"The {_words(name)} must be from {least:g} to {most:,.10g}{shown}.")
    return float(value)


def _whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = _number(given, name, least, most)
    if value is not None and not value.is_integer():
        raise UserError(f"The {_words(name)} is {value:g}, not a whole number.")
    return None if value is None else int(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
