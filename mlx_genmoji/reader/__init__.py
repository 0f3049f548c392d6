"""Reading a prompt, once: `Options` go in, one `Reading` comes out, which every later step takes.

A model's form decides how: `open_form` for models that take any text, `closed_form` for models whose folder declares
what they draw (`vocabulary`). A prompt that is exactly one of a vocabulary's labels is read without anything else; for
other prompts `languages` puts them into English, `lexicon` looks words up in the tables of `tables/`, and `grammar`
makes a scene of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx
    from PIL import Image

    from ..combinations.combination import Combination
    from ..prompt import PromptPlan, Rewriter


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `Genmoji.generate`, where they are explained."""

    count: int = 1
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str = ""
    skin_tone: str | None = None
    person_type: str | None = None
    template: str | None = None
    rewrite: str | Path | Rewriter | PromptPlan | None = None
    sampler: str | None = None
    image: Image.Image | None = None
    strength: float | None = None
    mask: Image.Image | None = None
    latents: mx.array | None = None
    combine: bool | Combination = True
    variety: float = 1.0


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
    shown: bool = False
    """Whether the prompt shows emoji as characters, which stand for exactly their drawings."""
