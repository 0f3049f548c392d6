"""Reads the tensors of PyTorch's files (.ckpt, .bin, .pt, .pth) without running any code that is in them.

PyTorch's zip format (since version 1.6): `NAME/data.pkl`, a pickle of the names and shapes, and `NAME/data/0`,
`NAME/data/1` and so on, the numbers. `pickle_opcodes` interprets the pickle; `pickle_names` lists the Python names that
it may hold, with functions of ours in their place. No name in a file is imported or called.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import UserError, quoted
from .float8 import from_float8
from .pickle_names import MAX_SIZE, Dtype, ParameterDict, Storage, Tensor, find_name, set_attributes, storage_of
from .pickle_opcodes import Inert, Name, PickleError, interpret
from .weight_files import PICKLE_WAY

MAX_PICKLE_BYTES = 64 << 20
"""Of `data.pkl`. That of a Stable Diffusion XL has 400 KB, with a training run's settings a few MB."""

MAX_GROWTH, FREE_GROWTH_BYTES = 4, 16 << 20
"""The contents, and the tensors made of them, may have MAX_GROWTH times the bytes of the file, plus FREE_GROWTH_BYTES.
PyTorch does not compress, and few tensors share their numbers."""

MAX_DEPTH = 50
"""Of dicts and lists in one another."""


def is_pickle(path: Path) -> bool:
    """Whether a file's first bytes are those of PyTorch's zip format or of a bare pickle, whatever its name is."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        # safetensors, whose first bytes are the length of its header: any bytes.
        return False
    return head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def refuse_pickle(path: Path) -> UserError:
    """The error for a pickle that the user did not allow: what it is, and how to read it."""
    return UserError(f"{path} is a pickle, which can run any code: only .safetensors files are read; {PICKLE_WAY}.")


def read_pickle(path: str | Path) -> dict[str, Any]:
    """The dict in a file of PyTorch's zip format: tensors as MLX arrays, in dicts, lists and tuples as in the file.

    Numbers, texts and None are as they are; an object of any other kind is an `Inert`. float64 becomes float32, float8
    float16. Where the dict has a `state_dict`, a training run's other dicts and lists (its optimizer) are left out.
    Raises UserError, one sentence, if the file is in another format, is damaged, asks for a Python name that weights do
    not need, or would take far more memory than its own size.
    """
    path = Path(path)
    try:
        with _open(path) as archive:
            reader = _Reader(archive, path.stat().st_size)
            return reader.tensors_of(reader.interpret())
    except PickleError as error:
        raise UserError(f"{path} {quoted(error, 400)}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or quoted(error)}.") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is damaged or was not downloaded whole: {quoted(error)}.") from None


def read_state_dict(path: str | Path) -> dict[str, mx.array]:
    """The named tensors of a checkpoint: those in its `state_dict`, `module` or `model`, if it has one.

    Raises UserError like `read_pickle`, and if there are none.
    """
    value = read_pickle(path)
    for name in ("state_dict", "module", "model", "model_state_dict", "params_ema", "params"):
        inner = value.get(name)
        if isinstance(inner, dict) and any(isinstance(item, mx.array) for item in inner.values()):
            value = inner
    tensors = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, mx.array)}
    if not tensors:
        raise UserError(f"{path} holds no named tensors.")
    return tensors


def _open(path: Path) -> zipfile.ZipFile:
    """The zip archive. Raises PickleError for a file in another format."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK\x03\x04"):
        return zipfile.ZipFile(path)
    if head.startswith(b"\x80"):
        raise PickleError(
            "is in PyTorch's format of before version 1.6, which is not read: save it again in that of today, with "
            'PyTorch: torch.save(torch.load("OLD", weights_only=True), "NEW")'
        )
    if head.startswith(b"version https://git-lfs"):
        raise PickleError("is a Git LFS pointer, not the file itself: download it whole")
    if head.lstrip().startswith(b"<"):
        raise PickleError("is a web page, not a file of weights: download it again")
    raise PickleError("is not a file of PyTorch: it is neither a zip archive nor a pickle")


