"""A Core ML package read into functions, and run: the ops of one in order, each value freed after its last use."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlx_genmoji.errors import UserError, quoted

from .ops import OPS
from .package import Constant, Package, Type

# Parameters that take several values; every other takes one.
LISTS = frozenset({"values"})

# The errors that a wrong shape, index or attribute raises in NumPy.
REFUSALS = (ValueError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError, MemoryError)

Watch = Callable[[str, str, str, np.ndarray], None]
Argument = str | Constant


class Operation(NamedTuple):
    """One op: `inputs` by MIL's parameter names, each the name of a value, a constant, or a list of these."""

    name: str
    type: str
    inputs: dict[str, Argument | list[Argument]]
    outputs: dict[str, Type]

    def names_used(self) -> Iterator[str]:
        for argument in self.inputs.values():
            for item in argument if isinstance(argument, list) else [argument]:
                if isinstance(item, str):
                    yield item


class Function(NamedTuple):
    """A function of a package, ready to run: the types of its inputs and outputs by name, and its ops in order."""

    inputs: dict[str, Type]
    outputs: dict[str, Type]
    operations: list[Operation]


class Program:
    """The ML program of a saved package, read and checked. Raises UserError, in a sentence, where it is broken."""

    def __init__(self, package: Package) -> None:
        self._package = package
        proto = package.spec.mlProgram.functions
        self._functions = {name: _Reader(package, name, proto[name]).function() for name in sorted(proto)}

    @classmethod
    def open(cls, path: str | Path) -> Program:
        """Open the `.mlpackage` folder `path`. Its weights are mapped into memory, and read when an op takes them."""
        return cls(Package(Path(path)))

    @property
    def functions(self) -> list[str]:
        return list(self._functions)

    def inputs(self, function: str = "main") -> dict[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """The inputs of a function: name -> (shape, dtype), None for a dimension that is not fixed."""
        return {name: (type_.shape, type_.dtype) for name, type_ in self._function(function).inputs.items()}

    def outputs(self, function: str = "main") -> dict[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        return {name: (type_.shape, type_.dtype) for name, type_ in self._function(function).outputs.items()}

    def run(
        self,
        inputs: dict[str, np.ndarray],
        function: str = "main",
        half: bool = False,
        watch: Watch | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a function and return its outputs by name. All floats are float32, whatever types the package gives them.

        half: after each op, round the values that the package declares as fp16 to half precision, as a device does (a
        value beyond 65504 becomes infinite). Sums within an op are float32. Without `half` only stored weights are
        rounded.
        watch: called after each op, also after those that unpack weights, with the op's name and type and its value's
        name and array. An exception that it raises ends the run.
        Raises UserError where the inputs do not fit or an op cannot be computed.
        """
        plan = self._function(function)
        values = self._accept(inputs, plan, half)
        uses = Counter(name for operation in plan.operations for name in operation.names_used())
        uses.update(list(plan.outputs))
        for operation in plan.operations:
            results = self._compute(operation, values, function, half)
            for name in operation.names_used():
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
            for name, value in results.items():
                if uses[name]:
                    values[name] = value
                if watch:
                    watch(operation.name, operation.type, name, value)
            results.clear()
        return {name: values[name] for name in plan.outputs}

    def _function(self, name: str) -> Function:
        if name not in self._functions:
            raise self._package.error(
                f"no function is named {quoted(name)}; its functions: {', '.join(self._functions)}"
            )
        return self._functions[name]

    def _accept(self, inputs: dict[str, np.ndarray], plan: Function, half: bool) -> dict[str, np.ndarray]:
        if inputs.keys() != plan.inputs.keys():
            raise self._package.error(f"its inputs are {', '.join(plan.inputs)}, given are {', '.join(inputs)}")
        for name, type_ in plan.inputs.items():
            shape = np.shape(inputs[name])
            if not type_.fits(shape):
                raise self._package.error(f"input {name} has shape {type_.shape}, given is {shape}")
        return {name: _typed(np.asarray(inputs[name]), type_, half) for name, type_ in plan.inputs.items()}

    def _compute(
        self, operation: Operation, values: dict[str, np.ndarray], function: str, half: bool
    ) -> dict[str, np.ndarray]:
        def look_up(argument: Argument) -> np.ndarray:
            return values[argument] if isinstance(argument, str) else argument.read()

        def refuse(complaint: str) -> UserError:
            return self._package.error(f"{operation.type} {quoted(operation.name)} in {function}: {complaint}")

        try:
            with np.errstate(all="ignore"):
                computed = OPS[operation.type](
                    **{
                        name: [look_up(item) for item in argument] if isinstance(argument, list) else look_up(argument)
                        for name, argument in operation.inputs.items()
                    }
                )
        except REFUSALS as error:
            raise refuse(f"{quoted(error) or 'out of memory'}") from error
        results = computed if isinstance(computed, tuple) else (computed,)
        if len(results) != len(operation.outputs):
            raise refuse(f"it has {len(results)} results, the package says {len(operation.outputs)}")
        typed = {}
        for (name, type_), result in zip(operation.outputs.items(), results, strict=True):
            if not type_.fits(np.shape(result)):
                raise refuse(f"its result has shape {np.shape(result)}, the package says {type_.shape}")
            typed[name] = _typed(np.asarray(result), type_, half)
        return typed


class _Reader:
    """Reads the protobuf of one function into a `Function`.

    Checks that each value is made before it is used, and that each op and its parameters are known.
    """

    def __init__(self, package: Package, name: str, proto: Any) -> None:
        self.package, self.name, self.proto = package, name, proto
        self.types: dict[str, Type] = {}
        self.constants: dict[str, Constant] = {}
        self.waiting: dict[str, tuple[int, Operation]] = {}

    def function(self) -> Function:
        if self.proto.opset not in self.proto.block_specializations:
            raise self.package.error(f"{self.name} has no block for its opset {quoted(self.proto.opset)}")
        block = self.proto.block_specializations[self.proto.opset]
        inputs = {value.name: self.package.type_of(value.type) for value in self.proto.inputs}
        self.types.update(inputs)
        operations: list[Operation] = []
        for place, proto in enumerate(block.operations):
            if proto.type == "const":
                self._constant(proto)
                continue
            operation = self._operation(proto)
            if operation.type.startswith("constexpr_"):
                self.waiting.update(dict.fromkeys(operation.outputs, (place, operation)))
            else:
                operations += [*self._unpacking(operation), operation]
        outputs = {}
        for name in block.outputs:
            if name in self.constants or name in self.waiting:
                raise self.package.error(f"output {quoted(name)} of {self.name} is a constant")
            outputs[name] = self._type(name, "the outputs")
        return Function(inputs, outputs, operations)

    def _unpacking(self, operation: Operation) -> list[Operation]:
        """The ops that unpack the weights of `operation`: run right before it, so few weights are unpacked."""
        unpacking_ops: dict[int, Operation] = {}
        todo = [operation]
        while todo:
            for name in todo.pop().names_used():
                if name in self.waiting:
                    place, unpacking = self.waiting[name]
                    for output in unpacking.outputs:
                        del self.waiting[output]
                    unpacking_ops[place] = unpacking
                    todo.append(unpacking)
        return [unpacking_ops[place] for place in sorted(unpacking_ops)]

    def _constant(self, proto: Any) -> None:
        if len(proto.outputs) != 1 or "val" not in proto.attributes:
            raise self.package.error(f"a const in {self.name} has no value")
        name = proto.outputs[0].name
        self.constants[name] = self.package.constant(proto.attributes["val"])
        self._define(name, self.constants[name].type)

    def _operation(self, proto: Any) -> Operation:
        name = proto.attributes["name"].immediateValue.tensor.strings.values if "name" in proto.attributes else []
        label = name[0] if name else ", ".join(output.name for output in proto.outputs)
        where = f"{quoted(label)} in {self.name}"
        if proto.type not in OPS:
            raise self.package.error(f"{where} is the op {quoted(proto.type)}, which is not supported")
        inputs: dict[str, Argument | list[Argument]] = {}
        for parameter, value in proto.attributes.items():
            if parameter != "name":
                inputs[parameter] = self.package.constant(value)
        for parameter, argument in proto.inputs.items():
            bound = [self._argument(binding, where) for binding in argument.arguments]
            if parameter not in LISTS and len(bound) != 1:
                raise self.package.error(f"{where} has {len(bound)} values for {quoted(parameter)}")
            inputs[parameter] = bound if parameter in LISTS else bound[0]
        try:
            inspect.signature(OPS[proto.type]).bind(**inputs)
        except TypeError as error:
            raise self.package.error(f"{proto.type} {where}: {quoted(error)}") from None
        outputs = {output.name: self.package.type_of(output.type) for output in proto.outputs}
        for output, type_ in outputs.items():
            self._define(output, type_)
        return Operation(label, proto.type, inputs, outputs)

    def _argument(self, binding: Any, where: str) -> Argument:
        if binding.WhichOneof("binding") == "value":
            return self.package.constant(binding.value)
        self._type(binding.name, where)
        return self.constants.get(binding.name, binding.name)

    def _type(self, name: str, where: str) -> Type:
        if name not in self.types:
            raise self.package.error(f"{where} uses {quoted(name)}, which nothing before it makes")
        return self.types[name]

    def _define(self, name: str, type_: Type) -> None:
        if name in self.types:
            raise self.package.error(f"two values in {self.name} are named {quoted(name)}")
        self.types[name] = type_


def _typed(value: np.ndarray, type_: Type, half: bool) -> np.ndarray:
    """`value` in the dtype that `type_` has here: floats are float32, rounded to fp16 if `half` and that is `type_`."""
    if type_.element is None:
        return value
    if type_.dtype.kind != "f":
        return value.astype(type_.dtype, copy=False)
    value = value.astype(np.float32, copy=False)
    if half and type_.dtype == np.float16:
        with np.errstate(over="ignore", invalid="ignore"):
            return value.astype(np.float16).astype(np.float32)
    return value
