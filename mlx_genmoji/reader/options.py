"""The arguments of `Genmoji.generate` as one structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
from PIL import Image

from ..families.settings import DEFAULT_SETTINGS, Settings

if TYPE_CHECKING:
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
    settings: Settings = DEFAULT_SETTINGS
    """Size, `clip_skip`, `spacing`, `karras`, `prompt_weights`, `long_prompts` and `noise`."""
