"""A request to the demo, and its validation: every value may come from a stranger's program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_genmoji.english import with_article
from mlx_genmoji.errors import UserError, quoted
from mlx_genmoji.packs.moods import DEFAULT_MOODS
from mlx_genmoji.prompt import PERSON_TYPES, SKIN_TONES, PromptPlan
from mlx_genmoji.prompt.lexicon import GARMENTS, Entry
from mlx_genmoji.prompt.parser import spell_out
from mlx_genmoji.prompt.plan import OPTIONAL
from mlx_genmoji.prompt.safety import MAX_CHARACTERS, check_safe, clean

from ..generating import SAMPLER_NAMES
from .upload import read_picture

MAX_LETTERS = 500
MAX_COUNT = 8
MAX_STEPS = 50
MAX_GUIDANCE = 30.0
MAX_SEED = 2**32 - 1

# The kinds of emoji that can wear or hold another.
LIVING = ("person", "animal", "creature", "feeling")


@dataclass(frozen=True)
class Request:
    """A drawing to make. `Request.read` makes one of unchecked values."""

    prompt: str
    count: int = 4
    seed: int | None = None
    skin_tone: str | None = None
    person_type: str | None = None
    negative_prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    style: str | None = None
    """One of the styles that the model and the adapter declare; None is the usual one."""
    image: bytes | None = None
    """The file of a picture to start from."""
    strength: float | None = None
    """How much of that picture changes, from 0 to 1."""
    variety: float | None = None
    """How much candidates differ, from 0 to 1; None is 1, or 0 for the stickers of a pack."""
    model: str | None = None
    """The name of one of the demo's models; None is the first."""
    adapter: str | None = None
    """The name of one of the demo's adapters; None draws without one."""
    plan: PromptPlan | None = None
    """An edited plan to draw instead of the prompt."""
    pack: bool = False
    """Draw a sticker pack of the prompt, a sticker for each of the default moods, instead of candidates."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Request:
        """Validate `values`, by field; None and "" are the default. Raises UserError for a wrong type or range."""
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        plan = None if given.get("plan") is None else _plan(given["plan"])
        prompt = _text(given, "prompt") or (plan.subject if plan else "")
        if not clean(prompt):
            raise UserError('The prompt is empty: say what to draw, for example "flying pig".')
        count = _whole(given, "count", 1, MAX_COUNT)
        return cls(
            prompt=prompt,
            count=cls.count if count is None else count,
            seed=_whole(given, "seed", 0, MAX_SEED),
            skin_tone=_choice(given, "skin_tone", SKIN_TONES),
            person_type=_choice(given, "person_type", PERSON_TYPES),
            negative_prompt=clean(_text(given, "negative_prompt")),
            steps=_whole(given, "steps", 1, MAX_STEPS),
            guidance=_number(given, "guidance", 0, MAX_GUIDANCE),
            sampler=_choice(given, "sampler", SAMPLER_NAMES),
            style=clean(_text(given, "style")) or None,
            image=_picture(given.get("image")),
            strength=_number(given, "strength", 0, 1),
            variety=_number(given, "variety", 0, 1),
            model=_text(given, "model") or None,
            adapter=_text(given, "adapter") or None,
            plan=plan,
            pack=_flag(given, "pack"),
        )

    @property
    def tiles(self) -> int:
        """How many pictures the drawing has, or a pack at most."""
        return len(DEFAULT_MOODS) if self.pack else self.count


def combined(prompt: str) -> str:
    """Replace a prompt of two emoji, "🐷 + 🦋" or "🐷🦋", by words: "pig face with butterfly".

    "🐱👑" -> "cat face wearing a crown", "🐻🍕" -> "bear holding a pizza". Any other prompt is returned unchanged.
    """
    parts = [part for part in spell_out(clean(prompt))[0] if isinstance(part, Entry) or part.strip(" +&\u200d")]
    if len(parts) != 2 or not all(isinstance(part, Entry) for part in parts):
        return prompt
    first, second = (part for part in parts if isinstance(part, Entry))
    if first.kind not in LIVING and second.kind in LIVING:
        first, second = second, first
    if first.kind in LIVING and second.label.split()[-1] in GARMENTS:
        return f"{first.label} wearing {with_article(second.label)}"
    if first.kind in LIVING and second.kind in ("food", "plant", "thing"):
        return f"{first.label} holding {with_article(second.label)}"
    return f"{first.label} with {second.label}"


def _plan(given: Any) -> PromptPlan:
    if isinstance(given, PromptPlan):
        plan = given
    elif isinstance(given, Mapping):
        plan = PromptPlan.from_dict(given)
    else:
        raise UserError(f"The plan is {quoted(given, 40)}, not an object with a subject.")
    required = ("subject", "category", "final_prompt", "composed_prompt", "negative_prompt")
    texts: dict[str, Any] = {
        name: clean(_text(plan.to_dict(), name)) or None for name in (*required, *OPTIONAL, "place")
    }
    for name, text in texts.items():
        if text:
            check_safe(text)
            # Prompts are longer than the other fields: they hold all of them.
            limit = MAX_LETTERS if name.endswith("_prompt") else MAX_CHARACTERS
            if len(text) > limit:
                raise UserError(f"The plan's {name} has {len(text):,} characters; at most {limit} are allowed.")
    texts |= {name: texts[name] or "" for name in required}
    return PromptPlan.from_dict(plan.to_dict() | texts | {"dropped": {}})


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name) or ""
    label = _label(name)
    if not isinstance(value, str):
        raise UserError(f"The {label} is {quoted(value, 40)}, not a text.")
    if len(value) > MAX_LETTERS:
        raise UserError(f"The {label} has {len(value):,} characters; at most {MAX_LETTERS} are allowed.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"The {label} is not valid Unicode.") from None
    return value


def _picture(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else read_picture(value)


def _choice(given: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str | None:
    value = given.get(name)
    if value is not None and value not in known:
        raise UserError(f"There is no {_label(name)} {quoted(value, 40)}; there are {', '.join(known)}.")
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"The {_label(name)} is {quoted(value, 40)}, not a number.")
    # An integer may have a million digits: nothing is computed from it or printed before its size is checked.
    if not least <= value <= most:
        actual = f", not {value:g}" if abs(value) < 1e9 else ""
        raise UserError(f"The {_label(name)} must be from {least:g} to {most:,.10g}{actual}.")
    return float(value)


def _whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = _number(given, name, least, most)
    if value is not None and not value.is_integer():
        raise UserError(f"The {_label(name)} is {value:g}, not a whole number.")
    return None if value is None else int(value)


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise UserError(f"The {_label(name)} is {quoted(value, 40)}, not true or false.")
    return value


def _label(name: str) -> str:
    return name.replace("_", " ")
