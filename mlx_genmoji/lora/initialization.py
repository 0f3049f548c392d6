"""Models made ready to train an adapter: which layers, how it starts, and the adapter that comes of it."""

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
from .adapter import Adapter, Layer, as_filed
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
    """What an adapter is. Raises UserError where it makes no sense."""

    rank: int = 16
    alpha: float | None = None
    """The change is scaled by alpha / rank; None is the rank. With `rslora` (Kalajdzievski, 2023), / sqrt(rank)."""
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ("attention",)
    """Of TARGETS, or patterns as of a shell for the full paths of layers, or for their ends ("to_q")."""
    init: str = "zero"
    """zero: the change is none. pissa (Meng et al., 2024): the change is none and what is trained is the principal part
    of the weights, whose start is taken off again; the base is left as it is, so on a quantized base this does not make
    the quantization error smaller. loftq (Li et al., 2023): of a quantized base, the principal part of the quantization
    error, from the dense weights, which the adapter repairs first; layers that stay dense start as with zero."""

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
        """Of the change of a layer of this rank."""
        alpha = self.rank if self.alpha is None else self.alpha
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def attach(models: Models, config: LoRAConfig, seed: int, dense: Callable[[str], mx.array] | None = None) -> list[str]:
    """Freeze `models` and give their target layers, in place, a change to train; the layers' full paths.

    Afterwards the adapter is all that `trainable_parameters()` has, in float32. The new layers are in training mode
    (dropout); `model.eval()` and `model.train()` switch. What was attached before is taken away. Each layer's start
    depends on the seed and its path alone. dense: the dense weight of a layer by its full path, for the init "loftq".
    Raises UserError where a target matches no layer, listing what there is.
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
        # One at a time: a long lazy chain is deep, and the decompositions are large.
        mx.eval(wrapped[path].trainable_parameters())
    replace(models, wrapped)
    return paths


def attach_adapter(models: Models, adapter: Adapter, dropout: float = 0.0, trainable: bool = True) -> list[str]:
    """Freeze `models` and give their layers, in place, the changes of an adapter, to train on from there; the paths.

    In float32 and in training mode, as of `attach`. Raises UserError where the adapter is of another model.
    """
    adapter = adapter.resolve(models)
    detach(models)
    layers = adaptable(models)
    for model in models.values():
        model.freeze()
    wrapped = {}
    for path, change in adapter.layers.items():
        # A 1x1 convolution is kept as a linear layer.
        down = change.down.astype(mx.float32).reshape(change.rank, *weight_shape(layers[path])[1:])
        magnitude = None if change.dora_scale is None else change.dora_scale.astype(mx.float32)
        layer = wrap(
            layers[path], down, change.up.astype(mx.float32), change.scale, dropout=dropout, magnitude=magnitude
        )
        if trainable:
            layer.freeze_base()
        else:
            layer.freeze()
        wrapped[path] = layer
        mx.eval(layer.parameters())
    replace(models, wrapped)
    return list(wrapped)


def dense_weights(folder: str | Path) -> Callable[[str], mx.array]:
    """The weights of a dense model's folder by the full path of their layer, each read when it is asked for.

    Raises UserError where the folder holds none or packed ones, and then where it lacks a layer's.
    """
    files: dict[str, Path] = {}
    for component in COMPONENTS:
        if (Path(folder) / component).is_dir():
            if Quantization.read(read_json(Path(folder) / component / "config.json")) is not None:
                raise UserError(
                    f"{folder} is packed, and its dense weights are needed: give the model as it was before."
                )
            for file in find_weights(Path(folder) / component):
                check_safetensors(file)
                with safe_open(file, "numpy") as opened:
                    files |= {f"{component}.{key}": file for key in opened.keys()}  # noqa: SIM118

    def read(path: str) -> mx.array:
        component, _, own = path.partition(".")
        for key in (own, own.removeprefix("text_model.")):
            if (file := files.get(f"{component}.{key}.weight")) is not None:
                weight = cast(dict[str, mx.array], mx.load(str(file)))[f"{key}.weight"]
                return weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else weight
        raise UserError(f"{folder} holds no weight of {path}: it is another model.")

    return read


def adapter_of(models: Models, for_dense: bool = False) -> Adapter:
    """The adapter that is attached to `models`, evaluated.

    Of the base that it is attached to; `for_dense`, where that is a quantized one and the adapter started from its
    error ("loftq"): of the dense base, which needs no repair, at twice the rank.
    """
    changes = {}
    for path, layer in attached(models).items():
        down, up = layer.pair(layer.offset or (for_dense and "start_a" in layer))
        changes[path] = Layer(as_filed(down, path, models), up, layer.scale * len(down), layer.get("magnitude"))
    mx.eval([(change.down, change.up, change.dora_scale) for change in changes.values()])
    xl = "text_encoder_2" in models or ("unet" in models and models["unet"].config.addition_embed_type == "text_time")
    return Adapter(changes, {"ss_base_model_version": "sdxl_base_v1-0"} if xl else {})


def select(paths: Mapping[str, object], targets: tuple[str, ...]) -> list[str]:
    """Those of the full paths that targets ask for. Raises UserError where one asks for none."""
    chosen: set[str] = set()
    for target in targets:
        patterns = TARGETS.get(target, (target, f"*.{target}"))
        found = {path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)}
        if not found:
            there = sorted({re.sub(r"\d+", "*", path.partition(".")[0] + ".*." + _ending(path)) for path in paths})
            raise UserError(
                f"The adapter's target {target!r} matches no layer. There are {', '.join(TARGETS)}, and patterns of"
                f" layers: {', '.join(there)}."
            )
        chosen |= found
    return [path for path in paths if path in chosen]


def _ending(path: str) -> str:
    """The last names of a path, from the last that is not a number."""
    return re.sub(r"^.*\.(?=[^.]*[^.\d][^.]*(\.\d+)?(\.proj)?$)", "", path)


def _start(
    base: nn.Module, path: str, config: LoRAConfig, seed: int, dense: Callable[[str], mx.array] | None
) -> LoRALayer:
    """A layer with a change as it is before training."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{path}".encode()).digest()[:8])
    shape = weight_shape(base)
    scale = config.scale(config.rank)
    repairs = config.init == "loftq" and isinstance(base, QuantizedLayer)
    zero = config.init != "pissa" and not repairs
    if zero:
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        down = mx.random.uniform(-bound, bound, (config.rank, *shape[1:]), key=mx.random.key(number))
        up = mx.zeros((shape[0], config.rank))
    else:
        weight = dense_weight(base).astype(mx.float32)
        if repairs:
            assert dense is not None
            weight = dense(path).astype(mx.float32).reshape(shape) - weight
        down, up = _principal(weight, config.rank, number)
        scale = config.scale(len(down))
        down, up = down / math.sqrt(scale), up / math.sqrt(scale)
    layer = wrap(base, down, up, scale, dropout=config.dropout)
    if not zero:
        layer.start_from(offset=config.init == "pissa")
    if config.dora:
        layer.magnitude = output_norms(layer.changed_weight())
    layer.freeze_base()
    return layer


# Directions drawn beyond the rank, and multiplications: how close to the true principal part the random one comes.
_OVERSAMPLING = 8
_ITERATIONS = 8


def _principal(weight: mx.array, rank: int, seed: int) -> tuple[mx.array, mx.array]:
    """The best approximation of a weight by a low rank, nearly: (rank, ...) and (out, rank), evenly divided.

    Halko, Martinsson and Tropp, 2011, https://arxiv.org/abs/0909.4061, algorithm 4.4. The whole decomposition of a wide
    convolution's weight takes minutes. Of a weight whose sides are less than the rank, the rank is less.
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
