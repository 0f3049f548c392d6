"""Emoji in a row: what "🐷 + 👑" and "🔥🐉" do to each other."""

from __future__ import annotations

from ..combinations.emoji_lists import listed
from .lexicon import Lexicon
from .scene import Scene

ATTRIBUTES = {"fire": "fire", "wing": "wings", "sparkles": "sparkles", "hearts": "hearts", "red heart": "hearts"}
"""Emoji that stand for a look when they are joined to another."""

RIDDEN = frozenset((*listed("vehicles"), "flying saucer", "motor boat", "sailboat"))
BODIES = frozenset(listed("mounts"))
"""Emoji that are put side by side with another, being no smaller."""


def settle_row(scene: Scene, lexicon: Lexicon) -> None:
    """What emoji in a row ("🐷 + 👑", "🔥🐉") do to each other: the first that is no attribute is the subject."""
    row = [wish for wish in scene.wishes if wish.kind == "plus"]
    if not row or scene.subject is None:
        return
    labels = [scene.subject, *(wish.label for wish in row)]
    bodies = [label for label in labels if not _attribute(label, lexicon)]
    scene.subject = bodies[0] if bodies else labels[0]
    others = [label for label in labels if label != scene.subject]
    scene.wishes = [wish for wish in scene.wishes if wish.kind != "plus"]
    for label in others:
        scene.wish(*(_attribute(label, lexicon) or _beside_in_row(label)))


def _beside_in_row(label: str) -> tuple[str, str]:
    """What an emoji that is a thing of its own does after another: vehicles are ridden, small things are held."""
    if label in RIDDEN:
        return "riding", label
    return ("and" if label in BODIES else "with"), label


def _attribute(label: str, lexicon: Lexicon) -> tuple[str, str] | None:
    """The wish that an emoji stands for beside another: worn, shown by a face, or a look; None for a thing."""
    if label in ATTRIBUTES:
        return ATTRIBUTES[label], ""
    if label in lexicon.worn:
        return "wearing", label
    if label in lexicon.smileys:
        return "emotion", label
    return None
