"""A model in half precision as a diffusers folder, its adapters in its weights, and these as files of their own."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from mlx_genmoji.checkpoint.components import Model, create_model, save_model
from mlx_genmoji.checkpoint.weight_files import PICKLES
from mlx_genmoji.files import write_json
from mlx_genmoji.lora import LoRALayer, save_adapter
from mlx_genmoji.lora.layers import dense_weight
from mlx_genmoji.quantization import CONFIG_KEY, DENSE_KEY, QuantizedLayer

from .exported_model import Source, computing_on_cpu
from .folder import new_folder, write_vocabulary

# What is read of a folder beside the components that are written anew.
CARRIED = ("tokenizer", "tokenizer_2", "scheduler")


@computing_on_cpu()
def export_diffusers(source: Source, output: Path) -> None:
    """Write `output`: what MLX Swift reads, which casts all weights and so wants none that are packed; and in its
    `adapters`, in kohya's spelling, those that Draw Things and others put on a model by themselves.

    Raises UserError where `output` is in use. Warns of a model that MLX Swift draws wrongly or not at all.
    """
    if unknown := _unknown_to_mlx_swift(source.scheduler):
        warnings.warn(
            f"MLX Swift does not know {unknown}: it cannot draw with this model as it was trained.", stacklevel=3
        )
    with new_folder(output) as folder:
        for name in ("unet", *source.text_encoders, "vae"):
            save_model(_dense(source.open(name, source.adapters)), folder / name, mx.float16)
        for name in CARRIED:
            if (source.folder / name).is_dir():
                leaving = shutil.ignore_patterns(*(f"*{suffix}" for suffix in PICKLES))
                shutil.copytree(source.folder / name, folder / name, ignore=leaving)
        for name in CARRIED[:2]:
            if (folder / name).is_dir():
                write_vocabulary(source.folder / name, folder / name)
        for name in ("model_index.json", "genmoji.json", "words.tsv"):
            if (source.folder / name).exists():
                shutil.copyfile(source.folder / name, folder / name)
        for name, (adapter, _) in zip(source.function_names, source.adapters, strict=True):
            (folder / "adapters").mkdir(exist_ok=True)
            save_adapter(adapter, folder / "adapters" / f"{name}.safetensors")
        used = [{"name": adapter.name, "weight": weight} for adapter, weight in source.adapters]
        write_json(folder / "export.json", {"identifier": source.name, "fused": used})


def _unknown_to_mlx_swift(scheduler: Mapping[str, Any]) -> str:
    """What of a `scheduler_config.json` it reads otherwise (mlx-swift-examples, StableDiffusion: its sampler is Euler's
    for epsilon, and `beta_start` has to be there)."""
    missing = [name for name in ("beta_start", "beta_end") if name not in scheduler]
    said = [f"models without {name}" for name in missing]
    for name, usual, known in (
        ("beta_schedule", "linear", ("linear", "scaled_linear")),
        ("prediction_type", "epsilon", ("epsilon",)),
    ):
        value = scheduler.get(name, usual)
        said += [f"the {name} {value}"] if value not in known else []
    return ", ".join(said)


def _dense(model: Model) -> Model:
    """The model with plain layers alone, unevaluated."""
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    for path, layer in model.named_modules():
        if isinstance(layer, LoRALayer):
            own = {key: value for key, value in weights.items() if key.startswith(f"{path}.")}
            for key in own:
                del weights[key]
            weights[f"{path}.weight"] = layer.changed_weight()
            if "bias" in layer.base:
                weights[f"{path}.bias"] = layer.base.bias
    for path, layer in model.named_modules():
        if isinstance(layer, QuantizedLayer) and f"{path}.scales" in weights:
            weights[f"{path}.weight"] = dense_weight(layer)
            for part in ("scales", "biases"):
                weights.pop(f"{path}.{part}", None)
    dense = create_model({key: value for key, value in model.raw_config.items() if key not in (CONFIG_KEY, DENSE_KEY)})
    dense.update(tree_unflatten(list(weights.items())))
    return dense
