"""Interprets the opcodes of a pickle without Python's own unpickler, which imports and calls what a file names.

Numbers, texts, lists and dicts are built as they are. A Python name in the file is looked up in a table of ours and
never imported. A call of a name is a call of the function that the table holds for it. A name that the table lacks, and
an opcode that PyTorch does not write, end the interpretation.
Opcodes: https://docs.python.org/3/library/pickletools.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_OPCODES = 1_000_000
"""A checkpoint of Stable Diffusion XL has about 100,000. It bounds the memory and the time of an interpretation."""

KEY_TYPES = (str, int, float, bytes, type(None))
"""The types that a dict's key may have. Hashing a tuple of tuples can take forever, or overflow the stack."""


class PickleError(ValueError):
    """A pickle that is damaged, or asks for something that is not supported. The message continues "FILE ..."."""


@dataclass(frozen=True, eq=False)
class Name:
    """A Python name in a pickle: `module.name`, and what stands in for a call of it."""

    text: str
    make: Callable[[tuple[Any, ...]], Any]
    """Our own function of the call's arguments."""


class Inert:
    """An object that weights do not need, such as a callback of a training run. It holds nothing."""


def interpret(
    data: bytes, names: Callable[[str], Name], persistent: Callable[[Any], Any], attributes: Callable[[Any, Any], None]
) -> Any:
    """The object that a pickle describes.

    names: the stand-in for "module.name"; raises PickleError for a name that is not allowed. persistent: the object of
    a persistent id (PyTorch: a storage). attributes: called with an object and the state that the pickle sets on it.
    Raises PickleError for a pickle that is damaged, too large, or uses an opcode that PyTorch does not write.
    """
    return _Machine(data, names, persistent, attributes).run()


