"""From what a user asks for to what a drawing model reads: `compose` by rule, `Rewriter` with a language model.

The user's own words, the skin tone and who a person is are read by rules (`rules.py`) and stay as they are. A language
model (`rewriter.py`, `request.py`) only adds what the prompt leaves open, under a grammar, each field checked alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .final_prompt import compose
from .lexicon import PERSON_TYPES, SKIN_TONES
from .parser import parse
from .plan import CaptionForm, PromptPlan
from .safety import UnsafePrompt

if TYPE_CHECKING:
    from .llm.rewriter import Rewriter

__all__ = ["PERSON_TYPES", "SKIN_TONES", "CaptionForm", "PromptPlan", "Rewriter", "UnsafePrompt", "compose", "parse"]


def __getattr__(name: str) -> Any:
    # It imports MLX, which the rules do without.
    if name != "Rewriter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .llm.rewriter import Rewriter

    return Rewriter
