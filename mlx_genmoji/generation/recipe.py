"""The recipe of a sticker: all that is needed to draw it again, stored in its PNG as JSON.

Models, adapters and pictures are identified by hashes; a recipe never contains a path of the user's machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ..errors import UserError, quoted
from ..families.base import DEFAULT_SETTINGS, Settings

if TYPE_CHECKING:
    from ..combinations.combination import Combination
    from ..prompt.plan import PromptPlan
    from .variation import Variation

_TEXT, _TEXT_OR_NONE = (str,), (str, type(None))
_WHOLE, _WHOLE_OR_NONE, _NUMBER = (int,), (int, type(None)), (int, float)

_TYPES: Mapping[str, tuple[type, ...]] = {
    "prompt": _TEXT,
    "final_prompt": _TEXT,
    "negative_prompt": _TEXT,
    "skin_tone": _TEXT_OR_NONE,
    "person_type": _TEXT_OR_NONE,
    "template": _TEXT,
    "plan": (Mapping,),
    "seed": _WHOLE_OR_NONE,
    "steps": _WHOLE,
    "guidance": _NUMBER,
    "sampler": _TEXT,
    "strength": _NUMBER,
    "image_sha256": _TEXT,
    "mask_sha256": _TEXT,
    "likeness": (bool,),
    "combination": (Mapping,),
    "batched": (bool,),
    "variation": (Mapping,),
    "width": _WHOLE,
    "height": _WHOLE,
    "clip_skip": _WHOLE,
    "spacing": _TEXT,
    "karras": (bool,),
    "prompt_weights": (bool,),
    "long_prompts": (bool,),
    "noise": _TEXT,
    "notes": (list,),
    "model": (Mapping,),
    "adapters": (list,),
    "version": _TEXT,
}
_MODEL_TYPES: Mapping[str, tuple[type, ...]] = {
    "name": _TEXT,
    "revision": _TEXT_OR_NONE,
    "sha256": _TEXT_OR_NONE,
    "quantization": (Mapping, type(None)),
}
_ADAPTER_TYPES: Mapping[str, tuple[type, ...]] = {"name": _TEXT, "sha256": _TEXT_OR_NONE, "weight": _NUMBER}

_IMAGE = ("strength", "image_sha256", "mask_sha256", "likeness")
_NEEDED = ("final_prompt", "negative_prompt", "seed", "steps", "guidance", "sampler", "model")
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    Mapping: "an object",
    list: "a list",
}


@dataclass(frozen=True)
class ModelFacts:
    """The model that drew a sticker."""

    name: str
    revision: str | None = None
    """The commit of a model from the Hugging Face hub."""
    sha256: str | None = None
    quantization: Mapping[str, Any] | None = None
    """How the weights are packed, by component; None where none are."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "revision": self.revision,
            "sha256": self.sha256,
            "quantization": self.quantization,
        }


