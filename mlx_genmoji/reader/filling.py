"""What a language model adds to a prompt for a model with a closed vocabulary: fields of the plan that can be drawn.

The candidates are the rows of `fillings.tsv` that the reader resolves to labels of the model's vocabulary. For each
field that the prompt leaves open, the language model compares the candidates (`prompt.llm.likelihood`). A field is only
filled where the best candidate suits the prompt much better than it suits anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..prompt.safety import check_safe, plain_words
from .grammar import understand
from .lexicon import Lexicon, rows
from .scene import Scene, Wish
from .tokens import tokenize

if TYPE_CHECKING:
    from ..prompt.llm.rewriter import Rewriter
    from ..prompt.plan import PromptPlan

FIELDS = ("wearing", "holding", "pose", "expression", "place")
"""The fields of a plan that are drawn."""

PHRASES = {
    "wearing": "{subject} wearing {words}",
    "holding": "{subject} holding {words}",
    "pose": "{subject} {words}",
    "expression": "{words} {subject}",
    "place": "{subject} {words}",
}
"""A prompt in which each field's words are read."""

QUESTIONS = {
    "wearing": ("The uniform of a {}: a", "A {} wears a"),
    "holding": ("Tools and things that a {} uses: a", "The best gift for a {} is a"),
    "pose": ("The {} is",),
    "expression": ("Right now, the {} is feeling",),
    "place": ("You see a {}",),
}
"""Beginnings of sentences that a candidate ends, without its article."""

NEUTRAL = "person"
"""Whom the same questions are asked about for comparison."""

LEAST = {
    "holding": (4.0, 1.0),
    "wearing": (2.0, -1.9),
    "place": (5.0, 1.5),
    "pose": (3.0, -1.5),
    "expression": (4.0, 0.5),
}
"""What a candidate must reach to be added (see `likelihood.contrast`): its gain over anybody, and its score. The fields
in the order in which they are asked for. Only one is filled: a second was wrong more often than not."""

EXTRA = 2.0
"""How much more it must reach where all of the prompt is understood ("monkey"): there a small model is often wrong.
"""

ACTIONS = ("with", "riding", "in", "on", "on top", "beside", "and")
"""Relations that keep the hands busy."""

STAND_IN = "dog"
"""Reads the words of a field where the subject itself is not known."""


@dataclass(frozen=True)
class Filling:
    """A candidate of a field."""

    field: str
    words: str
    wish: Wish


def candidates(lexicon: Lexicon) -> Mapping[str, Sequence[Filling]]:
    """All that can be added in each field, of what the model draws."""
    fillings: dict[str, list[Filling]] = {name: [] for name in FIELDS}
    for name, words in rows("fillings.tsv"):
        wish = wish_of(name, words, lexicon)
        if wish is not None:
            fillings[name].append(Filling(name, words, wish))
    return fillings


def wish_of(name: str, words: str, lexicon: Lexicon) -> Wish | None:
    """The wish that a field's words are; None where they are not exactly one."""
    scene = understand(PHRASES[name].format(subject=STAND_IN, words=words), lexicon)
    if scene.unknown or len(scene.wishes) != 1 or scene.subject is None:
        return None
    wish = scene.wishes[0]
    return wish if not _is_label(wish) or wish.label in lexicon.vocabulary else None


def _is_label(wish: Wish) -> bool:
    return bool(wish.label) and wish.kind not in ("place", "weather", "count", "colour")


def open_fields(scene: Scene) -> tuple[str, ...]:
    """The fields that a prompt leaves open."""
    kinds = {wish.kind for wish in scene.wishes}
    taken = {
        "wearing": "wearing" in kinds,
        "holding": bool(kinds.intersection(ACTIONS)),
        "pose": bool(kinds.intersection(ACTIONS)),
        "expression": "emotion" in kinds,
        "place": bool(kinds & {"place", "weather", "in", "on"}),
    }
    return tuple(name for name in FIELDS if not taken[name])


