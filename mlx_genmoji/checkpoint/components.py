"""A component of a diffusers folder (`config.json` + safetensors) <-> a module tree.

A module's parameter path is the checkpoint's key. Loading a tensor therefore means: move a convolution from OIHW to
OHWI, squeeze a 1x1 convolution that is a linear layer here, rename the few legacy keys, cast. Every parameter must get
exactly one tensor.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..errors import UserError, first_few, quoted
from ..files import read_json, whole_file, write_json
from ..models import CONFIG_KEY
from ..models.blocks import PointwiseConv
from ..models.ops import on_cpu
from ..models.ops.parallel_cast import parallel_cast, worth_parallel_cast
from .weight_files import STEMS, find_weights, is_plain

if TYPE_CHECKING:
    from ..models.clip import CLIPTextModel
    from ..models.tiny_vae import AutoencoderTiny
    from ..models.unet import UNet2DConditionModel
    from ..models.vae import AutoencoderKL
    from ..quantization import Quantization

Model: TypeAlias = "AutoencoderKL | AutoencoderTiny | CLIPTextModel | UNet2DConditionModel"

MODELS = {
    "AutoencoderKL": "vae",
    "AutoencoderTiny": "tiny_vae",
    "CLIPTextModel": "clip",
    "CLIPTextModelWithProjection": "clip",
    "UNet2DConditionModel": "unet",
}
"""Each class that a `config.json` may name, and the module of `mlx_genmoji.models` that has it, imported on first use.
"""

LEGACY_KEYS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "AutoencoderKL": (
        (r"(attentions\.\d+)\.query\.", r"\1.to_q."),
        (r"(attentions\.\d+)\.key\.", r"\1.to_k."),
        (r"(attentions\.\d+)\.value\.", r"\1.to_v."),
        (r"(attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
    ),
    "CLIPTextModel": (
        (r"embeddings\.position_ids$", None),
        (r"^(embeddings|encoder|final_layer_norm)\.", r"text_model.\1."),
    ),
}
"""By class: (pattern, replacement) for keys of older files. The first match is replaced; None drops the key."""

UNNEEDED = {
    "AutoencoderKL": r"^(loss|model_ema|discriminator)\.",
    "CLIPTextModel": r"^(text_projection\.weight|logit_scale|text_model\.logit_scale|attn_mask)$"
    r"|^(vision_model|visual_projection|visual)\.",
    "UNet2DConditionModel": r"^(betas|alphas_cumprod\w*|sqrt_\w+|model_ema\..*)$",
}
"""By class, keys that some files have beside a model's: what only training needs, or the other half of CLIP."""


def load_model(
    folder: str | Path,
    kinds: Sequence[str] = (),
    *,
    variant: str | None = None,
    quantization: Quantization | None = None,
    allow_pickle: bool = False,
) -> Model:
    """Build one component from its folder and load its weights, evaluated; packed if config.json says so.

    The dtype is float32 on a CPU and float16 on a GPU; an autoencoder is float32 on a GPU too, unless its config has
    `force_upcast` false. If the folder has files in both precisions, those in the device's own are read, or those of
    `variant`. kinds: the names of the classes that it may be, all if empty.
    quantization: pack dense weights, one layer after another, so that the dense model is never in memory as a whole.
    allow_pickle: read PyTorch's files where there are no others; nothing in them is run (`pickles`).
    Raises UserError if a file is missing or damaged, the config is not supported or describes another kind of model,
    tensors do not fit, or the weights are packed in another way already.
    """
    model = create_model(read_json(Path(folder) / "config.json"))
    if kinds and not is_kind(model, *kinds):
        raise UserError(f"{folder}: config.json describes another kind of model than {kinds[0]}.")
    defer_casts = on_cpu() and quantization is None
    _load_weights_of(Path(folder), model, variant, defer_casts=defer_casts, allow_pickle=allow_pickle)
    if quantization is not None:
        _pack(model, quantization, folder)
    _cast_deferred(model)
    mx.eval(model.parameters())
    return model


def _pack(model: Model, quantization: Quantization, folder: str | Path) -> None:
    """Pack a model's dense weights. Raises UserError if its folder has them packed in another way."""
    from ..quantization import Quantization, quantize_model

    packed = Quantization.read(model.raw_config)
    if packed is None:
        quantize_model(model, quantization, measure=False)
    elif packed != quantization:
        raise UserError(f"{folder} is packed already, as {packed}: start from the dense model.")


def open_model(folder: str | Path, variant: str | None = None) -> Model:
    """The model that `load_model` loads, with lazy weights: each is read from its file when it is first used."""
    model = create_model(read_json(Path(folder) / "config.json"))
    _load_weights_of(Path(folder), model, variant, defer_casts=False)
    return model


