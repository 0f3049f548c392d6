"""From a user's prompt to the text that a drawing model reads: `compose` by rule, `Rewriter` with a language model.

The subject, its skin tone and person type are read from the prompt by rules (`parser`) and stay as the user wrote them.
A language model (`llm`) only fills in fields that the prompt leaves open, under a grammar, and each field is checked.

Imports go down: `llm` > `plan` > `final_prompt` > `parser` > `nouns`, `safety` > `lexicon`. `words` imports none of
them, and none of them imports `mlx_genmoji.combinations`, which reads `lexicon` and `words`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .lexicon import PERSON_TYPES, SKIN_TONES
from .safety import UnsafePrompt

if TYPE_CHECKING:
    from .final_prompt import compose
    from .llm.rewriter import Rewriter
    from .parser import parse
    from .plan import CaptionForm, PromptPlan

__all__ = ["PERSON_TYPES", "SKIN_TONES", "CaptionForm", "PromptPlan", "Rewriter", "UnsafePrompt", "compose", "parse"]


# Imported when they are first used: a prompt that is a label of a closed vocabulary needs none of them.
_MODULES = {
    "CaptionForm": "plan",
    "PromptPlan": "plan",
    "Rewriter": "llm.rewriter",
    "compose": "final_prompt",
    "parse": "parser",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