def people_beside(scene: Scene, text: str, lexicon: Lexicon) -> dict[str, Wish]:
    """The wishes for a person beside an animal or thing, by the word that names the person: what it does for a living.

    "accountant cat" is a cat, and in want of anything better, an accountant beside it.
    """
    from ..combinations.arrange import part_of

    people = {}
    for token in tokenize(text, lexicon):
        noun = token.meanings.noun if token.meanings else None
        wish = noun and Wish("beside", noun.label)
        if noun and wish in scene.wishes and part_of(noun.label).role == "person":
            people[token.text] = wish
    return people


def fill(text: str, scene: Scene, lexicon: Lexicon, rewriter: Rewriter) -> dict[str, str]:
    """The words that a language model adds to a prompt, by field.

    text: the prompt, in English; scene: what the reader understood of it.
    """
    people = people_beside(scene, text, lexicon)
    unread = " ".join(dict.fromkeys([*scene.unknown, *people]))
    if scene.wishes and not unread:
        # All that the prompt says is drawn already.
        return {}
    who = plain_words(unread or scene.subject_words or text)
    known, allowed = candidates(lexicon), open_fields(without(scene, people))
    drawn = {scene.subject, *(wish.label for wish in scene.wishes)}
    for name in LEAST:
        if name in allowed:
            words = [filling.words for filling in known[name] if filling.wish.label not in drawn]
            best = choose(who, name, words, rewriter, 0.0 if unread else EXTRA)
            if best is not None:
                return {name: best}
    return {}


def choose(who: str, name: str, words: Sequence[str], rewriter: Rewriter, extra: float) -> str | None:
    """The words for a field that suit `who` best; None where none reaches `LEAST` and `extra`."""
    if not words:
        return None
    questions = [(question.format(who), question.format(NEUTRAL)) for question in QUESTIONS[name]]
    gain, score = rewriter.contrast(questions, [_ARTICLE.sub("", each) for each in words])
    best = int(np.argmax(score))
    least_gain, least_score = LEAST[name]
    return words[best] if gain[best] >= least_gain + extra and score[best] >= least_score + extra else None


_ARTICLE = re.compile(r"^(?:an?|the) ")


def without(scene: Scene, people: Mapping[str, Wish]) -> Scene:
    """The scene without these people beside the subject."""
    return replace(
        scene,
        wishes=[wish for wish in scene.wishes if wish not in people.values()],
        nearest=[(words, label) for words, label in scene.nearest if words not in people],
        unknown=list(scene.unknown),
    )


def add_fields(scene: Scene, plan: PromptPlan, lexicon: Lexicon) -> tuple[Scene, tuple[str, ...]]:
    """The scene of a prompt with the fields of its plan, and notes on them. What the prompt says wins.

    Raises UnsafePrompt where the fields are refused.
    """
    values = {name: value for name in FIELDS if (value := getattr(plan, name))}
    check_safe(" ".join([plan.subject, *values.values()]))
    by_model = plan.source != "template"
    if by_model and values.keys() & {"wearing", "holding", "pose"}:
        # They stand for what the person beside the subject does for a living.
        scene = without(scene, people_beside(scene, plan.subject, lexicon))
    allowed = open_fields(scene)
    added, refused = [], []
    for name, words in values.items():
        phrase = _phrase(name, words)
        if name not in allowed:
            refused.append(phrase)
            continue
        addition = understand(PHRASES[name].format(subject=STAND_IN, words=words), lexicon)
        scene.unknown += addition.unknown
        scene.nearest += addition.nearest
        for wish in addition.wishes:
            scene.wish(wish.kind, wish.label)
        added += [phrase] if addition.wishes else []
    if scene.subject is None:
        _promote(scene)
    notes = []
    if by_model and added:
        notes.append(f"Added to the prompt: {', '.join(added)}.")
    if refused:
        notes.append(f"The prompt comes first; left out of the plan: {', '.join(refused)}.")
    return scene, tuple(notes)


def _phrase(name: str, words: str) -> str:
    return f"{name} {words}" if name in ("wearing", "holding") else words


def _promote(scene: Scene) -> None:
    """Make the first addition the subject where the prompt's own is not known: a feeling its smiley, else the thing."""
    for wish in sorted(scene.wishes, key=lambda wish: wish.kind != "emotion"):
        if wish.label and wish.kind not in ("place", "weather", "count", "colour"):
            scene.subject = wish.label
            scene.wishes.remove(wish)
            return
