"""Compares saved packages with the model in MLX, layer by layer, and measures how much accuracy the export cost.

The package is read back and run in exact arithmetic (`quantize.interpreter`). In MLX the model runs with its weights
rounded as in the package: both must agree in every layer and every output to within the rounding of float32, or the
package is wrong. The model also runs with its own weights: the PSNR of the package's outputs against those, as Apple's
converter computes it, is the cost of the export.
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
from mlx_genmoji.models.unet_blocks import BasicTransformerBlock, Transformer2DModel
from mlx_genmoji.quantization import PACKED, QuantizedLayer, replace_layer

from ..interpreter import Program
from .exported_model import computing_on_cpu
from .graph import op_name
from .packages import Arrays, PackageSpec
from .weight_formats import Compressor, release

# The largest relative error (of norms) of a layer's output: ten times that of float32 sums in another order.
TOLERANCE = 5e-5

# The largest error of the sines and cosines of timesteps. An angle of 1000 has an error of 6e-5 in float32, and of 0.25
# in half precision. WAVES is the name of their op.
WAVES_TOLERANCE = 3e-4
WAVES = "time_waves"

# The numbers of a layer's output that are compared.
SAMPLE_SIZE = 2**14

LAYERS: tuple[type[nn.Module], ...] = (GroupNorm, nn.LayerNorm, QuantizedLayer, LoRALayer, *PACKED)
BLOCKS: tuple[type[nn.Module], ...] = (ResnetBlock2D, BasicTransformerBlock, Transformer2DModel, CLIPEncoderLayer)

# By the names of ops: a layer's path, and some numbers of its output.
Samples = dict[str, tuple[str, np.ndarray]]


class StopRun(Exception):
    """Ends a run of the interpreter early."""


@computing_on_cpu()
def verify(
    spec: PackageSpec,
    paths: Sequence[Path],
    function: str,
    compressor: Compressor,
    open_model: Callable[[], nn.Module],
    separate: bool,
    full: bool,
) -> dict[str, float]:
    """Compare packages with the model; the PSNR of their outputs in dB: `exact` and, if `full`, `half`.

    paths: the package, or two chunks. compressor: the one that they were written with. open_model: opens the model with
    its weights unread; called for each run, which uses it up. separate: whether LoRALayers were emitted as separate
    layers beside their base. full: compare on all examples, else on the first; and run in half precision too.
    Raises UserError with the package and the first layer that differs, or the output where all layers are the same.
    """
    programs = [Program.open(path) for path in paths]
    measured: dict[str, list[float]] = {}
    for i, example in enumerate(spec.examples if full else spec.examples[:1]):
        expected = _predict(spec, open_model(), example)
        samples: Samples = {}
        rounded = _predict(spec, open_model(), example, compressor, separate, samples)
        exact = _compare_layers(spec, programs, function, example, samples)
        _compare_outputs(spec, rounded, exact)
        measured.setdefault("exact", []).append(_worst_psnr(expected, exact))
        if i == 0 and "timestep" in programs[0].inputs(function):
            _compare_waves(spec, programs[0], function, example)
        if full:
            half = _run(programs, function, example, half=True)
            measured.setdefault("half", []).append(_worst_psnr(expected, half))
    return {kind: round(min(values), 1) for kind, values in measured.items()}


def psnr(expected: np.ndarray, output: np.ndarray) -> float:
    """The ratio of the largest expected number to the root mean squared error, in dB; 200 where there is no error."""
    error = float(np.sqrt(np.square(expected.astype(np.float64) - output).mean()))
    if not np.isfinite(error):
        return 0.0
    return float(min(200.0, 20 * np.log10(np.abs(expected).max() / max(error, 1e-30))))


def _worst_psnr(expected: Arrays, outputs: Arrays) -> float:
    """The lowest PSNR of all rows of all outputs."""
    return min(psnr(row, other) for name in expected for row, other in zip(expected[name], outputs[name], strict=True))


def _predict(
    spec: PackageSpec,
    model: nn.Module,
    example: Arrays,
    compressor: Compressor | None = None,
    separate: bool = False,
    samples: Samples | None = None,
) -> Arrays:
    """The outputs of the model. It runs layer by layer and frees the weights of each, so it cannot be used again.

    compressor: round its weights as this one does. samples: filled with numbers of the outputs of all layers.
    """

    def record(path: str, values: mx.array) -> None:
        if samples is not None:
            samples[op_name(path)] = path, _sample(np.asarray(values), spec.channels_last)

    if compressor is not None:
        _round_embeddings(model, compressor)
    modules: list[tuple[str, Any]] = model.named_modules()
    layers: list[tuple[str, Any]] = [(path, layer) for path, layer in modules if isinstance(layer, (*LAYERS, *BLOCKS))]
    inside = [f"{path}." for path, layer in layers if isinstance(layer, LoRALayer)]
    # The innermost first, since the blocks around a layer find it by its path.
    for path, layer in sorted(layers, key=lambda item: -item[0].count(".")):
        if not path.startswith(tuple(inside)) and not path.endswith("position_embedding"):
            replace_layer(model, path, _Watched(path, layer, compressor, separate, record))
    with inference():
        return spec.predict(model, example)


class _Watched(nn.Module):
    """Takes the place of a layer or a block for one call, and reports its output."""

    def __init__(
        self,
        path: str,
        layer: nn.Module,
        compressor: Compressor | None,
        separate: bool,
        record: Callable[[str, mx.array], None],
    ):
        super().__init__()
        self.path = path
        self.layer = layer
        self.compressor = compressor
        self.separate = separate
        self.record = record

    def __call__(self, *arguments: Any) -> mx.array:
        layer = self.layer
        if self.compressor is not None and isinstance(layer, LAYERS):
            layer = _rounded(self.path, layer, self.compressor, self.separate)
        y = layer(*arguments)
        mx.eval(y)
        self.record(self.path, y)
        if isinstance(self.layer, LAYERS):
            release(self.layer)
        return y


def _rounded(path: str, layer: nn.Module, compressor: Compressor, separate: bool) -> nn.Module:
    """The layer with its weights rounded as in the package, float32."""

    def rounded(array: mx.array) -> mx.array:
        return mx.array(np.asarray(array.astype(mx.float32)).astype(compressor.dtype).astype(np.float32))

    if isinstance(layer, (GroupNorm, nn.LayerNorm)):
        layer.weight, layer.bias = rounded(layer.weight), rounded(layer.bias)
        return layer
    base = layer.base if isinstance(layer, LoRALayer) else layer
    weight = compressor.compress(path, base if separate else layer).dense().astype(np.float32)
    plain: nn.Module
    if weight.ndim == 4:
        plain = Conv2d(1, 1, 1)
        plain.stride, plain.padding = base.stride, base.padding
        weight = weight.transpose(0, 2, 3, 1)
    elif "Embedding" in type(base).__name__:
        plain = nn.Embedding(1, 1)
    else:
        plain = nn.Linear(1, 1)
    plain.weight = mx.array(np.ascontiguousarray(weight))
    if "bias" in base:
        plain.bias = rounded(base.bias)
    elif "bias" in plain:
        del plain["bias"]
    if isinstance(layer, LoRALayer) and separate:
        return wrap(plain, rounded(layer.lora_a), rounded(layer.scale * layer.lora_b), 1.0)
    return plain


def _round_embeddings(model: nn.Module, compressor: Compressor) -> None:
    """Round the position embeddings, which are no layers that could be watched."""
    endings = ("positional_embedding", "position_embedding.weight")
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    embeddings = [(path, value) for path, value in parameters.items() if path.endswith(endings)]
    rounded = [(path, np.asarray(value.astype(mx.float32)).astype(compressor.dtype)) for path, value in embeddings]
    model.update(tree_unflatten([(path, mx.array(array.astype(np.float32))) for path, array in rounded]))


def _sample(values: np.ndarray, channels_last: bool) -> np.ndarray:
    """Evenly spaced numbers of a layer's output, in the order of Core ML's layout."""
    flat = (values if channels_last or values.ndim < 3 else np.moveaxis(values, -1, 1)).reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE_SIZE) | 1].astype(np.float32)


def _compare_layers(
    spec: PackageSpec, programs: Sequence[Program], function: str, example: Arrays, samples: Samples
) -> Arrays:
    """The packages' outputs in exact arithmetic. Raises UserError for the first layer that differs from the model's."""
    waiting = dict(samples)

    def watch(operation: str, kind: str, name: str, value: np.ndarray) -> None:
        if name not in waiting:
            return
        path, expected = waiting.pop(name)
        sample = _sample(value, channels_last=True)
        if sample.shape != expected.shape:
            raise _layer_differs(spec, path, "has another shape")
        error = _error(expected, sample)
        if not error <= TOLERANCE:
            raise _layer_differs(spec, path, f"is {_in_words(error)} off")

    outputs = _run(programs, function, example, half=False, watch=watch)
    if waiting:
        raise _layer_differs(spec, next(iter(waiting.values()))[0], "is missing")
    return outputs


def _compare_outputs(spec: PackageSpec, expected: Arrays, outputs: Arrays) -> None:
    """Raise UserError where an output differs from the model's.

    Rows are compared one by one, since an error at one timestep may be small beside the numbers at another.
    """
    if expected.keys() != outputs.keys():
        raise UserError(
            f"{spec.name}: the package differs from the model: its outputs are {', '.join(outputs)}, not"
            f" {', '.join(expected)}. Nothing was exported."
        )
    for name, array in expected.items():
        if array.shape != outputs[name].shape:
            raise _output_differs(spec, name, f"has the shape {outputs[name].shape}, not {array.shape}")
        error = max(_error(row, other) for row, other in zip(array, outputs[name], strict=True))
        if not error <= TOLERANCE:
            raise _output_differs(spec, name, f"is {_in_words(error)} off")


def _error(expected: np.ndarray, output: np.ndarray) -> float:
    """The relative error: the norm of the difference by the norm of the expected array."""
    return float(np.linalg.norm(output - expected)) / max(float(np.linalg.norm(expected)), 1e-30)


def _in_words(error: float) -> str:
    return f"{error:.2%}" if error >= 1e-4 else f"{error:.1e}"


def _output_differs(spec: PackageSpec, output: str, difference: str) -> UserError:
    return UserError(
        f"{spec.name}: the package differs from the model: its layers are the same, but its output {output}"
        f" {difference}. Nothing was exported."
    )


def _compare_waves(spec: PackageSpec, program: Program, function: str, example: Arrays) -> None:
    """Raise UserError where the sines and cosines of timesteps are computed in half precision.

    Exact arithmetic does not show that, so this runs the beginning of the UNet in half precision too.
    """
    waves: dict[bool, np.ndarray] = {}
    for half in (False, True):

        def watch(operation: str, kind: str, name: str, value: np.ndarray, half: bool = half) -> None:
            if name == WAVES:
                waves[half] = value
                raise StopRun

        inputs = {name: example[name] for name in program.inputs(function)}
        try:
            program.run(inputs, function=function, half=half, watch=watch)
        except StopRun:
            continue
    error = float(np.abs(waves[True] - waves[False]).max())
    if not error <= WAVES_TOLERANCE:
        raise _layer_differs(
            spec, "time_embedding", f"gets sines and cosines that are {error:.2g} off in half precision"
        )


def _layer_differs(spec: PackageSpec, path: str, difference: str) -> UserError:
    return UserError(
        f"{spec.name}: the package differs from the model: the first layer to differ is {path}, which {difference}."
        " Nothing was exported."
    )


def _run(programs: Sequence[Program], function: str, example: Arrays, half: bool, watch: Any = None) -> Arrays:
    """Run chunks in turn, as Apple's package does: the second also gets the outputs of the first."""
    arrays: Arrays = dict(example)
    outputs: Arrays = {}
    for program in programs:
        outputs = program.run({name: arrays[name] for name in program.inputs(function)}, function, half, watch)
        arrays |= outputs
    return outputs
