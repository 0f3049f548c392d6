"""How a model is used where the user does not say: `genmoji.json` in its folder, which may be missing."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UserError, quoted
from ..files import read_json

DEFAULTS_FILE = "genmoji.json"

PLAN_FIELDS = ("expression", "pose", "wearing", "holding", "colours")
"""The fields of a plan (`prompt.plan.PromptPlan`) that a prompt may leave open."""

EMOJI_SETS = frozenset({"fluent", "noto", "openmoji", "twemoji"})
"""The emoji sets whose drawings combinations are laid out for (`combinations.anchors`)."""


@dataclass(frozen=True)
class Defaults:
    """The fields of `genmoji.json`; their defaults are those of a Stable Diffusion checkpoint."""

    template: str = "{prompt}"
    steps: int = 25
    guidance: float = 7.5
    plan_fields: tuple[str, ...] = PLAN_FIELDS
    """Which of `PLAN_FIELDS` the model's captions have."""
    parts: tuple[tuple[str, str], ...] = ()
    """For a model that draws single emoji, whose combinations are drawn by parts: each style as templates spell it, and
    the one of `EMOJI_SETS` that its drawings are like. A mapping in the file.
    """

    @classmethod
    def load(cls, folder: Path, base: "Defaults | None" = None) -> "Defaults":
        """Those of a model's folder, else `base`."""
        path = folder / DEFAULTS_FILE
        return cls.read(read_json(path) if path.exists() else {}, base)

    @classmethod
    def read(cls, config: Mapping[str, Any], base: "Defaults | None" = None) -> "Defaults":
        """The fields of `config`, else those of `base`. Raises UserError for an unknown or ill-typed field."""
        base = base or cls()
        for name, value in config.items():
            _check(name, value)
        values = {item.name: config.get(item.name, getattr(base, item.name)) for item in fields(cls)}
        parts = values["parts"]
        values["parts"] = tuple(parts.items()) if isinstance(parts, dict) else parts
        return cls(**values | {"plan_fields": tuple(values["plan_fields"])})


def _check(name: str, value: object) -> None:
    kinds = {item.name: type(item.default) for item in fields(Defaults)}
    if name not in kinds:
        raise UserError(f"{DEFAULTS_FILE}: unknown field {name!r}.")
    if name == "plan_fields" and isinstance(value, list) and all(field in PLAN_FIELDS for field in value):
        return
    if name == "parts":
        if not isinstance(value, dict) or not all(style and likened in EMOJI_SETS for style, likened in value.items()):
            raise UserError(
                f"{DEFAULTS_FILE}: field 'parts' is {quoted(value)}; it must map each style to the emoji set that its"
                f" drawings are like: {', '.join(sorted(EMOJI_SETS))}."
            )
        return
    number = (int, float) if kinds[name] is float else kinds[name]
    if not isinstance(value, number) or isinstance(value, bool):
        raise UserError(f"{DEFAULTS_FILE}: field {name!r} is {value!r}, not {kinds[name].__name__}.")
