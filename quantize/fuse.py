"""A model with adapters in its weights, as a folder of its own."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mlx_genmoji.checkpoint.components import Model, create_model, save_model
from mlx_genmoji.checkpoint.weight_files import PICKLES
from mlx_genmoji.errors import UserError
from mlx_genmoji.files import read_json, write_json
from mlx_genmoji.lora.active import Given
from mlx_genmoji.lora.apply import use
from mlx_genmoji.lora.layer_tree import adaptable, attached, detach
from mlx_genmoji.lora.layers import dense_weight
from mlx_genmoji.pipeline import DEFAULTS_FILE, Genmoji
from mlx_genmoji.prompt.words import FILE as WORDS_FILE
from mlx_genmoji.quantization import CONFIG_KEY, DENSE_KEY, Quantization, QuantizedLayer, packed_parts, quantize_model

# In fewer, the rounding of the weights hides most of a change.
SAFE_BITS = 8


class Kept(NamedTuple):
    """How much of the change is left in weights that were packed anew: the cosine of what it became and what it was."""

    cosine: float
    """Of all layers together."""
    worst: float
    path: str
    """The layer with the worst."""


def fuse(
    model: str | Path | None,
    adapters: Sequence[Given],
    output: str | Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    lossy: bool = False,
) -> Kept | None:
    """Write a model's folder with adapters in its weights, moved into place when whole.

    In half precision, a quantized model too; or packed in `bits` (text encoders as `Quantization.for_text` says), and
    then returned is how much is left of the change.
    lossy: allow fewer than 8 bits, in which little is. Raises UserError for that, for an `output` that is in use, and
    as loading a model and its adapters does.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: name a new folder for the fused model.")
    quantization = None if bits is None else Quantization(bits, group_size)
    if bits is not None and bits < SAFE_BITS and not lossy:
        raise UserError(
            f"In {bits} bits little would be left of the adapter's change: fuse to {SAFE_BITS} bits or to half"
            " precision, draw with the adapter beside the quantized model, or allow the loss (--lossy)."
        )
    genmoji = Genmoji.load(model, adapters=adapters)
    if not genmoji.adapters.active or genmoji.folder is None:
        raise UserError("There is nothing to fuse: give an adapter, and a weight that is not 0.")
    template = genmoji.adapters.template
    models = genmoji.models
    # Again, in full precision.
    use(models, genmoji.adapters.active, mx.float32)
    changed = {path: layer.changed_weight() for path, layer in attached(models).items()}
    detach(models)

    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        _copy(genmoji.folder, partial, leaving=models)
        if template is not None:
            said = read_json(partial / DEFAULTS_FILE) if (partial / DEFAULTS_FILE).exists() else {}
            write_json(partial / DEFAULTS_FILE, said | {"template": template})
        measured = []
        for name, component in models.items():
            own_changes = {path: weight for path, weight in changed.items() if path.startswith(f"{name}.")}
            fused = _fused(name, component, own_changes)
            if quantization is not None:
                own = quantization if name == "unet" else quantization.for_text
                quantize_model(fused, own, measure=False)
                measured += _measure(name, component, fused, own_changes)
            save_model(fused, partial / name, mx.float16)
        if output.exists():
            output.rmdir()
        os.replace(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _summed(measured)


def _copy(source: Path, target: Path, leaving: Mapping[str, object]) -> None:
    """What of a model's folder is read, but for the components in `leaving`."""
    for name in ("model_index.json", DEFAULTS_FILE, WORDS_FILE):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    parts = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
    for name in parts:
        if name not in leaving and (source / name).is_dir():
            pickles = shutil.ignore_patterns(*(f"*{suffix}" for suffix in PICKLES))
            shutil.copytree(source / name, target / name, ignore=pickles)


def _fused(name: str, model: nn.Module, changed: Mapping[str, mx.array]) -> Model:
    """A dense model of the weights of `model`, but for those that are changed."""
    config = {key: value for key, value in model.raw_config.items() if key not in (CONFIG_KEY, DENSE_KEY)}
    packed = packed_parts(model)
    weights = dict(tree_flatten(model.parameters()))
    dense = {key: weight for key, weight in weights.items() if key not in packed}
    for path, layer in model.named_modules():
        if isinstance(layer, QuantizedLayer):
            dense[f"{path}.weight"] = layer.dequantized()
    for path, weight in changed.items():
        dense[f"{path.removeprefix(f'{name}.')}.weight"] = weight
    fused = create_model(config)
    fused.update(tree_unflatten(list(dense.items())))
    return fused


class Change(NamedTuple):
    """Of one layer: what its change was to be, and became."""

    path: str
    product: float
    wanted: float
    became: float
    """The last two squared norms."""


def _measure(name: str, base: nn.Module, fused: nn.Module, changed: Mapping[str, mx.array]) -> list[Change]:
    before, after = adaptable({name: base}), adaptable({name: fused})
    changes = []
    for path, weight in changed.items():
        if isinstance(after[path], QuantizedLayer):
            start = dense_weight(before[path]).astype(mx.float32)
            wanted, became = weight - start, dense_weight(after[path]) - start
            sums = [(wanted * became).sum(), wanted.square().sum(), became.square().sum()]
            changes.append(Change(path, *(np.asarray(value).item() for value in sums)))
    return changes


def _summed(changes: Sequence[Change]) -> Kept | None:
    if not changes:
        return None
    worst = min(changes, key=_cosine)
    whole = Change("", *(sum(values) for values in zip(*(change[1:] for change in changes), strict=True)))
    return Kept(_cosine(whole), _cosine(worst), worst.path)


def _cosine(change: Change) -> float:
    return change.product / max(float(np.sqrt(change.wanted * change.became)), 1e-30)
