"""A component of a diffusers folder (`config.json` + safetensors) <-> a module tree.

A module's parameter path is the checkpoint's key, so loading is: read, move convolutions OIHW -> OHWI, squeeze where a
1x1 convolution is a linear layer here, rename the few legacy keys, load strictly.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..errors import UserError, quoted
from ..files import read_json, whole_file, write_json
from ..models.blocks import PointwiseConv
from ..models.clip import CLIPTextModel, CLIPTextModelWithProjection
from ..models.ops import on_cpu
from ..models.ops.cpu_eager import LARGE, widened
from ..models.tiny_vae import AutoencoderTiny
from ..models.unet import UNet2DConditionModel
from ..models.vae import AutoencoderKL
from ..quantization import Quantization, expect_packed, packed_parts, quantize_model
from .weight_files import STEMS, check_safetensors, find_weights

Model = AutoencoderKL | AutoencoderTiny | CLIPTextModel | UNet2DConditionModel

MODELS: dict[str, Callable[[Mapping[str, Any]], Model]] = {
    "AutoencoderKL": AutoencoderKL.from_config,
    "AutoencoderTiny": AutoencoderTiny.from_config,
    "CLIPTextModel": CLIPTextModel.from_config,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection.from_config,
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
}

# (pattern, replacement) for keys as other files spell them; None drops the key.
LEGACY_KEYS: dict[type, tuple[tuple[str, str | None], ...]] = {
    AutoencoderKL: (
        (r"(attentions\.\d+)\.query\.", r"\1.to_q."),
        (r"(attentions\.\d+)\.key\.", r"\1.to_k."),
        (r"(attentions\.\d+)\.value\.", r"\1.to_v."),
        (r"(attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
    ),
    CLIPTextModel: (
        (r"embeddings\.position_ids$", None),
        (r"^(embeddings|encoder|final_layer_norm)\.", r"text_model.\1."),
    ),
}


def load_model(folder: str | Path, variant: str | None = None, quantization: Quantization | None = None) -> Model:
    """Build one component from its folder and load its weights, evaluated; packed where config.json says so.

    float32 on a CPU; on a GPU half precision, except for an autoencoder whose config does not say that it stands that
    (`force_upcast` false). Of a folder with files of both precisions, those of its own are read, or those of `variant`.
    quantization: pack dense weights one after the other, so that they are never in memory together. Raises UserError in
    one sentence where a file is missing or damaged, the config asks for what is not supported, tensors do not fit, or
    weights are packed otherwise already.
    """
    model = _open_model(Path(folder), variant, keep_halves=on_cpu() and quantization is None)
    packed = Quantization.read(model.raw_config)
    if quantization is not None and packed is None:
        quantize_model(model, quantization, measure=False)
    elif quantization not in (None, packed):
        raise UserError(f"{folder} is packed already, as {packed}: start from the dense model.")
    _widen(model)
    mx.eval(model.parameters())
    return model


def open_model(folder: str | Path, variant: str | None = None) -> Model:
    """What `load_model` loads, its weights unread until they are needed."""
    return _open_model(Path(folder), variant, keep_halves=False)


def _open_model(folder: Path, variant: str | None, keep_halves: bool) -> Model:
    config = read_json(folder / "config.json")
    model = create_model(config)
    sensitive = isinstance(model, AutoencoderKL | AutoencoderTiny) and model.config.force_upcast
    dtype = mx.float32 if on_cpu() or sensitive else mx.float16
    paths = find_weights(folder, half=dtype == mx.float16, variant=variant)
    load_weights(model, paths, dtype, keep_halves)
    # Past MLX's modules, which would take a list for parameters.
    object.__setattr__(model, "weight_paths", tuple(paths))
    model.eval()
    return model


def weight_paths(model: nn.Module) -> tuple[Path, ...]:
    """The files that `load_model` read the weights of `model` from; none where it was not loaded."""
    return getattr(model, "weight_paths", ())


def _widen(model: Model) -> None:
    """Evaluate what of a CPU's weights is in half precision, in float32, but for parts of packed weights."""
    if not on_cpu():
        return
    packed = packed_parts(model)
    places = [
        (module, name)
        for path, module in model.named_modules()
        for name, value in module.items()
        if isinstance(value, mx.array) and value.dtype == mx.float16 and f"{path}.{name}" not in packed
    ]
    for (module, name), wide in zip(places, widened(module[name] for module, name in places), strict=True):
        module[name] = wide