class _Machine:
    """The state of an interpretation: a stack, the places of marks on it, and a memo of earlier objects."""

    def __init__(
        self,
        data: bytes,
        names: Callable[[str], Name],
        persistent: Callable[[Any], Any],
        attributes: Callable[[Any, Any], None],
    ):
        self.data = data
        self.names = names
        self.persistent = persistent
        self.attributes = attributes
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.work = 0
        """How many objects calls were given: one list may be given to many calls."""

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            opcode = self.read(1)
            if opcode == b".":
                return self.pop()
            action = OPCODES.get(opcode)
            if action is None:
                raise PickleError(
                    f"uses the pickle opcode {opcode!r}, which PyTorch does not write in a file of weights"
                )
            action(self)
        raise PickleError(f"holds more than {MAX_OPCODES:,} pickle opcodes, far more than any checkpoint")

    def read(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise PickleError("is damaged: its pickle ends too early")
        data, self.position = self.data[self.position : end], end
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def text(self, length: int, encoding: str = "utf-8") -> str:
        try:
            return self.read(length).decode(encoding)
        except UnicodeDecodeError:
            raise PickleError("is damaged: a text in its pickle is not UTF-8") from None

    def line(self) -> str:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise PickleError("is damaged: its pickle ends too early")
        text = self.text(end - self.position)
        self.position += 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("is damaged: its pickle takes more objects than it makes")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleError("is damaged: its pickle has an end of a list without a start")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        """The last object, a list or dict to fill. What an inert one is filled with is lost."""
        value = self.pop()
        if isinstance(value, Inert):
            self.push(value)
            return kind()
        if not isinstance(value, kind):
            raise PickleError(f"is damaged: its pickle takes a {type(value).__name__} for a {kind.__name__}")
        self.push(value)
        return value

    def remember(self, index: int) -> None:
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise PickleError("is damaged: its pickle refers to an object that it does not hold")
        self.push(self.memo[index])

    def push_tuple(self, length: int) -> None:
        self.push(tuple([self.pop() for _ in range(length)][::-1]))

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        items = self.top(dict)
        if len(values) % 2:
            raise PickleError("is damaged: a key in its pickle has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            set_item(items, key, value)

    def push_dict(self, values: list[Any]) -> None:
        self.push({})
        self.set_items(values)

    def push_name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("is damaged: a name in its pickle is not a text")
        self.push(self.names(f"{module}.{name}"))

    def push_name_of_stack(self) -> None:
        name = self.pop()
        self.push_name(self.pop(), name)

    def call(self) -> None:
        arguments = self.pop()
        name = self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise PickleError("is damaged: its pickle calls something that is not a name")
        self.work += len(arguments) + sum(len(item) for item in arguments if isinstance(item, (dict, list, tuple)))
        if self.work > MAX_OPCODES:
            raise PickleError("makes far more objects than any checkpoint")
        self.push(name.make(arguments))

    def set_attributes(self) -> None:
        state = self.pop()
        value = self.pop()
        self.attributes(value, state)
        self.push(value)


def set_item(items: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key of a dict from a pickle. Raises PickleError for a key that is not a number, a text or a name."""
    if isinstance(key, Inert):
        return
    if not isinstance(key, (*KEY_TYPES, Name)):
        raise PickleError(f"has a {type(key).__name__} as the key of a dict, where weights have names")
    items[key] = value


OPCODES: Mapping[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.read(1),  # PROTO
    b"\x95": lambda m: m.read(8),  # FRAME
    b"(": lambda m: m.marks.append(len(m.stack)),  # MARK
    b"0": lambda m: m.pop(),  # POP
    b"1": lambda m: m.pop_to_mark(),  # POP_MARK
    b"N": lambda m: m.push(None),  # NONE
    b"\x88": lambda m: m.push(True),  # NEWTRUE
    b"\x89": lambda m: m.push(False),  # NEWFALSE
    b"J": lambda m: m.push(m.number("<i")),  # BININT
    b"K": lambda m: m.push(m.number("<B")),  # BININT1
    b"M": lambda m: m.push(m.number("<H")),  # BININT2
    b"\x8a": lambda m: m.push(int.from_bytes(m.read(m.number("<B")), "little", signed=True)),  # LONG1
    b"G": lambda m: m.push(m.number(">d")),  # BINFLOAT
    b"X": lambda m: m.push(m.text(m.number("<I"))),  # BINUNICODE
    b"\x8c": lambda m: m.push(m.text(m.number("<B"))),  # SHORT_BINUNICODE
    b"\x8d": lambda m: m.push(m.text(m.number("<Q"))),  # BINUNICODE8
    b"T": lambda m: m.push(m.text(m.number("<I"), "latin-1")),  # BINSTRING
    b"U": lambda m: m.push(m.text(m.number("<B"), "latin-1")),  # SHORT_BINSTRING
    b"B": lambda m: m.push(m.read(m.number("<I"))),  # BINBYTES
    b"C": lambda m: m.push(m.read(m.number("<B"))),  # SHORT_BINBYTES
    b"\x8e": lambda m: m.push(m.read(m.number("<Q"))),  # BINBYTES8
    b")": lambda m: m.push(()),  # EMPTY_TUPLE
    b"\x85": lambda m: m.push_tuple(1),  # TUPLE1
    b"\x86": lambda m: m.push_tuple(2),  # TUPLE2
    b"\x87": lambda m: m.push_tuple(3),  # TUPLE3
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),  # TUPLE
    b"]": lambda m: m.push([]),  # EMPTY_LIST
    b"l": lambda m: m.push(m.pop_to_mark()),  # LIST
    b"a": lambda m: m.extend([m.pop()]),  # APPEND
    b"e": lambda m: m.extend(m.pop_to_mark()),  # APPENDS
    b"}": lambda m: m.push({}),  # EMPTY_DICT
    b"d": lambda m: m.push_dict(m.pop_to_mark()),  # DICT
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),  # SETITEM
    b"u": lambda m: m.set_items(m.pop_to_mark()),  # SETITEMS
    # A set is read as a list: no weights are in one.
    b"\x8f": lambda m: m.push([]),  # EMPTY_SET
    b"\x90": lambda m: m.extend(m.pop_to_mark()),  # ADDITEMS
    b"\x91": lambda m: m.push(m.pop_to_mark()),  # FROZENSET
    b"q": lambda m: m.remember(m.number("<B")),  # BINPUT
    b"r": lambda m: m.remember(m.number("<I")),  # LONG_BINPUT
    b"\x94": lambda m: m.remember(len(m.memo)),  # MEMOIZE
    b"h": lambda m: m.recall(m.number("<B")),  # BINGET
    b"j": lambda m: m.recall(m.number("<I")),  # LONG_BINGET
    b"c": lambda m: m.push_name(m.line(), m.line()),  # GLOBAL
    b"\x93": lambda m: m.push_name_of_stack(),  # STACK_GLOBAL
    b"R": lambda m: m.call(),  # REDUCE
    b"\x81": lambda m: m.call(),  # NEWOBJ
    b"b": lambda m: m.set_attributes(),  # BUILD
    b"Q": lambda m: m.push(m.persistent(m.pop())),  # BINPERSID
}
