"""A prompt as it was read: the one structure that drawing, recipes, notes and the app take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..combinations.combination import Combination
    from ..prompt.plan import PromptPlan


@dataclass(frozen=True)
class Reading:
    """What a model draws for a prompt."""

    final_prompt: str
    """The caption of a drawing in one go."""
    template: str
    skin_tone: str | None = None
    person_type: str | None = None
    negative_prompt: str = ""
    plan: PromptPlan | None = None
    """Of a rewriter, or the one that was given."""
    combination: Combination | None = None
    """The parts to draw, each with its caption, and how they are put together; None for a drawing in one go."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what of the prompt was left out, or is drawn as something else."""
    label: str = ""
    """What a closed vocabulary's model draws in one go."""
    words: str = ""
    """What the prompt says, in English."""
    has_emoji: bool = False
    """Whether the prompt shows emoji as characters, which stand for exactly their drawings."""
