"""Triggers: the words that an adapter was trained with, and without which it may draw as if it were not there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .adapter import Adapter

AS_IS = "{prompt}"
TOKEN = re.compile(r"<\w+>|\b[A-Z]{2,}\b")


def with_triggers(
    adapters: Sequence[Adapter], text: str, negative_prompt: str, template: str, add: bool
) -> tuple[str, tuple[str, ...]]:
    """The template with the triggers that `text`, a prompt, and the template lack, and notes about them.

    add: put them into the template; otherwise a note says which are missing.
    """
    notes = []
    for adapter in adapters:
        everything = f"{text} {template} {negative_prompt}"
        trigger = trigger_of(adapter)
        if trigger is None:
            names = [token.name for token in adapter.learned.tokens]
            if names and not any(_has(everything, name) for name in (*names, *adapter.learned.aliases)):
                notes.append(f'The prompt lacks "{names[0]}", the token of {adapter.name}: write it where it belongs.')
        elif not _is_in(adapter, trigger, f"{text} {template}"):
            if add:
                template = template.replace("{prompt}", _joined(trigger))
                notes.append(f'The trigger "{trigger}" of {adapter.name} was added; --no-trigger leaves it out.')
            else:
                notes.append(f'The prompt lacks "{trigger}", the trigger of {adapter.name}: it may have no effect.')
    return template, tuple(notes)


def with_trigger(trigger: str, text: str, template: str, add: bool) -> tuple[str, tuple[str, ...]]:
    """`with_triggers` for the trigger of the model itself: one of its phrases between commas, or its token, suffices.

    A token is a word that is none of the language's: "TOK", "<s0><s1>".
    """
    everything = f"{text} {template}"
    tokens = TOKEN.findall(trigger)
    if any(_has(everything, token) for token in tokens) or (not tokens and _has_phrase(everything, trigger)):
        return template, ()
    if not add:
        return template, (f'The prompt lacks "{trigger}", the trigger of the model: it may draw as if untrained.',)
    note = f'The trigger "{trigger}" of the model was added; --no-trigger leaves it out.'
    return template.replace("{prompt}", _joined(trigger)), (note,)


def trigger_of(adapter: Adapter) -> str | None:
    """The card's trigger, or what stands for the tokens of an adapter that has layers too; None where there is none."""
    if adapter.card.trigger is not None:
        return adapter.card.trigger
    has_layers = adapter.layers or adapter.whole
    return next(iter(adapter.learned.aliases), None) if has_layers else None


def _is_in(adapter: Adapter, trigger: str, text: str) -> bool:
    """Whether a text has the trigger: its learned tokens if it has any, else one of its phrases between commas."""
    learned = adapter.learned
    tokens = [name for name in (*(token.name for token in learned.tokens), *learned.aliases) if _has(trigger, name)]
    if tokens:
        return any(_has(text, name) for name in (*(token.name for token in learned.tokens), *learned.aliases))
    return _has_phrase(text, trigger)


def _has_phrase(text: str, trigger: str) -> bool:
    return any(_has(text, phrase.strip()) for phrase in trigger.split(",") if phrase.strip())


def _has(text: str, phrase: str) -> bool:
    """Whether a text has a phrase, in any case, not within a longer word."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None


def _joined(trigger: str) -> str:
    """A template of a trigger: "an emoji of {prompt}", "{prompt}, in the style of x", "stickers, {prompt}"."""
    trigger = trigger.replace("{", "").replace("}", "").rstrip(" ,.")
    if re.match(r"(in|by|with)\s", trigger, re.IGNORECASE):
        return f"{{prompt}}, {trigger}"
    if re.match(r"(an?|the)\s", trigger, re.IGNORECASE) and not re.search(r"\sof\s", trigger):
        return f"{trigger} of {{prompt}}"
    return f"{trigger}, {{prompt}}"