class _Reader:
    """An opened archive, and how many bytes may still be made of it."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self.archive = archive
        self.budget = self.reading_budget = MAX_GROWTH * size + FREE_GROWTH_BYTES
        self.last_storage = ("", np.zeros(0, np.uint8))
        self.members = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in self.members.values()):
            raise PickleError("is a zip archive in a compression that PyTorch does not write")
        if sum(info.file_size for info in self.members.values()) > self.budget:
            raise PickleError("would grow far beyond its size when it is unpacked: it is no checkpoint")
        pickles = [name for name in self.members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleError("is a zip archive, but not one that PyTorch wrote: it has no single data.pkl")
        self.folder = pickles[0].removesuffix("data.pkl")
        if f"{self.folder}constants.pkl" in self.members:
            raise PickleError("is a program (TorchScript), not a file of weights")
        self._check_byteorder()

    def _check_byteorder(self) -> None:
        name = f"{self.folder}byteorder"
        if name in self.members and self._read(name, 16).strip() != b"little":
            raise PickleError("was written on a machine with the opposite byte order, which is not read")

    def _read(self, name: str, limit: int) -> bytes:
        """The bytes of a member. Raises PickleError if it is missing or larger than `limit`."""
        info = self.members.get(name)
        if info is None:
            raise PickleError(f"lacks {name}: it was not downloaded or saved whole")
        if info.file_size > limit:
            raise PickleError(f"has a {quoted(name)} of {info.file_size:,} bytes, far more than any checkpoint")
        with self.archive.open(info) as file:
            return file.read(limit + 1)

    def interpret(self) -> Any:
        data = self._read(f"{self.folder}data.pkl", MAX_PICKLE_BYTES)
        return interpret(data, find_name, storage_of, set_attributes)

    def tensors_of(self, value: Any) -> dict[str, Any]:
        """The pickle's dict with its tensors as MLX arrays."""
        if not isinstance(value, dict):
            raise PickleError(f"holds a {type(value).__name__.strip('_').lower()}, not a dict of tensors")
        if isinstance(value.get("state_dict"), dict):
            value = {
                key: item
                for key, item in value.items()
                if key == "state_dict" or not isinstance(item, (dict, list, tuple))
            }
        return dict(self._made(value, 0, {}))

    def _made(self, value: Any, depth: int, made: dict[int, Any]) -> Any:
        """A value of the pickle with its tensors as MLX arrays. made: the results so far, by the id of their value."""
        if id(value) in made:
            return made[id(value)]
        if depth > MAX_DEPTH:
            raise PickleError("holds dicts or lists that are nested too deeply")
        result: Any = value
        if isinstance(value, ParameterDict):
            result = made[id(value)] = self._made(value.parameters, depth + 1, made)
        elif isinstance(value, Tensor):
            result = made[id(value)] = self._array(value)
        elif isinstance(value, dict):
            result = made[id(value)] = {}
            for key, item in value.items():
                if not isinstance(key, Name):
                    result[key] = self._made(item, depth + 1, made)
        elif isinstance(value, list):
            result = made[id(value)] = []
            result.extend(self._made(item, depth + 1, made) for item in value)
        elif isinstance(value, tuple):
            result = made[id(value)] = tuple(self._made(item, depth + 1, made) for item in value)
        elif isinstance(value, (Name, Dtype, Storage)):
            result = Inert()
        return result

    def _array(self, tensor: Tensor) -> mx.array:
        """The numbers of a tensor. Raises PickleError if they are not all within its storage."""
        bits = _numpy_dtype(tensor.dtype)
        name = f"{self.folder}data/{tensor.storage.key}"
        count = int(np.prod(tensor.shape, dtype=object))
        self.budget -= count * bits.itemsize
        if self.budget < 0:
            raise PickleError("holds tensors that are far larger than the file itself")
        data = self._numbers_of(name)
        numbers = data[: len(data) // bits.itemsize * bits.itemsize].view(bits)
        last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
        if count and last >= len(numbers):
            raise PickleError(f"is damaged: a tensor of the shape {tensor.shape} reaches beyond the end of {name}")
        if not count:
            return _mlx(np.zeros(tensor.shape, bits), tensor.dtype)
        strides = [step * bits.itemsize for step in tensor.strides]
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
        return _mlx(np.ascontiguousarray(view).reshape(tensor.shape), tensor.dtype)

    def _numbers_of(self, name: str) -> np.ndarray:
        """The bytes of a storage. Tensors that share one follow each other, so the last one is kept."""
        if self.last_storage[0] != name:
            data = np.frombuffer(self._read(name, MAX_SIZE * 8), dtype=np.uint8)
            self.reading_budget -= len(data)
            if self.reading_budget < 0:
                raise PickleError("refers to the same numbers again and again, as no checkpoint does")
            self.last_storage = (name, data)
        return self.last_storage[1]


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype of the same width: unsigned whole numbers for those that NumPy does not have."""
    if dtype == "bfloat16":
        return np.dtype("<u2")
    if dtype.startswith("float8"):
        return np.dtype("u1")
    return np.dtype(dtype).newbyteorder("<")


def _mlx(numbers: np.ndarray, dtype: str) -> mx.array:
    if dtype == "bfloat16":
        return mx.array(numbers).view(mx.bfloat16)
    if dtype.startswith("float8"):
        return from_float8(mx.array(numbers), dtype)
    return mx.array(numbers.astype(np.float32) if dtype == "float64" else numbers)
