"""Sentences for the user about what of a prompt is left out, or is drawn as something else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ..errors import quoted
from ..prompt.safety import clean_final
from .lexicon import Lexicon, key, rows, words_of
from .settling import kept_in

if TYPE_CHECKING:
    from ..combinations.combination import Combination
    from .scene import Scene

HAIR = ("hair", "beard")
"""Endings of what is no label, but is told of too: "curly hair"."""

# How each kind of wish that is left out is called before its label.
WORDING = {
    "at neck": "{} at the neck",
    "colour": "the colour {}",
    "count": "{} of them",
    "emotion": "the look of {}",
    "fire": "flames",
    "frozen": "ice",
    "giant": "its great size",
    "hearts": "hearts",
    "on head": "{} on the head",
    "place": "the place",
    "sparkles": "sparkles",
    "tiny": "its small size",
    "wings": "wings",
}


def drawn_name(label: str) -> str:
    """What a drawing shows, with its article: "a cup of coffee", "two open hands"."""
    from ..combinations import places
    from ..combinations.names import name_of
    from ..english import with_article

    if label.endswith(HAIR) and ":" not in label:
        return label
    label = places.backdrop(label) or label
    return _names().get(label) or with_article(name_of(label))


@cache
def _names() -> dict[str, str]:
    return {row[0]: row[1] for row in rows("drawn-names.tsv")}


def notes_of(
    scene: Scene, left_out: Sequence[tuple[str, str]], combination: Combination | None, lexicon: Lexicon
) -> tuple[str, ...]:
    """One sentence for each word that is drawn as something else, or not drawn.

    left_out: kinds and labels of the wishes that have no place in the combination.
    """
    notes = [f'"{typed}" is read as "{meant}".' for typed, meant in dict.fromkeys(scene.read_as)]
    notes += _left_out_words(scene, combination, lexicon)
    notes += [f'"{words}" is drawn as {drawn_name(label)}.' for words, label in _replaced(scene)]
    notes += _single_things(scene, combination)
    notes += _kept(scene, combination)
    if left_out:
        notes.append(f"Left out: {', '.join(_in_words(*wish) for wish in left_out)}.")
    return tuple(notes)


def _left_out_words(scene: Scene, combination: Combination | None, lexicon: Lexicon) -> list[str]:
    """Words of which nothing was made: those that are known and cannot be drawn, and those that are not known."""
    things = ", ".join(drawn_name(label) for label in _drawn(scene, combination))
    notes = []
    words = list(dict.fromkeys(scene.unknown))
    known = [word for word in words if all(part in lexicon.known_words for part in words_of(word))]
    unknown = [word for word in words if word not in known]
    if known:
        notes.append(f"{_listed(known)} cannot be drawn; drawn: {things}.")
    if unknown:
        notes.append(f"{_listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not known; drawn: {things}.")
    return notes


def _drawn(scene: Scene, combination: Combination | None) -> list[str]:
    if combination is None:
        return [scene.subject or ""]
    joined = [item.part.label for item in combination.joined if item.part and item.kind != "emotion"]
    return [combination.subject.label, *joined]


def _single_things(scene: Scene, combination: Combination | None) -> list[str]:
    """Sentences about things of which a prompt has several and the picture one."""
    from ..combinations.names import name_of

    drawn = _drawn(scene, combination)[1:]
    return [
        f'Only one {name_of(label)} is drawn, not "{number}".'
        for number, label in dict.fromkeys(scene.single)
        if label in drawn
    ]


def _kept(scene: Scene, combination: Combination | None) -> list[str]:
    """Sentences about what a prompt denies and the drawing has all the same."""
    from ..combinations.arrange import part_of

    subject = combination.subject if combination else part_of(scene.subject or "")
    return [
        f'"without {words}" cannot be kept: the drawing of {drawn_name(subject.label)} stays whole.'
        for words, _ in dict.fromkeys(scene.denied)
        if kept_in(subject.label, subject.role, words)
    ]


def _replaced(scene: Scene) -> list[tuple[str, str]]:
    """Words and the labels that are drawn instead of what they name, each once: "red cape", not also "cape"."""
    replaced = [(words, label) for words, label in dict.fromkeys(scene.nearest) if not _is_name(words, label)]
    return [
        (words, label)
        for words, label in replaced
        if not any(
            label == other and key(words) != key(more) and {*key(words)} <= {*key(more)} for more, other in replaced
        )
    ]


def _is_name(words: str, label: str) -> bool:
    """Whether words are the label, its everyday name, or a plural of these."""
    from ..combinations.names import name_of
    from ..english import plural

    names = (label, name_of(label), drawn_name(label).removeprefix("a ").removeprefix("an "))
    return key(words) in {key(form) for name in names for form in (name, plural(name))}


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _in_words(kind: str, label: str) -> str:
    """A wish that is left out, as it is told to the user."""
    wording = WORDING.get(kind, "{}")
    named = label if kind in ("colour", "count") else drawn_name(label) if label else kind
    return wording.format(named)


def without_negative(negative_prompt: str) -> tuple[str, ...]:
    """A note about a negative prompt: a model that was trained without one draws grey with it. Raises UnsafePrompt."""
    words = clean_final(negative_prompt)
    if not words:
        return ()
    said = quoted(repr(words), 80)
    return (f'The model takes no negative prompt, {said} is left out; write "without" in the prompt instead.',)
