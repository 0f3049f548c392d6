"""The final prompt by rule: a user's prompt, skin tone and person type in the caption template of a drawing model."""

import re

from ..errors import UserError
from .lexicon import PERSON_TYPES, SKIN_TONES, kinds
from .nouns import people_named
from .parser import parse
from .safety import check_safe, clean_final


def compose(prompt: str, template: str, skin_tone: str | None = None, person_type: str | None = None) -> str:
    """The template with person type, prompt and skin tone in the place of `{prompt}`.

    compose("astronaut", "{prompt}, 3d", "dark", "woman") -> "woman astronaut, dark skin tone, 3d". Emojis become words.
    A skin tone or person type in the prompt takes precedence over the arguments. The template "{prompt}" leaves the
    words of the prompt unchanged. Raises UserError for an empty prompt, an unknown skin tone or person type, and a
    template without `{prompt}`; UnsafePrompt if the result is refused.
    """
    text = clean_final(prompt)
    if not text:
        raise UserError('The prompt is empty: say what to draw, for example "flying pig".')
    if "{prompt}" not in template:
        raise UserError(f"The template {template!r} has no {{prompt}} in it.")
    _check("skin tone", skin_tone, SKIN_TONES)
    _check("person type", person_type, PERSON_TYPES)
    if template != "{prompt}":
        parsed = parse(prompt, max_characters=None)
        text = parsed.subject
        skin_tone, person_type = parsed.skin_tone or skin_tone, parsed.person_type or person_type
    text = with_person(text, person_type)
    if skin_tone:
        text = f"{text}, {skin_tone} skin tone"
    final = template.replace("{prompt}", text)
    check_safe(final)
    return final


def with_person(text: str, person_type: str | None) -> str:
    """`text` with the person type before it, unless it names one itself, as "grandpa" does."""
    if person_type is None or people_named(text):
        return text
    words = re.findall(r"[\w'-]+", text.lower())
    neutral = person_type == "person" and any(kinds().get(word) == "person" for word in words)
    return text if person_type in words or neutral else f"{person_type} {text}"


def _check(name: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise UserError(f"There is no {name} {value!r}; there are {', '.join(known)}.")
