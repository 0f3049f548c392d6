"""Reads the tensors of an adapter's file, whatever its suffix: safetensors with all of their dtypes, or a pickle."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from safetensors import safe_open

from ..checkpoint.float8 import from_float8
from ..checkpoint.pickles import is_pickle, read_pickle, refuse_pickle
from ..checkpoint.weight_files import check_safetensors
from ..errors import UserError, quoted
from ..textual_inversion import pickled_tensors

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

# safetensors' names for float8 -> PyTorch's.
FLOAT8 = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def read_tensors(path: Path, allow_pickle: bool = False) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The tensors of a file, lazy in most safetensors, and its header's metadata ({} of a pickle).

    float8 becomes float16, which has all of its numbers. allow_pickle: read pickles, without running any code of theirs
    (`checkpoint.pickles`). Raises UserError if the file is damaged, or is a pickle that is not allowed.
    """
    if is_pickle(path) and not _has_json_header(path):
        if not allow_pickle:
            raise refuse_pickle(path)
        content = read_pickle(path)
        inner = content.get("state_dict")
        return pickled_tensors(inner if isinstance(inner, dict) else content), {}
    check_safetensors(path)
    try:
        with safe_open(path, "numpy") as opened:
            kinds = {opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
        # MLX has no float8, and goes by the suffix, which is not that of safetensors in some: embeddings.pti.
        if kinds & FLOAT8.keys() or path.suffix != ".safetensors":
            return _read_all(path)
        tensors, header = cast(Any, mx.load(str(path), return_metadata=True))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
    return tensors, header


def _has_json_header(path: Path) -> bool:
    """Whether a file begins as safetensors do. The length of some headers has the first bytes of a pickle."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_all(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The same from the bytes of safetensors, whose header is checked."""
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
            tensors[key] = from_float8(mx.array(raw.reshape(shape)), FLOAT8[kind])
        elif kind == "BF16":
            tensors[key] = mx.array(raw.view(np.uint16).reshape(shape)).view(mx.bfloat16)
        elif kind in DTYPES:
            tensors[key] = mx.array(raw.view(DTYPES[kind]).reshape(shape))
        else:
            raise UserError(f"{path} holds tensors of the dtype {quoted(kind)}, which is not supported.")
    return tensors, metadata
