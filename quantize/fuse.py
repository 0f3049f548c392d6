"""Writes a model with adapters fused into its weights, as a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_genmoji.checkpoint import DEFAULTS_FILE, Defaults
from mlx_genmoji.checkpoint.components import save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.families import pipeline_of
from mlx_genmoji.files import read_json, whole_folder, write_json
from mlx_genmoji.lora.active import AdapterSpec
from mlx_genmoji.lora.apply import use
from mlx_genmoji.lora.layer_tree import adaptable, changed_parameters, detach
from mlx_genmoji.lora.layers import dense_weight
from mlx_genmoji.lora.triggers import trigger_of
from mlx_genmoji.pipeline import Genmoji
from mlx_genmoji.presets import DRAWING
from mlx_genmoji.quantization import Quantization, QuantizedLayer, quantize_model
from mlx_genmoji.sticker import OUTLINES_FILE
from mlx_genmoji.textual_inversion import Learned

from .learned_tokens import token_tables, write_tokens
from .model_folder import check_unused, copy_component, copy_model_files, dense_copy

# With fewer bits, the rounding of the weights hides most of an adapter's effect.
MIN_SAFE_BITS = 8


class EffectKept(NamedTuple):
    """How much of the adapters' effect on the weights is left after quantizing.

    Each is the cosine similarity of two changes of the base's weights: the quantized one and the exact one.
    """

    cosine: float
    """Over all layers."""
    worst: float
    """Of the layer at `worst_path`, which has the lowest."""
    worst_path: str


def fuse(
    model: str | Path | None,
    adapters: Sequence[AdapterSpec],
    output: str | Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    lossy: bool = False,
) -> EffectKept | None:
    """Write `model` with `adapters` fused into its weights to the new folder `output`.

    bits: quantize the fused model (its text encoders as `Quantization.for_text` says) and return how much of the
    adapters' effect is left. Without it the weights are in half precision, also where `model` is quantized, and nothing
    is returned.
    lossy: allow fewer than 8 bits, which keep little of the effect.
    `output` appears when it is complete. Raises UserError for fewer than 8 bits without `lossy`, for an `output` that
    is in use, where no adapter has a weight, and as loading a model and its adapters does.
    """
    output = Path(output)
    check_unused(output, "the fused model")
    quantization = None if bits is None else Quantization(bits, group_size)
    if bits is not None and bits < MIN_SAFE_BITS and not lossy:
        raise UserError(
            f"{bits}-bit rounding would remove most of the adapter's effect: fuse to {MIN_SAFE_BITS} bits or to half"
            " precision, draw with the adapter on the quantized model, or allow the loss (--lossy)."
        )
    genmoji = Genmoji.load(model, adapters=adapters)
    if not genmoji.adapters.active or genmoji.folder is None:
        raise UserError("There is nothing to fuse: give an adapter (--adapter) and a weight that is not 0.")
    settings, learned = _settings(genmoji), genmoji.adapters.learned
    models = genmoji.models
    # The pipeline holds adapters in half precision on a GPU: here they are needed in full.
    use(models, genmoji.adapters.active, mx.float32)
    changed = changed_parameters(models)
    detach(models)
    if learned.tokens:
        genmoji.family.learn(Learned(), genmoji.name)
        changed |= token_tables(genmoji.text, learned)

    with whole_folder(output.resolve()) as folder:
        copy_model_files(genmoji.folder, folder)
        # With the adapter it draws other outlines.
        (folder / OUTLINES_FILE).unlink(missing_ok=True)
        for name in read_json(genmoji.folder / "model_index.json"):
            if name not in models and (genmoji.folder / name).is_dir():
                copy_component(genmoji.folder / name, folder / name)
        if learned.tokens:
            write_tokens(folder, learned)
        if settings:
            path = folder / DEFAULTS_FILE
            write_json(path, (read_json(path) if path.exists() else {}) | settings)
        changes: list[Change] = []
        for name, component in models.items():
            changes += _write_fused(name, component, changed, quantization, folder)
    return _summary(changes)


def _settings(genmoji: Genmoji) -> dict[str, Any]:
    """Of the fused model's `genmoji.json`: the template and trigger of its adapters, and the settings of a preset."""
    assert genmoji.folder is not None
    own = Defaults.load(genmoji.folder, pipeline_of(genmoji.folder)[0].defaults)
    settings = {name: getattr(genmoji.defaults, name) for name in DRAWING}
    settings = {name: value for name, value in settings.items() if value != getattr(own, name)}
    if genmoji.adapters.template is not None:
        settings["template"] = genmoji.adapters.template
    triggers = (trigger_of(adapter) for adapter, _ in genmoji.adapters.active)
    trigger = genmoji.defaults.trigger or next(filter(None, triggers), None)
    return settings if trigger is None else settings | {"trigger": trigger}


class Change(NamedTuple):
    """How a layer's weight changed: its path, the dot product of the exact and the quantized change, their squared
    norms."""

    path: str
    product: float
    exact: float
    quantized: float


def _write_fused(
    name: str, base: nn.Module, changed: Mapping[str, mx.array], quantization: Quantization | None, folder: Path
) -> list[Change]:
    """Write one component with those parameters of `changed` that are its own; how its quantized layers changed."""
    prefix = f"{name}."
    local_changes = {path.removeprefix(prefix): weight for path, weight in changed.items() if path.startswith(prefix)}
    fused = dense_copy(base, local_changes)
    changes: list[Change] = []
    if quantization is not None:
        quantize_model(fused, quantization if name == "unet" else quantization.for_text, measure=False)
        changes = _measure(name, base, fused, changed)
    save_model(fused, folder / name, mx.float16)
    return changes


def _measure(name: str, base: nn.Module, fused: nn.Module, changed: Mapping[str, mx.array]) -> list[Change]:
    before, after = adaptable({name: base}), adaptable({name: fused})
    changes = []
    for name, weight in changed.items():
        path, _, parameter = name.rpartition(".")
        if parameter == "weight" and path in before and isinstance(after.get(path), QuantizedLayer):
            start = dense_weight(before[path]).astype(mx.float32)
            exact, quantized = weight - start, dense_weight(after[path]) - start
            sums = [(exact * quantized).sum(), exact.square().sum(), quantized.square().sum()]
            changes.append(Change(path, *(np.asarray(value).item() for value in sums)))
    return changes


def _summary(changes: Sequence[Change]) -> EffectKept | None:
    if not changes:
        return None
    worst = min(changes, key=_cosine)
    total = Change("", *(sum(values) for values in zip(*(change[1:] for change in changes), strict=True)))
    return EffectKept(_cosine(total), _cosine(worst), worst.path)


def _cosine(change: Change) -> float:
    return change.product / max(float(np.sqrt(change.exact * change.quantized)), 1e-30)
