"""Corrections of a scene once its phrases were read: what is denied, who holds hands, what is where on a body."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from .lexicon import Lexicon, rows, words_of
from .scene import Scene, Wish

if TYPE_CHECKING:
    from .tokens import Token

OBJECTS = ("with", "wearing", "beside", "and", "on", "in", "at neck", "on head")
"""The kinds of wishes for a thing, which can be moved to a place on the subject's body."""

HANDS = "hands"
"""The kind of the wish that people hold hands."""

BODY = frozenset(
    "arm beak body claw ear eye eyebrow face finger fur hair hand head leg mouth neck nose paw skin spot stripe tail"
    " teeth tongue tooth tusk wing whisker".split()
)
"""Parts of bodies, which no drawing is without."""

COUPLES = {
    ("man", "man"): "men holding hands",
    ("man", "woman"): "woman and man holding hands",
    ("person", "person"): "people holding hands",
    ("woman", "woman"): "women holding hands",
}
SEXES = {"boy": "man", "girl": "woman", "old man": "man", "old woman": "woman", "prince": "man", "princess": "woman"}


def move_to_body(words: str, kind: str, scene: Scene) -> None:
    """Join the thing that was named last in another way: "a bird on its head". Reports the words without a thing."""
    for place in range(len(scene.wishes) - 1, -1, -1):
        wish = scene.wishes[place]
        if wish.kind in OBJECTS and wish.label:
            scene.wishes[place] = Wish(kind, wish.label)
            return
    scene.unknown.append(words)


def deny(tokens: Sequence[Token], scene: Scene) -> None:
    """Take down what a prompt says is not there."""
    for token in tokens:
        meanings = token.meanings
        noun = meanings and (meanings.garment or meanings.noun)
        if meanings is None or noun or meanings.look or meanings.mood or meanings.hair:
            scene.denied.append((token.text, noun.label if noun else ""))


def settle_denied(scene: Scene, lexicon: Lexicon) -> None:
    """Take away what a role or look brought and the prompt denies: "a wizard cat without a hat"."""
    for words, label in scene.denied:
        labels = {label, *(hats() if "hat" in words_of(words) else ())}
        scene.wishes = [wish for wish in scene.wishes if not (wish.label in labels and wish.kind in OBJECTS)]
        scene.nearest = [(thing, drawn) for thing, drawn in scene.nearest if drawn not in labels]


def kept_in(label: str, role: str | None, words: str) -> bool:
    """Whether the drawing of a label may have a thing that words name, so that it cannot be left out.

    role: that of the label's part; who lives has a body.
    """
    parts = drawn_with().get(label, frozenset())
    if role in ("animal", "face", "person"):
        parts = parts | BODY
    return any(word in parts or word.removesuffix("s") in parts for word in words_of(words))


@cache
def drawn_with() -> dict[str, frozenset[str]]:
    """What the drawings of labels show besides the thing itself: the hat of a guard."""
    return {label: frozenset(words.split()) for label, words in rows("drawn-with.tsv")}


@cache
def hats() -> frozenset[str]:
    """The labels of everything that is called a hat."""
    return frozenset(row[1] for row in rows("garments.tsv") if "hat" in row[0].split())


def settle_hands(scene: Scene, tokens: Sequence[Token], lexicon: Lexicon) -> None:
    """Two people who hold hands are one label. Others stand side by side, and the holding of hands is reported."""
    if scene.subject in COUPLES.values():
        _settle_number(scene)
    if not any(wish.kind == HANDS for wish in scene.wishes):
        return
    scene.wishes = [wish for wish in scene.wishes if wish.kind != HANDS]
    others = [wish for wish in scene.wishes if wish.kind in ("and", "beside", "count")]
    labels = [scene.subject or "", *(wish.label for wish in others if wish.kind != "count")]
    people = [_sex(label) for label in labels]
    if len(people) == 1:
        people *= 2
    couple = None
    if len(people) == 2 and all(people):
        couple = COUPLES.get((min(people), max(people)), COUPLES["person", "person"])
    if couple and couple in lexicon.vocabulary:
        if any(_sex(label) != label for label in labels):
            scene.nearest.append((" and ".join(labels), couple))
        scene.subject = couple
        scene.wishes = [wish for wish in scene.wishes if wish not in others]
    elif scene.subject and "holding hands" not in scene.subject:
        scene.unknown.append("holding hands")


def _settle_number(scene: Scene) -> None:
    """A couple is two already; any other number of people is reported."""
    for wish in scene.wishes:
        if wish.kind == "count":
            scene.wishes.remove(wish)
            if wish.label != "two":
                scene.unknown.append(wish.label)
            return


def _sex(label: str) -> str:
    """man, woman or person for somebody's label; "" for what is no person."""
    if label in ("child", "older person", "baby", "busts in silhouette", "family"):
        return "person"
    label = SEXES.get(label, label)
    first = label.partition(":")[0].split()[0] if label else ""
    return first if first in ("man", "woman", "person") else ""