@dataclass(frozen=True)
class Recipe:
    """The arguments of `Genmoji.generate`, with the values that it chose itself, and the model and adapters."""

    final_prompt: str
    """The caption that the text encoder read, if the sticker was not drawn part by part."""
    seed: int | None
    """None if the caller gave the initial noise."""
    steps: int
    guidance: float
    sampler: str
    model: ModelFacts
    prompt: str = ""
    negative_prompt: str = ""
    skin_tone: str | None = None
    person_type: str | None = None
    template: str = "{prompt}"
    plan: PromptPlan | None = None
    image: Mapping[str, Any] = field(default_factory=dict)
    """`strength`, `image_sha256` and `mask_sha256` for image to image, `likeness` (`generation.likeness`).

    Empty without a picture.
    """
    settings: Settings = DEFAULT_SETTINGS
    """Size, `clip_skip`, `spacing`, `karras`, `prompt_weights`, `long_prompts` and `noise`, where they were given."""
    combination: Combination | None = None
    batched: bool = False
    """Whether the parts of the combination were drawn in one batch, which rounds differently."""
    variation: Variation | None = None
    """What was done to the picture after it was drawn; None if it is as drawn."""
    notes: tuple[str, ...] = ()
    """Sentences: what of the prompt was left out, or is drawn as something else."""
    adapters: tuple[Mapping[str, Any], ...] = ()
    """Each with `name`, `sha256` and `weight`."""
    version: str = "unknown"
    """The version of this package."""

    def to_dict(self) -> dict[str, Any]:
        """The recipe as a JSON object."""
        return {
            "prompt": self.prompt,
            "final_prompt": self.final_prompt,
            "negative_prompt": self.negative_prompt,
            "skin_tone": self.skin_tone,
            "person_type": self.person_type,
            "template": self.template,
            **({} if self.plan is None else {"plan": self.plan.to_dict()}),
            "seed": self.seed,
            "steps": self.steps,
            "guidance": self.guidance,
            "sampler": self.sampler,
            **self.image,
            **self.settings.to_dict(),
            **({} if self.combination is None else {"combination": self.combination.to_dict()}),
            **({"batched": True} if self.batched else {}),
            **({} if self.variation is None else {"variation": self.variation.to_dict()}),
            **({"notes": list(self.notes)} if self.notes else {}),
            "model": self.model.to_dict(),
            "adapters": [dict(adapter) for adapter in self.adapters],
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe from a sticker's file. Raises UserError with the name of the field if it is not valid.

        Unknown fields are ignored: a later version may have more.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"A recipe is a JSON object, not {quoted(repr(values))}.")
        _check(values, _TYPES, _NEEDED, "The recipe")
        _check(values["model"], _MODEL_TYPES, ("name", "sha256"), "The recipe's model")
        for adapter in values.get("adapters", ()):
            if not isinstance(adapter, Mapping):
                raise UserError(f"The recipe's adapters contain {quoted(repr(adapter))}, which is not a JSON object.")
            _check(adapter, _ADAPTER_TYPES, tuple(_ADAPTER_TYPES), "An adapter of the recipe")
        settings = Settings.from_dict(values)
        parsed: dict[str, Any] = {name: values[name] for name in _TYPES if name in values}
        parsed = {name: value for name, value in parsed.items() if not hasattr(settings, name)}
        image: dict[str, Any] = {name: parsed.pop(name) for name in _IMAGE if name in parsed}
        parsed["model"] = ModelFacts(**{name: value for name, value in values["model"].items() if name in _MODEL_TYPES})
        if not all(isinstance(note, str) for note in values.get("notes", ())):
            raise UserError("The recipe's 'notes' must be texts.")
        parsed["notes"] = tuple(values.get("notes", ()))
        parsed["adapters"] = tuple(values.get("adapters", ()))
        if "plan" in parsed:
            parsed["plan"] = _plan(parsed["plan"])
        if "combination" in parsed:
            parsed["combination"] = _combination(parsed["combination"])
        if "variation" in parsed:
            parsed["variation"] = _variation(parsed["variation"], parsed.get("combination"))
        return cls(**parsed, image=image, settings=settings)


def _check(
    values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], needed: tuple[str, ...], owner: str
) -> None:
    """Raise UserError for a field that is missing or has another type."""
    for name in needed:
        if name not in values:
            raise UserError(f"{owner} is incomplete: {name!r} is missing.")
    for name, allowed in types.items():
        value = values.get(name)
        fits = bool in allowed if isinstance(value, bool) else isinstance(value, allowed)
        if name in values and not fits:
            expected = " or ".join(dict.fromkeys(_WORDS[kind] for kind in allowed))
            raise UserError(f"{owner}: {name!r} must be {expected}, not {quoted(repr(value))}.")


def _plan(values: Mapping[str, Any]) -> PromptPlan:
    from ..prompt.plan import PromptPlan

    return PromptPlan.from_dict(values)


def _combination(values: Mapping[str, Any]) -> Combination:
    from ..combinations.combination import Combination

    try:
        return Combination.from_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError("The recipe's 'combination' is not valid.") from None


def _variation(values: Mapping[str, Any], combination: Combination | None) -> Variation:
    from .variation import Variation

    variation = Variation.from_dict(values)
    drawings = 1 if combination is None else len(combination.parts)
    if variation.shades and len(variation.shades) != drawings:
        raise UserError(f"The recipe's variation has {len(variation.shades)} shades for a picture of {drawings} parts.")
    return variation


@cache
def package_version() -> str:
    """The version of this package; "unknown" if it is not installed."""
    try:
        return version("mlx-genmoji")
    except PackageNotFoundError:
        return "unknown"
