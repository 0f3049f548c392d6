"""Model folders and files: default settings, finding a component's weights, and its folder <-> its module tree.

A model's default settings are in the optional `genmoji.json` of its folder (`Defaults`).

`load_model(folder)` builds one component. The names below are imported from `components` when they are first used, so
that importing this package does not import MLX.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, quoted
from ..files import read_json

if TYPE_CHECKING:
    from .components import create_model, load_model, load_weights, open_model, save_model

__all__ = [
    "DEFAULTS_FILE",
    "EMOJI_SETS",
    "PLAN_FIELDS",
    "Defaults",
    "create_model",
    "load_model",
    "load_weights",
    "open_model",
    "save_model",
]

DEFAULTS_FILE = "genmoji.json"

PLAN_FIELDS = ("expression", "pose", "wearing", "holding", "colours")
"""The fields of a plan (`prompt.plan.PromptPlan`) that a prompt may leave open."""

EMOJI_SETS = frozenset({"fluent", "noto", "openmoji", "twemoji"})
"""The emoji sets whose drawings combinations are laid out for (`combinations.anchors`)."""


@dataclass(frozen=True)
class Defaults:
    """The fields of `genmoji.json`. Without the file they are those of a Stable Diffusion checkpoint."""

    template: str = "{prompt}"
    steps: int = 25
    guidance: float = 7.5
    plan_fields: tuple[str, ...] = PLAN_FIELDS
    """The fields of `PLAN_FIELDS` that the captions of the model's training data have."""
    parts: tuple[tuple[str, str], ...] = ()
    """For a model that draws single emoji, so that a combination is drawn part by part: (style, emoji set) pairs.

    The style is a word of the caption template, the emoji set the one of `EMOJI_SETS` whose drawings it resembles. In
    the file this is a mapping.
    """
    sampler: str | None = None
    """As `Genmoji.generate` takes it, like the next three; None is the scheduler's config, or the UNet's size."""
    spacing: str | None = None
    size: int | None = None
    clip_skip: int | None = None
    trigger: str | None = None
    """Words that the model was trained with: added to a prompt that lacks them (`lora.triggers`)."""
    styles: tuple[tuple[str, str], ...] = ()
    """The styles to choose from: (name, template) pairs; in the file a mapping. A closed vocabulary has its own."""

    @classmethod
    def load(cls, folder: Path, base: Defaults | None = None) -> Defaults:
        """The defaults in a model's folder; `base` for fields that it does not have."""
        path = folder / DEFAULTS_FILE
        return cls.read(read_json(path) if path.exists() else {}, base)

    @classmethod
    def read(cls, config: Mapping[str, Any], base: Defaults | None = None) -> Defaults:
        """The fields of `config`, those of `base` for the rest. Raises UserError for an unknown or ill-typed field."""
        base = base or cls()
        for name, value in config.items():
            _check(name, value)
        values = {item.name: config.get(item.name, getattr(base, item.name)) for item in fields(cls)}
        parts = values["parts"]
        values["parts"] = tuple(parts.items()) if isinstance(parts, dict) else parts
        styles = values["styles"]
        values["styles"] = tuple(styles.items()) if isinstance(styles, dict) else styles
        return cls(**values | {"plan_fields": tuple(values["plan_fields"])})


OPTIONAL_KINDS = {"sampler": str, "spacing": str, "size": int, "clip_skip": int, "trigger": str}
"""The types of the fields that may be absent."""


def _check(name: str, value: object) -> None:
    kinds = {item.name: type(item.default) for item in fields(Defaults)} | OPTIONAL_KINDS
    if name not in kinds:
        raise UserError(f"{DEFAULTS_FILE}: unknown field {name!r}.")
    if name == "plan_fields" and isinstance(value, list) and all(field in PLAN_FIELDS for field in value):
        return
    if name == "styles":
        read_styles(json.dumps(value), DEFAULTS_FILE)
        return
    if name == "parts":
        if not isinstance(value, dict) or not all(
            style and emoji_set in EMOJI_SETS for style, emoji_set in value.items()
        ):
            raise UserError(
                f"{DEFAULTS_FILE}: field 'parts' is {quoted(value)}; it must map each style to the emoji set that its"
                f" drawings resemble: {', '.join(sorted(EMOJI_SETS))}."
            )
        return
    number = (int, float) if kinds[name] is float else kinds[name]
    if not isinstance(value, number) or isinstance(value, bool):
        raise UserError(f"{DEFAULTS_FILE}: field {name!r} is {value!r}, not {kinds[name].__name__}.")


def read_styles(text: str, place: str) -> dict[str, str]:
    """The templates of styles by their names, from a JSON object. place: of the text, for the UserError."""
    try:
        styles = json.loads(text)
    except ValueError:
        styles = None
    if not isinstance(styles, dict) or not all(
        name and isinstance(template, str) and "{prompt}" in template for name, template in styles.items()
    ):
        raise UserError(f"{place}: 'styles' must map each style's name to a template with {{prompt}} in it.")
    return styles


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import components

    return getattr(components, name)
