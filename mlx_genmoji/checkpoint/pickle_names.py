"""The Python names that a file of weights may hold, and what stands in for each: nothing is imported or called.

`find_name` looks a name up; the functions of `NAMES`, and `storage_of`, make plain records of ours, such as a `Tensor`
that knows where its numbers are. `pickles` reads the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import quoted
from .pickle_opcodes import Inert, Name, PickleError, set_item

MAX_NDIM, MAX_SIZE = 32, 2**31 - 1

DTYPES: Mapping[str, str] = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "Float8_e4m3fn": "float8_e4m3fn",
    "Float8_e5m2": "float8_e5m2",
}
"""The types of tensors that are read: by the storages of PyTorch, its names of dtypes."""

WIDER_INTEGERS = ("uint16", "uint32", "uint64")

INERT_MODULES = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf")
BUILTIN_TYPES = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "set"),
    *("slice", "str", "tuple", "unicode"),
)
INERT_NAMES = (
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in BUILTIN_TYPES),
    *("argparse.Namespace", "collections.Counter", "collections.defaultdict", "datetime.datetime", "torch.device"),
    *("typing.Any", "_codecs.encode", "copy_reg._reconstructor"),
    *("numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct"),
    *("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath"),
)
"""Names that training runs leave in their files. Nothing is imported or called for them: an object that holds nothing
stands in their place."""


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers of one or more tensors: a member of the archive."""

    key: str
    dtype: str | None
    """None: untyped, then each tensor has its own."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor in the pickle, whose numbers are not read yet. offset and strides count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Dtype:
    """A dtype that the pickle names, such as `torch.float8_e4m3fn`."""

    name: str


class ParameterDict:
    """A `torch.nn.ParameterDict`, in which embeddings of textual inversion are."""

    def __init__(self) -> None:
        self.parameters: Any = {}


def storage_of(persistent_id: Any) -> Storage:
    """The storage of a persistent id: ("storage", its type, its key, the device, the number of elements)."""
    if not (isinstance(persistent_id, tuple) and len(persistent_id) == 5 and persistent_id[0] == "storage"):
        raise PickleError("is damaged: its pickle refers to something that is not a storage")
    _, kind, key, _, _ = persistent_id
    if not isinstance(kind, Name) or not isinstance(key, str) or not key.isalnum():
        raise PickleError("is damaged: the type or the name of a storage is not valid")
    dtype = kind.make(())
    if not (isinstance(dtype, Dtype) or dtype is None):
        raise PickleError(f"is damaged: {quoted(kind.text)} is not the type of a storage")
    return Storage(key, None if dtype is None else dtype.name)


def _rebuild_tensor(arguments: tuple[Any, ...]) -> Tensor:
    """`torch._utils._rebuild_tensor_v2` and `_v3`: storage, offset, shape, strides, ..., with v3 the dtype."""
    if len(arguments) < 4 or not isinstance(arguments[0], Storage):
        raise PickleError("is damaged: a tensor in it has no storage")
    storage, offset, shape, strides = arguments[:4]
    dtype = storage.dtype
    if dtype is None:
        dtypes = [item for item in arguments[4:] if isinstance(item, Name)]
        declared = dtypes[0].make(()) if dtypes else None
        if not isinstance(declared, Dtype):
            raise PickleError("is damaged: a tensor in it has no dtype")
        dtype = declared.name
    numbers = (offset, *shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else ("",)
    if not all(type(number) is int and 0 <= number <= MAX_SIZE for number in numbers):
        raise PickleError("is damaged: the offset, shape or strides of a tensor are not valid")
    if len(shape) != len(strides) or len(shape) > MAX_NDIM:
        raise PickleError("is damaged: the shape and the strides of a tensor do not fit")
    return Tensor(storage, dtype, offset, shape, strides)


def _rebuild_parameter(arguments: tuple[Any, ...]) -> Any:
    """`torch._utils._rebuild_parameter`: a tensor, and whether it is trained."""
    if not arguments or not isinstance(arguments[0], Tensor):
        raise PickleError("is damaged: a parameter in it has no tensor")
    return arguments[0]


def _rebuild_subclass(arguments: tuple[Any, ...]) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: the function that makes the tensor, its class, its arguments."""
    if len(arguments) < 3 or not isinstance(arguments[0], Name) or not isinstance(arguments[2], tuple):
        raise PickleError("is damaged: a tensor in it has no numbers")
    return arguments[0].make(arguments[2])


def _dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """`collections.OrderedDict`: nothing, or pairs."""
    result: dict[Any, Any] = {}
    pairs = arguments[0] if arguments else ()
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
    ):
        raise PickleError("is damaged: a dict in its pickle is not made of pairs")
    for key, value in pairs:
        set_item(result, key, value)
    return result


def _size(arguments: tuple[Any, ...]) -> Any:
    return arguments[0] if arguments and isinstance(arguments[0], tuple) else ()


def set_attributes(value: Any, state: Any) -> None:
    """What a pickle sets on an object counts for a ParameterDict only: its parameters."""
    if isinstance(value, ParameterDict) and isinstance(state, dict):
        value.parameters = state.get("_parameters")


def _table() -> dict[str, Callable[[tuple[Any, ...]], Any]]:
    def dtype(name: str) -> Callable[[tuple[Any, ...]], Any]:
        return lambda arguments: Dtype(name)

    storages = {f"{storage}Storage": dtype(name) for storage, name in DTYPES.items()}
    dtypes = {name: dtype(name) for name in (*DTYPES.values(), *WIDER_INTEGERS)}
    return {
        **{f"torch.{name}": make for name, make in (storages | dtypes).items()},
        "torch.storage.UntypedStorage": lambda arguments: None,
        "torch.UntypedStorage": lambda arguments: None,
        "torch._utils._rebuild_tensor": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v3": _rebuild_tensor,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
        "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
        "torch.nn.parameter.Parameter": _rebuild_parameter,
        "torch.Tensor": _rebuild_parameter,
        "torch.Size": _size,
        "torch.nn.modules.container.ParameterDict": lambda arguments: ParameterDict(),
        "collections.OrderedDict": _dict,
    }


NAMES = _table()
"""The Python names that a file of weights may hold, and the functions that stand in for a call of them."""


def find_name(text: str) -> Name:
    """The stand-in for a Python name. Raises PickleError for one that weights do not need."""
    if text in NAMES:
        return Name(text, NAMES[text])
    if text in INERT_NAMES or text.partition(".")[0] in INERT_MODULES:
        return Name(text, lambda arguments: Inert())
    raise PickleError(
        f"asks for {quoted(text, 80)}, a Python name that no weights need: it may be harmful, and nothing in it was run"
    )
