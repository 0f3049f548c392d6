"""Reads the files of a Core ML package: its protobuf, and constants from the protobuf or from the blob file beside it.

    Unet.mlpackage/Manifest.json                                names the root item, the model
    Unet.mlpackage/Data/com.apple.CoreML/model.mlmodel          the protobuf `Model`, coremltools' `mlmodel/format`
    Unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin     a header of 64 bytes, then records of 64 bytes and data

Sizes and offsets are checked against the files before anything is read, since a package may come from anywhere.
"""

import json
import math
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlx_genmoji.errors import UserError, quoted

from ..coreml import import_coremltools

SENTINEL = 0xDEADBEEF
RECORD = np.dtype([("sentinel", "<u4"), ("code", "<u4"), ("size", "<u8"), ("offset", "<u8"), ("padding_bits", "<u8")])


class Element(NamedTuple):
    """An element type of MIL: its dtype in NumPy, its bits in a file, and its code in a blob file."""

    dtype: np.dtype[Any]
    bits: int
    code: int | None


# By the names of MIL_pb2.DataType; the codes are those of MILBlob's BlobDataType. Numbers of less than a byte are
# unpacked to bytes.
ELEMENTS = {
    "BOOL": Element(np.dtype(np.bool_), 8, None),
    "FLOAT16": Element(np.dtype(np.float16), 16, 1),
    "FLOAT32": Element(np.dtype(np.float32), 32, 2),
    "INT4": Element(np.dtype(np.int8), 4, 8),
    "INT8": Element(np.dtype(np.int8), 8, 4),
    "INT16": Element(np.dtype(np.int16), 16, 6),
    "INT32": Element(np.dtype(np.int32), 32, 14),
    "INT64": Element(np.dtype(np.int64), 64, None),
    "UINT1": Element(np.dtype(np.uint8), 1, 9),
    "UINT2": Element(np.dtype(np.uint8), 2, 10),
    "UINT3": Element(np.dtype(np.uint8), 3, 12),
    "UINT4": Element(np.dtype(np.uint8), 4, 11),
    "UINT6": Element(np.dtype(np.uint8), 6, 13),
    "UINT8": Element(np.dtype(np.uint8), 8, 3),
    "UINT16": Element(np.dtype(np.uint16), 16, 7),
    "UINT32": Element(np.dtype(np.uint32), 32, 15),
    "UINT64": Element(np.dtype(np.uint64), 64, None),
}


class Type(NamedTuple):
    """A tensor's type. A dimension that is not fixed is None; `element` is None for strings."""

    shape: tuple[int | None, ...]
    element: Element | None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.str_) if self.element is None else self.element.dtype

    @property
    def size(self) -> int:
        return math.prod(dimension or 0 for dimension in self.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.shape) and all(
            expected in (None, dimension) for expected, dimension in zip(self.shape, shape, strict=True)
        )


@cache
def _data_types() -> dict[int, str]:
    return {number: name for name, number in import_coremltools("coremltools.proto.MIL_pb2").DataType.items()}


