"""Exports a model to a diffusers folder in half precision, with its adapters fused, and as files of their own too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_genmoji.checkpoint.components import Model, save_model
from mlx_genmoji.files import whole_folder, write_json
from mlx_genmoji.lora import detach, save_adapter
from mlx_genmoji.lora.layer_tree import changed_parameters

from ..model_folder import check_unused, copy_component, copy_model_files, dense_copy
from .exported_model import Source, Weighted, computing_on_cpu
from .folder import write_vocabulary

TOKENIZERS = ("tokenizer", "tokenizer_2")


@computing_on_cpu()
def export_diffusers(source: Source, output: Path) -> None:
    """Write the model to the new folder `output`, for MLX Swift, which cannot read quantized weights.

    Its folder `adapters` has the adapters with kohya's keys, for Draw Things and other apps that apply them themselves;
    only those of LoRA and DoRA.
    Raises UserError where `output` is in use. Warns of a model that MLX Swift draws wrongly or not at all.
    """
    if unknown := _unknown_to_mlx_swift(source.scheduler):
        warnings.warn(
            f"MLX Swift does not know {unknown}: it cannot draw with this model as it was trained.", stacklevel=3
        )
    output = output.resolve()
    check_unused(output, "the export")
    with whole_folder(output) as folder:
        for name in ("unet", *source.text_encoders, "vae"):
            save_model(_fused(source, name, source.adapters), folder / name, mx.float16)
        for name in (*TOKENIZERS, "scheduler"):
            if (source.folder / name).is_dir():
                copy_component(source.folder / name, folder / name)
        for name in TOKENIZERS:
            if (folder / name).is_dir():
                write_vocabulary(source.folder / name, folder / name)
        copy_model_files(source.folder, folder)
        for name, (adapter, _) in zip(source.function_names, source.adapters, strict=True):
            if not adapter.whole:
                (folder / "adapters").mkdir(exist_ok=True)
                save_adapter(adapter, folder / "adapters" / f"{name}.safetensors")
        fused = [{"name": adapter.name, "weight": weight} for adapter, weight in source.adapters]
        write_json(folder / "export.json", {"identifier": source.name, "fused": fused})


def _unknown_to_mlx_swift(scheduler: Mapping[str, Any]) -> str:
    """The settings of a `scheduler_config.json` that MLX Swift does not support, in words; empty where there are none.

    Its sampler is Euler's for epsilon, and it requires `beta_start` (mlx-swift-examples, StableDiffusion).
    """
    unknown = [f"models without {name}" for name in ("beta_start", "beta_end") if name not in scheduler]
    for name, default, known in (
        ("beta_schedule", "linear", ("linear", "scaled_linear")),
        ("prediction_type", "epsilon", ("epsilon",)),
    ):
        value = scheduler.get(name, default)
        unknown += [f"the {name} {value}"] if value not in known else []
    return ", ".join(unknown)


def _fused(source: Source, component: str, adapters: Sequence[Weighted]) -> Model:
    """A component with dense layers only, adapters in their weights."""
    model = source.open(component, adapters)
    changed = changed_parameters({component: model})
    detach({component: model})
    return dense_copy(model, {path.removeprefix(f"{component}."): array for path, array in changed.items()})
