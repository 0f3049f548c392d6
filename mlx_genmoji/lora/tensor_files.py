"""Reads safetensors files with all of their dtypes: MLX has no float8, which some adapters are shared in."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from ..checkpoint.weight_files import check_safetensors
from ..errors import UserError, quoted

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Float8(NamedTuple):
    """A dtype of one byte (Micikevicius et al., 2022, https://arxiv.org/abs/2209.05433)."""

    exponent_bits: int
    mantissa_bits: int
    has_infinity: bool


FLOAT8 = {"F8_E4M3": Float8(4, 3, False), "F8_E5M2": Float8(5, 2, True)}


def read_tensors(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The tensors of a safetensors file, lazy where it has no float8, and its header's metadata.

    float8 becomes float16, which has all of its numbers. Raises UserError if the file is damaged.
    """
    check_safetensors(path)
    try:
        with safe_open(path, "numpy") as opened:
            kinds = {opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
        if kinds & FLOAT8.keys():
            return _read_all(path)
        tensors, header = cast(Any, mx.load(str(path), return_metadata=True))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
    except ValueError:
        # MLX goes by the suffix, and some trainers give safetensors another: embeddings.pti.
        return _read_all(path)
    return tensors, header


def _read_all(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The same from the file's bytes. `check_safetensors` has checked its header."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for key, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        kind, shape = entry["dtype"], tuple(entry["shape"])
        raw = np.frombuffer(data[start:end], np.uint8)
        if kind in FLOAT8:
            tensors[key] = mx.array(float8_values(kind)[raw].reshape(shape))
        elif kind == "BF16":
            tensors[key] = mx.array(raw.view(np.uint16).reshape(shape)).view(mx.bfloat16)
        elif kind in DTYPES:
            tensors[key] = mx.array(raw.view(DTYPES[kind]).reshape(shape))
        else:
            raise UserError(f"{path} holds tensors of the dtype {quoted(kind)}, which is not supported.")
    return tensors, metadata


@cache
def float8_values(kind: str) -> np.ndarray[Any, Any]:
    """The numbers of all 256 bytes of a dtype in FLOAT8, float16."""
    layout = FLOAT8[kind]
    codes = np.arange(256)
    sign = np.where(codes & 128, -1.0, 1.0)
    mantissa = (codes & (2**layout.mantissa_bits - 1)) / 2**layout.mantissa_bits
    exponent = (codes & 127) >> layout.mantissa_bits
    bias = 2 ** (layout.exponent_bits - 1) - 1
    values = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    if layout.has_infinity:
        highest = exponent == 2**layout.exponent_bits - 1
        values = np.where(highest, np.where(mantissa == 0, np.inf, np.nan), values)
    else:
        values = np.where((codes & 127) == 127, np.nan, values)
    return (sign * values).astype(np.float16)
