"""Holds saved packages against the model in MLX, layer by layer, and measures what the export cost.

The package is read back and run with exact arithmetic (`quantize.interpreter`), the model with its weights rounded as
the package keeps them: both must agree in every layer and in every output to within the rounding of float32, or the
package is wrong. How far its answers are from those of the model as it is, is the price of the export (PSNR, as Apple's
converter has it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora.layers import LoRALayer, wrap
from mlx_genmoji.models.blocks import Conv2d, GroupNorm, ResnetBlock2D
from mlx_genmoji.models.clip import CLIPEncoderLayer
from mlx_genmoji.models.ops import inference
from mlx_genmoji.models.transformer import BasicTransformerBlock, Transformer2DModel
from mlx_genmoji.quantization import PACKED, QuantizedLayer, replace_layer

from ..interpreter import Program
from .exported_model import computing_on_cpu
from .graph import op_name
from .packages import Arrays, Part
from .weight_formats import Storage, release

# How far a layer may be off, by the norm of what it says: ten times what the order of sums makes of float32.
TOLERANCE = 5e-5

# How far sines and cosines may be: float32 has an angle of 1000 to within 6e-5, half precision to within 0.25.
WAVES_TOLERANCE = 3e-4
WAVES = "time_waves"

# Numbers of a layer's output that are compared.
SAMPLES = 2**14

LAYERS: tuple[type[nn.Module], ...] = (GroupNorm, nn.LayerNorm, QuantizedLayer, LoRALayer, *PACKED)
BLOCKS: tuple[type[nn.Module], ...] = (ResnetBlock2D, BasicTransformerBlock, Transformer2DModel, CLIPEncoderLayer)

Samples = dict[str, tuple[str, np.ndarray]]


class Done(Exception):
    """Ends a run in the interpreter that has shown what was wanted."""


@computing_on_cpu()
def verify(
    part: Part,
    packages: Sequence[Path],
    function: str,
    storage: Storage,
    open_model: Callable[[], nn.Module],
    beside: bool,
    full: bool,
) -> dict[str, float]:
    """Compare a part's packages with the model; the PSNR in dB, `exact` and, if `full`, of half precision.

    storage: as the packages were written with. open_model: the model, unread, once for each comparison. beside: whether
    LoRALayers were emitted as two layers beside their base. full: on all examples, else on the first. Raises UserError
    naming the part and the first layer that differs, or the output where no layer does.
    """
    programs = [Program.open(package) for package in packages]
    measured: dict[str, list[float]] = {}
    for i, example in enumerate(part.examples if full else part.examples[:1]):
        expected = _answer(part, open_model(), example)
        samples: Samples = {}
        rounded = _answer(part, open_model(), example, storage, beside, samples)
        exact = _compare(part, programs, function, example, samples)
        _compare_outputs(part, rounded, exact)
        measured.setdefault("exact", []).append(_worst_psnr(expected, exact))
        if i == 0 and WAVES in _values(programs[0], function):
            _compare_waves(part, programs[0], function, example)
        if full:
            half = _run(programs, function, example, half=True)
            measured.setdefault("half", []).append(_worst_psnr(expected, half))
    return {kind: round(min(values), 1) for kind, values in measured.items()}


def psnr(expected: np.ndarray, found: np.ndarray) -> float:
    """The peak of what is expected by the root of the mean squared error, in dB; 200 where there is none."""
    error = float(np.sqrt(np.square(expected.astype(np.float64) - found).mean()))
    if not np.isfinite(error):
        return 0.0
    return float(min(200.0, 20 * np.log10(np.abs(expected).max() / max(error, 1e-30))))


def _worst_psnr(expected: Arrays, found: Arrays) -> float:
    """Of each output's rows, the worst."""
    return min(psnr(row, other) for name in expected for row, other in zip(expected[name], found[name], strict=True))


def _answer(
    part: Part,
    model: nn.Module,
    example: Arrays,
    storage: Storage | None = None,
    beside: bool = False,
    samples: Samples | None = None,
) -> Arrays:
    """What the model says, layer by layer: no more than one layer's weights are in memory. It is used up.

    storage: round its weights as they are kept. samples: to be filled with what each layer says.
    """

    def see(path: str, values: mx.array) -> None:
        if samples is not None:
            samples[op_name(path)] = path, _sample(np.asarray(values), part.channels_last)

    if storage is not None:
        _round_others(model, storage)
    modules: list[tuple[str, Any]] = model.named_modules()
    layers: list[tuple[str, Any]] = [(path, layer) for path, layer in modules if isinstance(layer, (*LAYERS, *BLOCKS))]
    inside = [f"{path}." for path, layer in layers if isinstance(layer, LoRALayer)]
    # The innermost first, since what is around a layer finds it by its path.
    for path, layer in sorted(layers, key=lambda item: -item[0].count(".")):
        if not path.startswith(tuple(inside)) and not path.endswith("position_embedding"):
            replace_layer(model, path, _Watched(path, layer, storage, beside, see))
    with inference():
        return part.answer(model, example)


class _Watched(nn.Module):
    """Stands in for a layer or a block, for one call."""

    def __init__(
        self,
        path: str,
        layer: nn.Module,
        storage: Storage | None,
        beside: bool,
        see: Callable[[str, mx.array], None],
    ):
        super().__init__()
        self.path = path
        self.layer = layer
        self.storage = storage
        self.beside = beside
        self.see = see

    def __call__(self, *arguments: Any) -> mx.array:
        layer = self.layer
        if self.storage is not None and isinstance(layer, LAYERS):
            layer = _rounded(self.path, layer, self.storage, self.beside)
        y = layer(*arguments)
        mx.eval(y)
        self.see(self.path, y)
        if isinstance(self.layer, LAYERS):
            release(self.layer)
        return y


