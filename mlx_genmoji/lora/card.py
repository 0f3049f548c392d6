"""What an adapter's folder or repository says of it: how to draw with it, what it is for, and its licence.

README.md              a model card: YAML between two lines of ---, with instance_prompt, base_model and license
special_params.json    Replicate's trainer: {"TOK": "<s0><s1>"}
the file's own header  modelspec.trigger_phrase, modelspec.license, modelspec.usage_hint
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError, quoted
from ..files import read_json

README = "README.md"
SPECIAL_PARAMS = "special_params.json"
FILES = (README, SPECIAL_PARAMS)

MAX_TRIGGER_LENGTH = 200
MAX_WEIGHT = 3.0

# How cards say the trigger in their text: diffusers' trainers, and people.
_TRIGGER = re.compile(
    r"you should use\W+(?P<a>[^\n`]+?)\W+to trigger|trigger(?:ed by| words?| phrase| prompt)?\W{0,8}`(?P<b>[^`\n]+)`",
    re.IGNORECASE,
)
_WEIGHT = re.compile(
    r"(?:lora_scale|[\"']scale[\"']|(?:recommended|best|suggested)\s+(?:lora\s+)?(?:weight|strength|scale)s?)"
    r"[^\d\n]{0,20}(?P<low>\d(?:\.\d+)?)(?!\d)(?:\s*(?:-|–|to)\s*(?P<high>\d(?:\.\d+)?))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Card:
    """What a card says; None and empty where it says nothing."""

    trigger: str | None = None
    """The words that the adapter was trained with: "an <s0><s1> emoji"; several may be separated by commas."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Words in prompts, and the learned tokens that they stand for: {"TOK": "<s0><s1>"}."""
    weight: float | None = None
    """The recommended weight."""
    base_model: str | None = None
    license: str | None = None

    def sentence(self, name: str, weight: float) -> str | None:
        """What is said to the user of the adapter `name`, which draws with `weight`; None if the card says nothing."""
        recommended = " as recommended" if weight == self.weight else ""
        facts = (
            ("trigger", self.trigger and f'"{self.trigger}"'),
            ("weight", self.weight and f"{weight:g}{recommended}"),
            ("base", self.base_model),
            ("licence", self.license),
        )
        stated = ", ".join(f"{what} {value}" for what, value in facts if value)
        return f"{name}: {stated}." if stated else None


def read_card(folder: Path | None, header: Mapping[str, str]) -> Card:
    """The card of the adapter in `folder` and of its file's header; of the header alone if `folder` is None.

    Raises UserError for a damaged special_params.json.
    """
    front, text = ({}, "") if folder is None else _readme(folder / README)
    base = front.get("base_model")
    base = base[0] if isinstance(base, list) and base else base
    trigger = _text(front.get("instance_prompt")) or _text(header.get("modelspec.trigger_phrase"))
    if trigger is None and (match := _TRIGGER.search(text)):
        trigger = _text(match["a"] or match["b"])
    hint = _WEIGHT.search(text) or _WEIGHT.search(header.get("modelspec.usage_hint", ""))
    licenses = (front.get("license_name"), front.get("license"), header.get("modelspec.license"))
    return Card(
        trigger=trigger,
        aliases={} if folder is None else _aliases(folder / SPECIAL_PARAMS),
        weight=_weight(hint),
        base_model=_text(base) or _text(header.get("base_model")),
        license=next(filter(None, map(_text, licenses)), None),
    )


def _readme(path: Path) -> tuple[dict[str, Any], str]:
    """The front matter of a card, {} if it has none or a damaged one, and its text."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}, ""
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if match is None:
        return {}, text
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        front = {}
    return front if isinstance(front, dict) else {}, text[match.end() :]


def _aliases(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    aliases = read_json(path)
    if not all(key and isinstance(value, str) for key, value in aliases.items()):
        raise UserError(f"{path} must give each word the tokens that it stands for.")
    return aliases


def _weight(match: re.Match[str] | None) -> float | None:
    """The weight that a card recommends: the middle of a range."""
    if match is None:
        return None
    low = float(match["low"])
    weight = round((low + float(match["high"] or low)) / 2, 3)
    return weight if 0 < weight <= MAX_WEIGHT else None


def _text(value: object) -> str | None:
    """A field's text on one line; None if it has none."""
    if not isinstance(value, str) or not value.strip() or value.strip().lower() in ("none", "null"):
        return None
    return quoted(" ".join(value.split()).strip("`\"'"), MAX_TRIGGER_LENGTH)