def create_model(config: Mapping[str, Any]) -> Model:
    """The module that a `config.json` describes, with random weights."""
    named = config.get("_class_name") or config.get("architectures")
    names = named if isinstance(named, list) else [named]
    for name, create in MODELS.items():
        if name in names:
            model = create(config)
            # MLX draws weights only when they are needed, and makes each draw's key from the last one's. Undrawn, the
            # keys of many models are a history so long that a gradient, which walks it, runs out of stack.
            mx.eval(mx.random.state)
            return model
    raise UserError(f"config.json asks for {quoted(repr(named))}, supported are {', '.join(MODELS)}.")


def load_weights(model: Model, paths: Sequence[Path], dtype: mx.Dtype = mx.float32, keep_halves: bool = False) -> None:
    """Give `model` the weights of safetensors files, every parameter exactly once, unread until they are needed.

    keep_halves: what is large and in float16 stays so. Raises UserError naming what does not fit.
    """
    tensors = list(_tensors(paths))
    quantization = Quantization.read(model.raw_config)
    if quantization is not None:
        scales = [key for key, _ in tensors if key.endswith(".scales")]
        expect_packed(model, quantization, [key.removesuffix(".scales") for key in scales])
    assign(model, tensors, dtype, f"{paths[0]} does not fit its config.json", keep_halves)


def assign(
    model: Model,
    tensors: Iterable[tuple[str, mx.array]],
    dtype: mx.Dtype,
    complaint: str,
    keep_halves: bool = False,
) -> None:
    """Give `model` tensors as files hold them, every parameter exactly one, unevaluated.

    Raises UserError, the complaint and a list of what does not fit.
    """
    expected: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    legacy = next((table for kind, table in LEGACY_KEYS.items() if isinstance(model, kind)), ())
    packed = packed_parts(model)
    loaded: dict[str, mx.array] = {}
    unexpected, misshaped = [], []
    for key, tensor in tensors:
        name = _rename(key, legacy)
        if name is None:
            continue
        if name not in expected or name in loaded:
            unexpected.append(quoted(key))
            continue
        if name not in packed:
            tensor = _to_here(tensor, expected[name].ndim)
        if tensor.shape != expected[name].shape:
            misshaped.append(f"{quoted(key)} {tensor.shape} instead of {expected[name].shape}")
        wanted = expected[name].dtype if name in packed else dtype
        if keep_halves and tensor.dtype == mx.float16 and tensor.size >= LARGE:
            wanted = mx.float16
        if tensor.dtype != wanted and not all(mx.issubdtype(kind, mx.floating) for kind in (tensor.dtype, wanted)):
            unexpected.append(f"{quoted(key)} of type {tensor.dtype}")
        loaded[name] = tensor.astype(wanted)
    problems = {
        "missing": [name for name in expected if name not in loaded],
        "unexpected": unexpected,
        "misshaped": misshaped,
    }
    found = [f"{kind}: {_list(names)}" for kind, names in problems.items() if names]
    if found:
        raise UserError(f"{complaint}; {'; '.join(found)}.")
    model.update(tree_unflatten(list(loaded.items())))


def save_model(model: Model, folder: Path, dtype: mx.Dtype = mx.float32) -> None:
    """Write `config.json` and weights as diffusers and transformers read them, each moved into place when whole.

    `dtype` is that of what is not packed. Packed weights are written as they are, convolutions OHWI, as mlx-lm does.
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
        owner, _, kind = name.rpartition(".")
        if kind == "weight" and owner in pointwise:
            tensor = tensor[:, None, None]
        if tensor.ndim == 4:
            tensor = tensor.transpose(0, 3, 1, 2)
        tensors[name] = mx.contiguous(tensor.astype(dtype))
    target = folder / f"{STEMS[isinstance(model, CLIPTextModel)]}.safetensors"
    with whole_file(target) as partial:
        mx.save_safetensors(str(partial), tensors, {"format": "pt"})
    write_json(folder / "config.json", model.raw_config)


def _tensors(paths: Sequence[Path]) -> Iterator[tuple[str, mx.array]]:
    """The tensors of safetensors files, unread yet, by their keys."""
    for path in paths:
        check_safetensors(path)
        try:
            tensors = mx.load(str(path))
        except RuntimeError as error:
            raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
        assert isinstance(tensors, dict)
        yield from sorted(tensors.items())


def _rename(key: str, table: tuple[tuple[str, str | None], ...]) -> str | None:
    for pattern, replacement in table:
        if re.search(pattern, key):
            return None if replacement is None else re.sub(pattern, replacement, key)
    return key


def _to_here(tensor: mx.array, ndim: int) -> mx.array:
    if tensor.ndim == 4 and ndim == 4:
        # A view with other strides would be copied by each convolution, and is cast as slowly as it is read.
        return mx.contiguous(tensor.transpose(0, 2, 3, 1))
    if tensor.ndim == 4 and ndim == 2 and tensor.shape[2:] == (1, 1):
        return tensor.squeeze((2, 3))
    return tensor


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
