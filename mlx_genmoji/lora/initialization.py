"""Preparing models to train an adapter: which layers get one, how they start, and reading out the trained adapter."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from safetensors import safe_open

from ..checkpoint.weight_files import check_safetensors, find_weights
from ..errors import UserError
from ..files import read_json
from ..quantization import Quantization, QuantizedLayer
from .adapter import Adapter, Layer, to_adapter_shape
from .layer_tree import COMPONENTS, Models, adaptable, attached, detach, replace
from .layers import LoRALayer, dense_weight, output_norms, weight_shape, wrap

TARGETS: dict[str, tuple[str, ...]] = {
    "attention": ("unet.*.to_[qkv]", "unet.*.to_out.0"),
    "feed-forward": ("unet.*.ff.net.*",),
    "conv": (
        "unet.*.conv[12]",
        "unet.*.conv_shortcut",
        "unet.*samplers.*.conv",
        "unet.*.proj_in",
        "unet.*.proj_out",
    ),
    "text-encoder": ("text_encoder*.self_attn.*",),
}

INITS = ("zero", "pissa", "loftq")


@dataclass(frozen=True)
class LoRAConfig:
    """The settings of an adapter. Raises UserError for a value that is not valid."""

    rank: int = 16
    alpha: float | None = None
    """The delta is scaled by alpha / rank; with `rslora` (Kalajdzievski, 2023) by alpha / sqrt(rank). None: rank."""
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ("attention",)
    """Names in TARGETS, or shell patterns for the full paths of layers or for the ends of paths ("to_q")."""
    init: str = "zero"
    """How the matrices start.

    zero: up is zero, so the delta is zero.
    pissa (Meng et al., 2024): the top singular components of the base weight. Their initial product is subtracted, so
    the layer's output is unchanged at step 0. The base is not changed, so on a quantized base this does not reduce the
    quantization error.
    loftq (Li et al., 2023): on a quantized base, the top singular components of the quantization error, which takes the
    dense weights to compute; the adapter starts by correcting that error. Layers that are dense start as with zero.
    """

    def __post_init__(self) -> None:
        for what, good, needed in (
            ("rank", type(self.rank) is int and self.rank > 0, "1 or more"),
            ("alpha", self.alpha is None or (math.isfinite(self.alpha) and self.alpha > 0), "more than 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 up to, but not, 1"),
            ("targets", len(self.targets) > 0, "one or more of " + ", ".join(TARGETS) + ", or patterns"),
            ("init", self.init in INITS, "one of " + ", ".join(INITS)),
        ):
            if not good:
                raise UserError(f"The adapter's {what} must be {needed}, not {getattr(self, what)!r}.")

    def scale(self, rank: int) -> float:
        """The factor of up @ down in a layer of this rank."""
        alpha = self.rank if self.alpha is None else self.alpha
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def attach(models: Models, config: LoRAConfig, seed: int, dense: Callable[[str], mx.array] | None = None) -> list[str]:
    """Freeze `models` and wrap their target layers, in place, in LoRA layers to train. Returns their full paths.

    Afterwards `trainable_parameters()` are the adapter's alone, in float32. The new layers are in training mode
    (dropout); `model.eval()` and `model.train()` switch it. LoRA layers attached before are removed. How a layer starts
    depends only on the seed and its path. dense: full path -> the layer's dense weight, for the init "loftq".
    Raises UserError if a target matches no layer, with a list of those that do.
    """
    detach(models)
    layers = adaptable(models)
    paths = select(layers, config.targets)
    if config.init == "loftq" and (dense is None or not any(isinstance(layers[p], QuantizedLayer) for p in paths)):
        raise UserError("The adapter's init 'loftq' needs a quantized model and its dense weights.")
    for model in models.values():
        model.freeze()
    wrapped = {}
    for path in paths:
        wrapped[path] = _start(layers[path], path, config, seed, dense)
        # One at a time: the decompositions need much memory, and a long lazy chain is deep.
        mx.eval(wrapped[path].trainable_parameters())
    replace(models, wrapped)
    return paths


def attach_adapter(models: Models, adapter: Adapter, dropout: float = 0.0, trainable: bool = True) -> list[str]:
    """Freeze `models` and wrap the layers of an adapter, in place, to continue its training. Returns their full paths.

    In float32 and in training mode, as by `attach`. Raises UserError if the adapter is for another model.
    """
    adapter = adapter.resolve(models)
    detach(models)
    layers = adaptable(models)
    for model in models.values():
        model.freeze()
    wrapped = {}
    for path, delta in adapter.low_rank_only("training").items():
        # A 1x1 convolution is a linear layer in the models.
        down = delta.down.astype(mx.float32).reshape(delta.rank, *weight_shape(layers[path])[1:])
        magnitude = None if delta.dora_scale is None else delta.dora_scale.astype(mx.float32)
        layer = wrap(layers[path], down, delta.up.astype(mx.float32), delta.scale, dropout=dropout, magnitude=magnitude)
        if trainable:
            layer.freeze_base()
        else:
            layer.freeze()
        wrapped[path] = layer
        mx.eval(layer.parameters())
    replace(models, wrapped)
    return list(wrapped)


def dense_weights(folder: str | Path) -> Callable[[str], mx.array]:
    """A function full path -> dense weight of that layer, read from a dense model's folder at each call.

    Raises UserError if the folder's weights are missing or packed; the function does for a layer that it lacks.
    """
    files: dict[str, Path] = {}
    for component in COMPONENTS:
        if (Path(folder) / component).is_dir():
            if Quantization.read(read_json(Path(folder) / component / "config.json")) is not None:
                raise UserError(
                    f"{folder} is packed, and its dense weights are needed: give the dense model that it was made from."
                )
            for file in find_weights(Path(folder) / component):
                check_safetensors(file)
                with safe_open(file, "numpy") as opened:
                    files |= {f"{component}.{key}": file for key in opened.keys()}  # noqa: SIM118

    def read(path: str) -> mx.array:
        component, _, module = path.partition(".")
        for key in (module, module.removeprefix("text_model.")):
            if (file := files.get(f"{component}.{key}.weight")) is not None:
                weight = cast(dict[str, mx.array], mx.load(str(file)))[f"{key}.weight"]
                return weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else weight
        raise UserError(f"{folder} holds no weight for {path}: it is another model.")

    return read


def adapter_of(models: Models, for_dense: bool = False) -> Adapter:
    """The adapter that is attached to `models`, evaluated.

    It is for the base that it is attached to. for_dense: if it started from the error of a quantized base ("loftq"), it
    is for the dense model instead, which has no error to correct. That doubles the rank.
    """
    deltas = {}
    for path, layer in attached(models).items():
        down, up = layer.pair(layer.offset or (for_dense and "start_a" in layer))
        deltas[path] = Layer(to_adapter_shape(down, path, models), up, layer.scale * len(down), layer.get("magnitude"))
    mx.eval([(delta.down, delta.up, delta.dora_scale) for delta in deltas.values()])
    xl = "text_encoder_2" in models or ("unet" in models and models["unet"].config.addition_embed_type == "text_time")
    return Adapter(deltas, {"ss_base_model_version": "sdxl_base_v1-0"} if xl else {})


def select(paths: Mapping[str, object], targets: tuple[str, ...]) -> list[str]:
    """The full paths that match any of the targets, in their order. Raises UserError if a target matches none."""
    chosen: set[str] = set()
    for target in targets:
        patterns = TARGETS.get(target, (target, f"*.{target}"))
        matches = {path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)}
        if not matches:
            endings = sorted({re.sub(r"\d+", "*", path.partition(".")[0] + ".*." + _ending(path)) for path in paths})
            raise UserError(
                f"The adapter's target {target!r} matches no layer. It may be {', '.join(TARGETS)}, or a pattern"
                f" of these layers: {', '.join(endings)}."
            )
        chosen |= matches
    return [path for path in paths if path in chosen]


def _ending(path: str) -> str:
    """The end of a path from its last name that is not a number ("to_out.0"), or that before ".proj"."""
    return re.sub(r"^.*\.(?=[^.]*[^.\d][^.]*(\.\d+)?(\.proj)?$)", "", path)


def _start(
    base: nn.Module, path: str, config: LoRAConfig, seed: int, dense: Callable[[str], mx.array] | None
) -> LoRALayer:
    """`base` in a LoRA layer as it is before training."""
    layer_seed = int.from_bytes(hashlib.sha256(f"{seed}/{path}".encode()).digest()[:8])
    shape = weight_shape(base)
    scale = config.scale(config.rank)
    corrects_error = config.init == "loftq" and isinstance(base, QuantizedLayer)
    starts_at_zero = config.init != "pissa" and not corrects_error
    if starts_at_zero:
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        down = mx.random.uniform(-bound, bound, (config.rank, *shape[1:]), key=mx.random.key(layer_seed))
        up = mx.zeros((shape[0], config.rank))
    else:
        weight = dense_weight(base).astype(mx.float32)
        if corrects_error:
            assert dense is not None
            weight = dense(path).astype(mx.float32).reshape(shape) - weight
        down, up = _top_components(weight, config.rank, layer_seed)
        scale = config.scale(len(down))
        down, up = down / math.sqrt(scale), up / math.sqrt(scale)
    layer = wrap(base, down, up, scale, dropout=config.dropout)
    if not starts_at_zero:
        layer.start_from(offset=config.init == "pissa")
    if config.dora:
        layer.magnitude = output_norms(layer.changed_weight())
    layer.freeze_base()
    return layer


# The random projection's extra columns and its power iterations: more of either come closer to the exact SVD.
_OVERSAMPLING = 8
_ITERATIONS = 8


def _top_components(weight: mx.array, rank: int, seed: int) -> tuple[mx.array, mx.array]:
    """A weight (out, ...) -> down (rank, ...) and up (out, rank), whose product is close to its best approximation.

    Randomized SVD (Halko, Martinsson and Tropp, 2011, https://arxiv.org/abs/0909.4061, algorithm 4.4): the exact one
    takes minutes for a wide convolution. Each matrix gets the square root of the singular values. The rank is at most
    the smaller side of the weight.
    """
    matrix = np.asarray(weight).reshape(len(weight), -1)
    rank = min(rank, *matrix.shape)
    width = min(rank + _OVERSAMPLING, *matrix.shape)
    sketch = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), np.float32)
    basis = np.linalg.qr(matrix @ sketch)[0]
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    left, values, right = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    root = np.sqrt(values[:rank])
    down = (root[:, None] * right[:rank]).reshape(rank, *weight.shape[1:])
    return mx.array(down), mx.array((basis @ left)[:, :rank] * root)