class Package:
    """A `.mlpackage` folder. Raises UserError, in one sentence, where it is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model_path = self._find_model()
        self._blobs: dict[str, np.ndarray] = {}

    @cached_property
    def spec(self) -> Any:
        """The package's protobuf `Model`. Raises UserError unless it is an ML program."""
        decode_error = import_coremltools("google.protobuf.message").DecodeError
        model = import_coremltools("coremltools.proto.Model_pb2").Model()
        try:
            model.ParseFromString(self.model_path.read_bytes())
        except (OSError, decode_error) as error:
            raise self.error(f"{self.model_path.name} cannot be read: {quoted(error)}") from None
        if model.WhichOneof("Type") != "mlProgram":
            raise self.error("it holds no ML program; older kinds of Core ML models are not supported")
        return model

    def error(self, complaint: str) -> UserError:
        return UserError(f"{self.path}: {complaint}.")

    def type_of(self, proto: Any) -> Type:
        """The type of a tensor, from MIL's `ValueType`."""
        kind = proto.WhichOneof("type")
        if kind != "tensorType":
            raise self.error(f"a value is a {kind or 'nothing'}, supported are tensors")
        tensor = proto.tensorType
        name = _data_types().get(tensor.dataType, str(tensor.dataType))
        if name != "STRING" and name not in ELEMENTS:
            raise self.error(f"a tensor holds {name}, supported are STRING, {', '.join(ELEMENTS)}")
        shape = tuple(
            dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None
            for dimension in tensor.dimensions
        )
        return Type(shape, ELEMENTS.get(name))

    def constant(self, proto: Any) -> "Constant":
        """A constant, from MIL's `Value`: checked, not yet read."""
        type_ = self.type_of(proto.type)
        if None in type_.shape:
            raise self.error("a constant has a dimension that is not fixed")
        kind = proto.WhichOneof("value")
        if kind == "blobFileValue":
            return Constant(type_, self._blob(proto.blobFileValue, type_), packed=True)
        if kind == "immediateValue" and proto.immediateValue.WhichOneof("value") == "tensor":
            return self._immediate(proto.immediateValue.tensor, type_)
        raise self.error(f"a constant is given as {kind or 'nothing'}, supported are tensors and blob files")

    def _find_model(self) -> Path:
        if not self.path.is_dir():
            raise UserError(f"{self.path} is no Core ML package: name a .mlpackage folder.")
        try:
            manifest = json.loads((self.path / "Manifest.json").read_bytes())
            item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
            model = self.path / "Data" / item
        except (OSError, ValueError, KeyError, TypeError) as error:
            complaint = "a compiled model has none: name the .mlpackage it was made from"
            raise self.error(f"its Manifest.json cannot be read ({quoted(repr(error))}); {complaint}") from None
        return self._inside(model)

    def _inside(self, path: Path) -> Path:
        if not path.resolve().is_relative_to(self.path.resolve()) or not path.is_file():
            raise self.error(f"it names the file {quoted(path.name)}, which it does not hold")
        return path

    def _immediate(self, tensor: Any, type_: Type) -> "Constant":
        kind = tensor.WhichOneof("value")
        values: Any = getattr(tensor, kind).values if kind else []
        if type_.element is None:
            stored = np.asarray(list(values), dtype=np.str_)
        elif kind == "bytes":
            stored = np.frombuffer(values, np.uint8)
            if stored.size != _byte_count(type_):
                raise self.error(f"a constant of shape {type_.shape} has {stored.size} bytes")
            return Constant(type_, stored, packed=True)
        else:
            try:
                stored = np.asarray(values, dtype=type_.dtype)
            except (OverflowError, ValueError, TypeError) as error:
                raise self.error(f"a constant does not fit its type {type_.dtype}: {quoted(error)}") from None
        if stored.size != type_.size:
            raise self.error(f"a constant of shape {type_.shape} has {stored.size} values")
        return Constant(type_, stored, packed=False)

    def _blob(self, reference: Any, type_: Type) -> np.ndarray:
        """The bytes of a record of a blob file, mapped, not read."""
        name = reference.fileName
        if name not in self._blobs:
            path = self._inside(self.model_path.parent / name.removeprefix("@model_path/"))
            self._blobs[name] = _map(path)
        blob = self._blobs[name]
        where = f"{quoted(name)} at {reference.offset}"
        if type_.element is None or type_.element.code is None:
            raise self.error(f"{where} is said to hold {type_.dtype}, which blob files do not hold")
        if reference.offset + RECORD.itemsize > blob.size:
            raise self.error(f"{where} is past the end of the file, {blob.size} bytes: it is cut short")
        record = blob[reference.offset : reference.offset + RECORD.itemsize].view(RECORD)[0]
        if record["sentinel"] != SENTINEL:
            raise self.error(f"{where} starts no record")
        if record["code"] != type_.element.code or record["size"] != _byte_count(type_):
            raise self.error(f"{where} does not hold the {type_.dtype} {type_.shape} that the model expects")
        start, size = int(record["offset"]), int(record["size"])
        if start + size > blob.size:
            raise self.error(f"{where} has data past the end of the file, {blob.size} bytes: it is cut short")
        return blob[start : start + size]


class Constant(NamedTuple):
    """A constant as it is stored: packed bytes where `packed`, else its values in one row."""

    type: Type
    stored: np.ndarray
    packed: bool

    def read(self) -> np.ndarray:
        """Its values in their shape: float16 as float32, numbers of less than a byte as bytes."""
        element = self.type.element
        if element is None or not self.packed:
            values = self.stored
        elif element.bits < 8:
            values = unpack(self.stored, element.bits, self.type.size, signed=element.dtype.kind == "i")
        else:
            values = self.stored.view(element.dtype)
        values = values.reshape(self.type.shape)  # type: ignore[arg-type]
        return values.astype(np.float32) if values.dtype == np.float16 else values


def unpack(packed: np.ndarray, bits: int, count: int, signed: bool = False) -> np.ndarray:
    """Unpack `count` numbers of `bits` bits each, to one byte each.

    They lie in a row without gaps, also across the ends of bytes, their least significant bits first.
    """
    if bits == 8:
        values = packed[:count]
    elif 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        values = ((packed[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:count]
    else:
        whole = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
        values = np.packbits(whole, axis=1, bitorder="little")[:, 0]
    if not signed:
        return values
    sign = np.int8(2 ** (bits - 1))
    return ((values.view(np.int8) ^ sign) - sign).astype(np.int8)


def _map(path: Path) -> np.ndarray:
    if not path.stat().st_size:
        return np.zeros(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r"))


def _byte_count(type_: Type) -> int:
    return 0 if type_.element is None else -(-type_.size * type_.element.bits // 8)
