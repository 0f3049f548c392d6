"""The pipelines that a diffusers folder can be of, and how the text reaches the UNet in each.

A folder's `model_index.json` names its pipeline; what differs between them is a row of `FAMILIES` and the conditions
that the UNet's config asks for (`Conditions`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import mlx.core as mx

from ..combinations.reading import SOURCES
from ..errors import UserError, quoted
from ..models.clip import CLIPTextModel
from ..prompt.plan import OPTIONAL
from ..tokenizer import CLIPTokenizer

DEFAULTS_FILE = "genmoji.json"


@dataclass(frozen=True)
class Defaults:
    """How a model is used where the user does not say: `genmoji.json` in its folder, which may be missing."""

    template: str = "{prompt}"
    steps: int = 25
    guidance: float = 7.5
    plan_fields: tuple[str, ...] = OPTIONAL
    """The optional fields of a plan (`prompt.PromptPlan`) that the model's captions have."""
    parts: tuple[tuple[str, str], ...] = ()
    """For a model that draws emoji alone, and combinations by parts: its styles, as templates say them, and the set of
    emoji (`prompt.combinations.SOURCES`) that each is like. In the file a mapping.
    """

    @classmethod
    def read(cls, config: Mapping[str, Any], base: "Defaults | None" = None) -> "Defaults":
        """The fields of `config`, those of `base` where it has none. Raises UserError for one unknown or ill-typed."""
        kinds = {item.name: type(item.default) for item in fields(cls)}
        for name, value in config.items():
            if name not in kinds:
                raise UserError(f"{DEFAULTS_FILE}: unknown field {name!r}.")
            if name == "plan_fields" and isinstance(value, list) and all(field in OPTIONAL for field in value):
                continue
            if name == "parts":
                if not isinstance(value, dict) or not all(style and one in SOURCES for style, one in value.items()):
                    raise UserError(
                        f"{DEFAULTS_FILE}: field 'parts' is {quoted(value)}; it says of each style what its emoji are"
                        f" like: {', '.join(sorted(SOURCES))}."
                    )
                continue
            if not isinstance(value, (int, float) if kinds[name] is float else kinds[name]):
                raise UserError(f"{DEFAULTS_FILE}: field {name!r} is {value!r}, not {kinds[name].__name__}.")
        base = base or cls()
        values = {name: config.get(name, getattr(base, name)) for name in kinds}
        parts = values["parts"]
        values["parts"] = tuple(parts.items()) if isinstance(parts, dict) else parts
        return cls(**values | {"plan_fields": tuple(values["plan_fields"])})


@dataclass(frozen=True)
class Family:
    """What is particular to a diffusers pipeline class."""

    text_encoders: int = 1
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the pipeline sets on the scheduler it is given."""
    defaults: Defaults = Defaults()


_SD = Family(scheduler={"steps_offset": 1, "clip_sample": False})
_LCM = Family(defaults=Defaults(steps=4, guidance=8.5))
_XL = Family(text_encoders=2, defaults=Defaults(guidance=5.0))

FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionImg2ImgPipeline": _SD,
    "StableDiffusionInpaintPipeline": Family(scheduler={"steps_offset": 1}),
    "LatentConsistencyModelPipeline": _LCM,
    "LatentConsistencyModelImg2ImgPipeline": _LCM,
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _XL,
    "StableDiffusionXLInpaintPipeline": _XL,
}


class Conditions(NamedTuple):
    """What the UNet is told of the text, one row for each prediction that guidance needs (1 or 2)."""

    states: mx.array
    """`encoder_hidden_states`, (rows, L, D)."""
    added: dict[str, mx.array]
    """By the checkpoint's own names; each (rows, ...)."""


class TextTowers:
    """The text encoders of a model, each with its tokenizer: one, or the two of XL."""

    def __init__(
        self, tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[CLIPTextModel], zeros_for_empty: bool = False
    ):
        """`zeros_for_empty`: the `force_zeros_for_empty_prompt` of XL, for a negative prompt that is not given."""
        self.tokenizers = tokenizers
        self.encoders = encoders
        self.zeros_for_empty = zeros_for_empty

    @property
    def width(self) -> int:
        """Channels of the states."""
        return sum(encoder.config.hidden_size for encoder in self.encoders)

    def __call__(self, prompt: str, negative_prompt: str | None, size: tuple[int, int]) -> Conditions:
        """Conditions for a prompt, with those of the negative prompt before it unless that is None.

        `size`: height and width of the picture in pixels, which XL is told.
        """
        texts = [prompt] if negative_prompt is None else [negative_prompt, prompt]
        states, pooled = self.encode(self.tokenize(texts))
        if pooled is None:
            return Conditions(states, {})
        if negative_prompt == "" and self.zeros_for_empty:
            kept = mx.array([0.0, 1.0])
            states, pooled = states * kept[:, None, None], pooled * kept[:, None]
        return Conditions(states, {"text_embeds": pooled, "time_ids": time_ids(size, len(texts))})

    def tokenize(self, texts: Sequence[str]) -> list[mx.array]:
        """Token ids, (B, L) for each tower."""
        return [mx.array(tokenizer(texts)) for tokenizer in self.tokenizers]

    def encode(self, ids: Sequence[mx.array]) -> tuple[mx.array, mx.array | None]:
        """Token ids, (B, L) for each tower -> states (B, L, D) and, of XL, `text_embeds` (B, P)."""
        said = [encoder(own) for own, encoder in zip(ids, self.encoders, strict=True)]
        if len(said) == 1:
            return said[0].last_hidden_state, None
        # Podell et al. 2023, https://arxiv.org/abs/2307.01952: the layer before the last of both, the second's summary.
        return mx.concatenate([output.hidden_states[-2] for output in said], axis=-1), said[-1].pooled


def time_ids(size: tuple[int, int], count: int) -> mx.array:
    """What XL is told of `count` pictures, (count, 6): the original size, where it was cropped, the size aimed at."""
    return mx.array([[*size, 0, 0, *size]] * count, mx.float32)


def guidance_embedding(guidance: float, channels: int) -> mx.array:
    """`timestep_cond` of a model that guidance was distilled into, float32 (1, channels).

    Luo et al. 2023, https://arxiv.org/abs/2310.04378; as in diffusers, the scale that it is told is one less.
    """
    half = channels // 2
    exponents = mx.arange(half, dtype=mx.float32) * (-math.log(10000) / (half - 1))
    angles = 1000 * (guidance - 1) * mx.exp(exponents)
    return mx.pad(mx.concatenate([mx.sin(angles), mx.cos(angles)]), (0, channels % 2))[None]