def compute_dtype(model: Model) -> mx.Dtype:
    """The dtype that a model computes in: see `load_model`."""
    # Only the configs of autoencoders have this field.
    needs_float32 = getattr(model.config, "force_upcast", False)
    return mx.float32 if on_cpu() or needs_float32 else mx.float16


def _load_weights_of(
    folder: Path, model: Model, variant: str | None, defer_casts: bool, allow_pickle: bool = False
) -> None:
    """Give a model the weights in its folder, lazily, in the dtype that it computes in."""
    dtype = compute_dtype(model)
    paths = find_weights(folder, half=dtype == mx.float16, variant=variant, allow_pickle=allow_pickle)
    load_weights(model, paths, dtype, defer_casts, allow_pickle)
    # nn.Module's own __setattr__ would take a tuple for parameters.
    object.__setattr__(model, "weight_paths", tuple(paths))
    model.eval()


def weight_paths(model: nn.Module) -> tuple[Path, ...]:
    """The files that `load_model` read the weights of `model` from; empty if it was not loaded from files."""
    return getattr(model, "weight_paths", ())


def _cast_deferred(model: Model) -> None:
    """On a CPU, cast the weights that are still float16 to float32, evaluated; parts of packed weights stay."""
    if not on_cpu():
        return
    packed = packed_parts(model)
    places = [
        (module, name)
        for path, module in model.named_modules()
        for name, value in module.items()
        if isinstance(value, mx.array) and value.dtype == mx.float16 and f"{path}.{name}" not in packed
    ]
    halves = (module[name] for module, name in places)
    for (module, name), weight in zip(places, parallel_cast(halves), strict=True):
        module[name] = weight


def packed_parts(model: nn.Module) -> set[str]:
    """The paths of all parameters that are parts of packed weights (`quantization.QuantizedLayer`)."""
    layers = [(path, layer) for path, layer in model.named_modules() if is_kind(layer, "QuantizedLayer")]
    return {f"{path}.{part}" for path, layer in layers for part in layer.PARTS if part in layer}


def is_kind(model: nn.Module, *names: str) -> bool:
    """Whether the class of `model`, or one that it derives from, has one of these names. It need not be imported."""
    return any(kind.__name__ in names for kind in type(model).__mro__)


def create_model(config: Mapping[str, Any]) -> Model:
    """The module that a `config.json` describes, with random weights."""
    requested = config.get("_class_name") or config.get("architectures")
    names = requested if isinstance(requested, list) else [requested]
    name = next((name for name in MODELS if name in names), None)
    if name is None:
        raise UserError(f"config.json asks for {quoted(repr(requested))}, supported are {', '.join(MODELS)}.")
    module = import_module(f"..models.{MODELS[name]}", __package__)
    model: Model = getattr(module, name).from_config(config)
    # MLX draws random weights lazily, and makes the key of each draw from the key before. After many models that were
    # never drawn the chain of keys is so long that a gradient, which walks it, overflows the stack.
    mx.eval(mx.random.state)
    return model


def load_weights(
    model: Model,
    paths: Sequence[Path],
    dtype: mx.Dtype = mx.float32,
    defer_casts: bool = False,
    allow_pickle: bool = False,
) -> None:
    """Give `model` the weights of safetensors files, lazily: each is read when it is first used.

    dtype, defer_casts: see `assign`. Raises UserError with a list of the tensors that do not fit. Warns of tensors that
    were passed over because nothing here needs them.
    """
    tensors = list(_tensors(paths, allow_pickle))
    if model.raw_config.get(CONFIG_KEY) is not None:
        from ..quantization import Quantization, expect_packed

        quantization = Quantization.read(model.raw_config)
        assert quantization is not None
        scales = [key for key, _ in tensors if key.endswith(".scales")]
        expect_packed(model, quantization, [key.removesuffix(".scales") for key in scales])
    unneeded = [key for key, _ in tensors if is_unneeded(model, key)]
    if unneeded:
        warnings.warn(
            f"{paths[0]}: passed over tensors that drawing does not need: {first_few(unneeded)}", stacklevel=2
        )
    needed = [(key, tensor) for key, tensor in tensors if key not in set(unneeded)]
    assign(model, needed, dtype, f"{paths[0]} does not fit its config.json", defer_casts)