def _rounded(path: str, layer: nn.Module, storage: Storage, beside: bool) -> nn.Module:
    """The layer with its weights as they are kept, float32."""

    def half(array: mx.array) -> mx.array:
        return mx.array(np.asarray(array.astype(mx.float32)).astype(storage.dtype).astype(np.float32))

    if isinstance(layer, (GroupNorm, nn.LayerNorm)):
        layer.weight, layer.bias = half(layer.weight), half(layer.bias)
        return layer
    base = layer.base if isinstance(layer, LoRALayer) else layer
    kept = storage.keep(path, base if beside else layer).dense().astype(np.float32)
    plain: nn.Module
    if kept.ndim == 4:
        plain = Conv2d(1, 1, 1)
        plain.stride, plain.padding = base.stride, base.padding
        kept = kept.transpose(0, 2, 3, 1)
    elif "Embedding" in type(base).__name__:
        plain = nn.Embedding(1, 1)
    else:
        plain = nn.Linear(1, 1)
    plain.weight = mx.array(np.ascontiguousarray(kept))
    if "bias" in base:
        plain.bias = half(base.bias)
    elif "bias" in plain:
        del plain["bias"]
    if isinstance(layer, LoRALayer) and beside:
        return wrap(plain, half(layer.lora_a), half(layer.scale * layer.lora_b), 1.0)
    return plain


def _round_others(model: nn.Module, storage: Storage) -> None:
    """Round the few parameters that belong to no layer of their own."""
    places = ("positional_embedding", "position_embedding.weight")
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    own = [(path, value) for path, value in parameters.items() if path.endswith(places)]
    rounded = [(path, np.asarray(value.astype(mx.float32)).astype(storage.dtype)) for path, value in own]
    model.update(tree_unflatten([(path, mx.array(array.astype(np.float32))) for path, array in rounded]))


def _sample(values: np.ndarray, channels_last: bool) -> np.ndarray:
    """Some of a layer's numbers, evenly, in the order of Core ML's layout."""
    flat = (values if channels_last or values.ndim < 3 else np.moveaxis(values, -1, 1)).reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLES) | 1].astype(np.float32)


def _compare(part: Part, programs: Sequence[Program], function: str, example: Arrays, samples: Samples) -> Arrays:
    """What the packages say, exactly; raises UserError for the first layer that is not the model's."""
    waiting = dict(samples)

    def watch(operation: str, kind: str, name: str, value: np.ndarray) -> None:
        if name not in waiting:
            return
        path, expected = waiting.pop(name)
        found = _sample(value, channels_last=True)
        if found.shape != expected.shape:
            raise _differs(part, path, "is of another shape")
        error = _error(expected, found)
        if not error <= TOLERANCE:
            raise _differs(part, path, f"is {_in_words(error)} off")

    outputs = _run(programs, function, example, half=False, watch=watch)
    if waiting:
        raise _differs(part, next(iter(waiting.values()))[0], "is missing")
    return outputs


def _compare_outputs(part: Part, expected: Arrays, found: Arrays) -> None:
    """Raise UserError where what is made of the last layer is not what the model says; each row by itself, since an
    error at one timestep may be small beside what is said at another."""
    if expected.keys() != found.keys():
        raise UserError(
            f"{part.name}: the package is not the model; its outputs are {', '.join(found)}, not {', '.join(expected)}."
            " Nothing was exported."
        )
    for name, whole in expected.items():
        if whole.shape != found[name].shape:
            raise _ends_otherwise(part, name, f"is of the shape {found[name].shape}, not {whole.shape}")
        error = max(_error(row, other) for row, other in zip(whole, found[name], strict=True))
        if not error <= TOLERANCE:
            raise _ends_otherwise(part, name, f"is {_in_words(error)} off")


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    """The norm of the difference by the norm of what is expected."""
    return float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-30)


def _in_words(error: float) -> str:
    return f"{error:.2%}" if error >= 1e-4 else f"{error:.1e}"


def _ends_otherwise(part: Part, output: str, how: str) -> UserError:
    return UserError(
        f"{part.name}: the package is not the model; its layers are, but the output {output}, which is made of them,"
        f" {how}. Nothing was exported."
    )


def _compare_waves(part: Part, program: Program, function: str, example: Arrays) -> None:
    """Raise UserError where the time embedding begins in half precision, which is not seen in exact arithmetic."""
    found: dict[bool, np.ndarray] = {}
    for half in (False, True):

        def watch(operation: str, kind: str, name: str, value: np.ndarray, half: bool = half) -> None:
            if name == WAVES:
                found[half] = value
                raise Done

        given = {name: example[name] for name in program.inputs(function)}
        try:
            program.run(given, function=function, half=half, watch=watch)
        except Done:
            continue
    error = float(np.abs(found[True] - found[False]).max())
    if not error <= WAVES_TOLERANCE:
        raise _differs(part, "time_embedding", f"is told waves that are {error:.2g} off in half precision")


def _differs(part: Part, path: str, how: str) -> UserError:
    return UserError(
        f"{part.name}: the package is not the model; the first layer that differs is {path}, which {how}."
        " Nothing was exported."
    )


def _run(programs: Sequence[Program], function: str, example: Arrays, half: bool, watch: Any = None) -> Arrays:
    """Chunks in turn, each given what the first was and what the one before said, as Apple's package does."""
    given: Arrays = dict(example)
    outputs: Arrays = {}
    for program in programs:
        outputs = program.run({name: given[name] for name in program.inputs(function)}, function, half, watch)
        given |= outputs
    return outputs


def _values(program: Program, function: str) -> set[str]:
    return {WAVES} if "timestep" in program.inputs(function) else set()
