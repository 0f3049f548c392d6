"""The families of models. A diffusers folder's `model_index.json` names its pipeline, which `PIPELINES` lists.

A family (`base.Family`) has a text side, latents, conditions and a sampler; the drawing loop uses nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint import Defaults
from ..errors import UserError
from ..files import read_json
from .base import Family
from .stable_diffusion import StableDiffusion


@dataclass(frozen=True)
class Pipeline:
    """The settings of a diffusers pipeline class."""

    text_encoders: int = 1
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the scheduler's config that the pipeline overrides."""
    defaults: Defaults = field(default_factory=Defaults)


_SD = Pipeline(scheduler={"steps_offset": 1, "clip_sample": False})
_LCM = Pipeline(defaults=Defaults(steps=4, guidance=8.5))
_XL = Pipeline(text_encoders=2, defaults=Defaults(guidance=5.0))

PIPELINES: Mapping[str, Pipeline] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionImg2ImgPipeline": _SD,
    "StableDiffusionInpaintPipeline": Pipeline(scheduler={"steps_offset": 1}),
    "LatentConsistencyModelPipeline": _LCM,
    "LatentConsistencyModelImg2ImgPipeline": _LCM,
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _XL,
    "StableDiffusionXLInpaintPipeline": _XL,
}


def pipeline_of(folder: Path) -> tuple[Pipeline, dict[str, Any]]:
    """The pipeline of a folder, and the contents of its `model_index.json`. Raises UserError if it is not supported."""
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    pipeline = PIPELINES.get(name) if isinstance(name, str) else None
    if pipeline is None:
        raise UserError(f"{folder}: model_index.json asks for a {name}, supported are {', '.join(PIPELINES)}.")
    return pipeline, index


def load_family(
    folder: Path,
    name: str,
    *,
    bits: int | None = None,
    preview: str | Path | None = None,
    vae: str | Path | None = None,
    allow_pickle: bool = False,
) -> tuple[Family, Defaults]:
    """Load the model in a diffusers folder, and its default settings; see `Genmoji.load`."""
    pipeline, index = pipeline_of(folder)
    defaults = Defaults.load(folder, pipeline.defaults)
    quantization = None
    if bits is not None:
        from ..quantization import Quantization

        quantization = Quantization(bits)
    family = StableDiffusion.load(
        folder,
        text_encoders=pipeline.text_encoders,
        scheduler=read_json(folder / "scheduler" / "scheduler_config.json") | dict(pipeline.scheduler),
        zeros_for_empty=bool(index.get("force_zeros_for_empty_prompt", True)),
        quantization=quantization,
        preview=preview,
        vae=vae,
        allow_pickle=allow_pickle,
    )
    family.name = name
    return family, defaults
