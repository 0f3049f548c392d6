"""Whether a combination of `combinations.reading` shows what a prompt names, word for word: nothing is to be noted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..combinations.names import name_of
from ..combinations.relations import ATTRIBUTES

if TYPE_CHECKING:
    from ..combinations.combination import Combination
    from .vocabulary import Vocabulary

RENAMED = ("full moon",)
"""Labels whose names in captions ("moon") mean another label in prompts, the crescent moon."""


def is_plain(combination: Combination, text: str, vocabulary: Vocabulary) -> bool:
    """Whether each part is a label, and the text has the label or its name of whatever it must name."""
    return all(part.text == part.label in vocabulary for part in combination.parts) and all(
        label in text.lower() or (label not in RENAMED and name_of(label) in text.lower())
        for label in _named_things(combination)
    )


def _named_things(combination: Combination) -> Iterator[str]:
    """The labels of what a combination shows because the prompt names it: no faces, wings or flames."""
    yield combination.subject.label
    for item in combination.joined:
        if item.part and item.kind not in (*ATTRIBUTES, "emotion"):
            yield item.part.label
