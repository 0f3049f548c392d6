"""A file of weights -> its tensors by their keys, whatever it is: safetensors or a pickle, in 8 bits or more."""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import UserError, quoted
from .float8 import FLOAT8, has_8_bits, read_8_bits
from .pickles import is_pickle, read_state_dict, refuse_pickle
from .weight_files import PICKLES, header_of

Tensors = dict[str, mx.array]

MLX_DTYPES = frozenset(
    ["F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64", "F8_E4M3"]
)
"""The dtypes that MLX loads from a safetensors file (F8_E4M3 as uint8)."""


def read_tensors(path: Path, allow_pickle: bool = False, float64: bool = False) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a file, and its metadata (that of a pickle is empty).

    Those of a safetensors file are lazy: each is read when it is first used. Weights of 8 bits are float16. float64:
    read tensors of that type, as float32; MLX has it on CPUs only, so a model's folder has none. Raises
    UserError if the file is missing or damaged, is a pickle that is not allowed, or has weights in a format that is not
    read.
    """
    _check_gguf(path)
    if path.suffix in PICKLES or is_pickle(path):
        if path.is_file() and not is_pickle(path) and _is_safetensors(path):
            return _read_safetensors(path, float64)
        if not allow_pickle:
            raise refuse_pickle(path)
        return _in_full(path, read_state_dict(path), {}), {}
    return _read_safetensors(path, float64)


def _check_gguf(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                raise UserError(f"{path} is a GGUF file (stable-diffusion.cpp's), which is not read: use safetensors.")


def _is_safetensors(path: Path) -> bool:
    """Whether a file whose name says otherwise begins as a safetensors file."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size


def _read_safetensors(path: Path, float64: bool) -> tuple[Tensors, dict[str, str]]:
    header = header_of(path)
    metadata = header.pop("__metadata__", None) or {}
    dtypes = {key: entry["dtype"] for key, entry in header.items()}
    if set(dtypes.values()) <= MLX_DTYPES:
        try:
            # The name says which format MLX expects, so another name needs the file itself.
            tensors = mx.load(str(path), format="safetensors")
        except RuntimeError as error:
            raise UserError(f"{path} cannot be read: {quoted(error)}.") from None
        assert isinstance(tensors, dict)
    else:
        supported = set(NUMPY_DTYPES) if float64 else set(NUMPY_DTYPES) - {"F64"}
        _check_dtypes(path, set(dtypes.values()) - supported)
        tensors = _read_by_hand(path, header)
    return _in_full(path, tensors, dtypes), metadata


def _in_full(path: Path, tensors: Tensors, dtypes: dict[str, str]) -> Tensors:
    if not has_8_bits(tensors, dtypes):
        return tensors
    try:
        return read_8_bits(tensors, dtypes)
    except UserError as error:
        raise UserError(f"{path} {error}.") from None


NUMPY_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
    **dict.fromkeys(FLOAT8, "u1"),
}


def _read_by_hand(path: Path, header: dict[str, Any]) -> Tensors:
    """The tensors of a file with dtypes that MLX does not load. float64 becomes float32."""
    with path.open("rb") as file:
        start = 8 + struct.unpack("<Q", file.read(8))[0]
    data = np.memmap(path, np.uint8, "r")
    tensors = {}
    for key, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        numbers = np.frombuffer(data[begin:end].tobytes(), NUMPY_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        array = mx.array(numbers.astype(np.float32) if entry["dtype"] == "F64" else numbers)
        tensors[key] = array.view(mx.bfloat16) if entry["dtype"] == "BF16" else array
    return tensors


def _check_dtypes(path: Path, unsupported: Collection[str]) -> None:
    if unsupported:
        name = sorted(unsupported)[0]
        what = f"{name} (float8)" if name.startswith("F8") else name
        raise UserError(f"{path} holds weights of the type {quoted(what)}, which is not read.")