def assign(
    model: Model,
    tensors: Iterable[tuple[str, mx.array]],
    dtype: mx.Dtype,
    complaint: str,
    defer_casts: bool = False,
) -> None:
    """Give `model` the tensors of a file by their keys, lazily. Every parameter must get exactly one.

    dtype: of all weights but packed ones. defer_casts: large float16 tensors stay as they are, to be cast together.
    Raises UserError, `complaint` and a list of what does not fit; the model is then unchanged.
    """
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    legacy = next((table for kind, table in LEGACY_KEYS.items() if is_kind(model, kind)), ())
    packed = packed_parts(model)
    loaded: dict[str, mx.array] = {}
    unexpected, misshaped = [], []
    for key, tensor in tensors:
        name = _current_key(key, legacy)
        if name is None:
            continue
        if name not in parameters or name in loaded:
            unexpected.append(quoted(key))
            continue
        parameter = parameters[name]
        target = parameter.dtype if name in packed else dtype
        if name not in packed:
            tensor = _channels_last(tensor, parameter.ndim)
        if tensor.shape != parameter.shape:
            misshaped.append(f"{quoted(key)} {tensor.shape} instead of {parameter.shape}")
        if defer_casts and worth_parallel_cast(tensor):
            target = mx.float16
        if not _castable(tensor.dtype, target):
            unexpected.append(f"{quoted(key)} of type {tensor.dtype}")
        loaded[name] = tensor.astype(target)
    missing = [name for name in parameters if name not in loaded]
    _raise_misfits(complaint, missing=missing, unexpected=unexpected, misshaped=misshaped)
    model.update(tree_unflatten(list(loaded.items())))


def _raise_misfits(complaint: str, **names: list[str]) -> None:
    """Raise UserError if there are names of any kind."""
    misfits = [f"{kind}: {first_few(listed)}" for kind, listed in names.items() if listed]
    if misfits:
        raise UserError(f"{complaint}; {'; '.join(misfits)}.")


def save_model(model: Model, folder: Path, dtype: mx.Dtype = mx.float32) -> None:
    """Write `config.json` and weights as diffusers and transformers read them, each file whole or not at all.

    dtype: of the weights that are not packed. Packed weights are written as they are, convolutions OHWI, like mlx-lm's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    pointwise = {name for name, module in model.named_modules() if isinstance(module, PointwiseConv)}
    packed = packed_parts(model)
    tensors = {}
    for name, tensor in parameters.items():
        if name in packed:
            tensors[name] = tensor
            continue
        path, _, kind = name.rpartition(".")
        if kind == "weight" and path in pointwise:
            tensor = tensor[:, None, None]
        if tensor.ndim == 4:
            tensor = tensor.transpose(0, 3, 1, 2)
        tensors[name] = mx.contiguous(tensor.astype(dtype))
    target = folder / f"{STEMS[is_kind(model, 'CLIPTextModel')]}.safetensors"
    with whole_file(target) as partial:
        mx.save_safetensors(str(partial), tensors, {"format": "pt"})
    write_json(folder / "config.json", model.raw_config)


def is_unneeded(model: Model, key: str) -> bool:
    """Whether a tensor of a file is none of the model's, and drawing is the same without it."""
    pattern = next((pattern for kind, pattern in UNNEEDED.items() if is_kind(model, kind)), None)
    if pattern is None or not re.search(pattern, key):
        return False
    return not (key == "text_projection.weight" and is_kind(model, "CLIPTextModelWithProjection"))


def _tensors(paths: Sequence[Path], allow_pickle: bool) -> Iterator[tuple[str, mx.array]]:
    """The tensors of weight files by their keys; those of safetensors are lazy. See `tensor_files.read_tensors`."""
    for path in paths:
        if is_plain(path):
            tensors: Any = mx.load(str(path))
        else:
            from .tensor_files import read_tensors

            tensors, _ = read_tensors(path, allow_pickle)
        yield from sorted(tensors.items())


def _current_key(key: str, legacy: tuple[tuple[str, str | None], ...]) -> str | None:
    """The current name of a file's key; None for a tensor that is not used any more."""
    for pattern, replacement in legacy:
        if re.search(pattern, key):
            return None if replacement is None else re.sub(pattern, replacement, key)
    return key


def _channels_last(tensor: mx.array, ndim: int) -> mx.array:
    """A weight as a file has it -> as a parameter of `ndim` dimensions: OIHW -> OHWI, or -> OI for a 1x1 kernel."""
    if tensor.ndim == 4 and ndim == 4:
        # Contiguous: a transposed view would be copied at each convolution. It is lazy, read and cast in one go.
        return mx.contiguous(tensor.transpose(0, 2, 3, 1))
    if tensor.ndim == 4 and ndim == 2 and tensor.shape[2:] == (1, 1):
        return tensor.squeeze((2, 3))
    return tensor


def _castable(dtype: mx.Dtype, target: mx.Dtype) -> bool:
    return dtype == target or (mx.issubdtype(dtype, mx.floating) and mx.issubdtype(target, mx.floating))
