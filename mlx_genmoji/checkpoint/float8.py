"""Weights in 8 bits, as checkpoints are pruned to: float8 in two forms, with or without scales, and int8 with scales.

A float8 tensor becomes float16, which holds each of its numbers exactly. A tensor with a scale is multiplied by it in
float32, and becomes float16. Layouts: ComfyUI's `scale_weight` and `weight_scale` (one number, or one for each output
channel), bitsandbytes' int8 with `SCB`. Others are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from ..errors import UserError, quoted

Tensors = dict[str, mx.array]

FLOAT8 = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
"""The dtypes of safetensors files -> those of PyTorch."""

SCALES = (".scale_weight", ".weight_scale")
"""What the key of a scale has in place of ".weight"."""

HELPERS = (".scale_input", ".input_scale", ".comfy_quant", ".weight_format", ".scale_output")
"""Endings of tensors beside quantized weights that reading them does not need."""

OTHER_FORMATS = {
    ".absmax": "bitsandbytes' 4 bits",
    ".quant_map": "bitsandbytes' 4 bits",
    ".qweight": "GPTQ or AWQ",
    "._data": "quanto",
    ".weight_scale_inv": "float8 in blocks",
    ".weight_scale_2": "NVFP4",
    ".svdq": "SVDQuant",
}
"""Endings of tensors that belong to quantized weights in a format that is not read, and its name."""

COMFY_FORMATS = ("float8_e4m3fn", "float8_e5m2")


def from_float8(bits: mx.array, dtype: str) -> mx.array:
    """The numbers of float8 bits (uint8) as float16, exact. dtype: "float8_e4m3fn" or "float8_e5m2"."""
    if dtype == "float8_e4m3fn":
        return mx.from_fp8(bits, mx.float16)
    # Its sign, its five bits of exponent and two of mantissa are the upper byte of a float16.
    return (bits.astype(mx.uint16) << 8).view(mx.float16)


def has_8_bits(tensors: Tensors, dtypes: Mapping[str, str]) -> bool:
    """Whether a file holds weights in 8 bits, or scales of such."""
    endings = (*SCALES, *HELPERS, *OTHER_FORMATS, ".SCB", "scaled_fp8")
    return any(dtype in FLOAT8 or dtype == "I8" for dtype in dtypes.values()) or any(
        key.endswith(endings) for key in tensors
    )


def read_8_bits(tensors: Tensors, dtypes: Mapping[str, str]) -> Tensors:
    """The tensors of a file with its weights of 8 bits as float16, lazily, and without their scales.

    dtypes: of each tensor, as a safetensors header names them. Raises UserError, which continues "FILE ...", for a
    format that is not read.
    """
    for key in tensors:
        for ending, name in OTHER_FORMATS.items():
            if ending in key:
                raise UserError(f"holds weights quantized in the format of {name} ({quoted(key)}), which is not read")
    scales = {}
    for key in tensors:
        stem = key.removesuffix(".weight")
        names = [stem + scale for scale in SCALES if stem + scale in tensors]
        if names:
            scales[key] = names[0]
    used = set(scales.values())
    result = {}
    for key, tensor in tensors.items():
        if key in used or key.endswith((*HELPERS, ".SCB")) or key.rpartition(".")[2] == "scaled_fp8":
            _check_comfy(key, tensor)
            continue
        if tensor.dtype == mx.float32 and tensor.ndim <= 1:
            # Biases and norms: with them in float32, all of the component would be written in float32.
            tensor = tensor.astype(mx.float16)
        if dtypes.get(key) in FLOAT8:
            tensor = from_float8(tensor, FLOAT8[dtypes[key]])
        if key in scales:
            tensor = _scaled(key, tensor, tensors[scales[key]])
        elif tensor.dtype == mx.int8:
            rows = tensors.get(f"{key.removesuffix('.weight')}.SCB")
            if rows is None:
                raise UserError(f"holds weights in int8 ({quoted(key)}) without their scales, so they cannot be read")
            tensor = _scaled(key, tensor, rows.astype(mx.float32) / 127)
        result[key] = tensor
    return result


def _scaled(key: str, tensor: mx.array, scale: mx.array) -> mx.array:
    """A weight times its scale: one number, or one for each output channel."""
    if scale.size != 1 and (tensor.ndim == 0 or scale.size != tensor.shape[0]):
        raise UserError(
            f"has a scale of the shape {scale.shape} for {quoted(key)} of {tensor.shape}, which is not read"
        )
    shape = [scale.size, *(1 for _ in tensor.shape[1:])] if scale.size != 1 else []
    return (tensor.astype(mx.float32) * scale.astype(mx.float32).reshape(shape)).astype(mx.float16)


def _check_comfy(key: str, tensor: mx.array) -> None:
    """ComfyUI states a layer's format in JSON. Raises UserError for one other than float8."""
    if not key.endswith(".comfy_quant"):
        return
    try:
        name = json.loads(bytes(np.array(tensor.astype(mx.uint8)))).get("format")
    except (ValueError, AttributeError):
        name = "unknown"
    if name not in COMFY_FORMATS:
        raise UserError(f"holds weights quantized in ComfyUI's format {quoted(repr(name))}, which is not read")
