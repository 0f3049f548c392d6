"""Eager, multi-threaded NumPy versions of the kernels in `cpu`. Inference only: not differentiable, not compilable.

MLX's CPU backend computes elementwise operations on one core, each over the whole array. NumPy releases Python's lock
while it computes, so threads share the work, a cache-sized chunk at a time, and its `exp` and `tanh` are 30 times as
fast. Matrix products remain MLX's. All arrays are float32 and are evaluated on return. The sizes and limits below were
measured on two cores of an AMD EPYC (LOG.md).
"""

import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from . import cpu

Floats = NDArray[np.float32]

# Elements that a formula takes at a time: 256 KiB in float32, which caches hold together with intermediate results.
# With 2^15, threads wait for Python's lock more often than they compute (4.6 instead of 3.4 ms).
CHUNK = 2**16
# With fewer elements, waking the other cores takes longer than the work.
LARGE = 2**16


def worthwhile(x: mx.array) -> bool:
    """Whether an elementwise formula of `x` is faster here than in `cpu`."""
    return x.dtype == mx.float32 and x.size >= LARGE


def _core_count() -> int:
    """The cores that this process may run on; macOS cannot restrict them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_core_count())


def _on_all_cores(work: Callable[[int, int], object], length: int, step: int) -> Iterator[tuple[int, int]]:
    """Divide range(length) evenly among the cores: call work(start, stop) on the others, at most `step` at a time.

    Yields the parts that are left to the caller: `for part in _on_all_cores(work, ...): work(*part)`.
    Ends when the other cores have finished, and raises what failed there.
    """
    share = max(1, -(-length // _core_count()))

    def steps(first: int) -> Iterator[tuple[int, int]]:
        last = min(first + share, length)
        for start in range(first, last, step):
            yield start, min(start + step, last)

    def work_through(first: int) -> None:
        for start, stop in steps(first):
            work(start, stop)

    others = [pool().submit(work_through, first) for first in range(share, length, share)]
    yield from steps(0)
    for other in others:
        other.result()


def views(*arrays: mx.array) -> list[Floats]:
    """The arrays, evaluated, as NumPy arrays that share their memory: writing to a view writes to the MLX array."""
    mx.eval(arrays)
    return [np.array(array, copy=False) for array in arrays]


def _rows(*arrays: mx.array) -> tuple[list[Floats], int]:
    """Views (rows, C) of arrays (..., C) of one shape, and how many rows make a chunk."""
    channels = arrays[0].shape[-1]
    return [view.reshape(-1, channels) for view in views(*arrays)], max(1, CHUNK // channels)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x) of (..., C)."""
    result = mx.zeros(x.shape)
    (outs, xs), rows = _rows(result, x)

    def work(start: int, stop: int) -> None:
        out = outs[start:stop]
        np.multiply(xs[start:stop], 0.5, out=out)
        sigmoid = np.tanh(out)
        sigmoid += 1
        out *= sigmoid

    for part in _on_all_cores(work, len(xs), rows):
        work(*part)
    return result


def gated_gelu(x: mx.array, gate: mx.array) -> mx.array:
    """x * gelu(gate) of two (..., C), by the approximation of erf in `cpu`."""
    result = mx.zeros(x.shape)
    (outs, xs, gates), rows = _rows(result, x, gate)

    def work(start: int, stop: int) -> None:
        out = outs[start:stop]
        np.multiply(gates[start:stop], 0.5**0.5, out=out)
        np.clip(out, -4, 4, out=out)
        square = out * out
        for operation, coefficients in ((np.multiply, cpu.ERF_NUMERATOR), (np.divide, cpu.ERF_DENOMINATOR)):
            value = square * coefficients[0]
            for coefficient in coefficients[1:-1]:
                value += coefficient
                value *= square
            value += coefficients[-1]
            operation(out, value, out=out)
        out += 1
        out *= gates[start:stop]
        out *= xs[start:stop]
        out *= 0.5

    for part in _on_all_cores(work, len(xs), rows):
        work(*part)
    return result


# Attention scores computed at a time: 8 MiB in float32, which the cache that cores share holds.
SCORES_CHUNK = 2**21
# Up to this score, exp(score) and sums of thousands of them fit float32 without taking off a row's largest score.
_SMALL_SCORE = 64.0


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """Scaled dot-product attention of (N, L, D) over (N, S, D)."""
    queries = queries * scale
    # |q . k| <= |q| |k| (Cauchy-Schwarz).
    bound = mx.linalg.norm(queries, axis=-1).max() * mx.linalg.norm(keys, axis=-1).max()
    small = bool((bound <= _SMALL_SCORE).item())
    means = []
    for scores, chunk_values in cpu.score_chunks(queries, keys, values, SCORES_CHUNK):
        (weights,), rows = _rows(scores)

        def work(start: int, stop: int, weights: Floats = weights) -> None:
            part = weights[start:stop]
            if not small:
                part -= part.max(axis=1, keepdims=True)
            np.exp(part, out=part)

        for part in _on_all_cores(work, len(weights), rows):
            work(*part)
        # The view's memory is that of the scores: they have become the weights.
        means.append(cpu.weighted_mean(scores, chunk_values))
        mx.eval(means[-1])
    return mx.concatenate(means).reshape(queries.shape)


# Elements in the windows that a convolution copies at a time: 0.25 GB in float32.
WINDOWS_CHUNK = 2**26


def conv2d(x: mx.array, weight: mx.array, stride: int, padding: int) -> mx.array:
    """The convolution of (B, H, W, C) with (O, kh, kw, C), by the kernel that is fastest for the shape."""
    if weight.shape[1:3] == (3, 3) and stride == 1 and padding == 1:
        if _use_winograd(x, weight):
            return winograd_conv2d(x, weight)
        if 9 * x.size > WINDOWS_CHUNK:
            return _conv_in_slabs(x, weight, -(-9 * x.size // WINDOWS_CHUNK))
        if pixels := cpu.pixels_per_row(x, weight):
            return cpu.banded_product(cpu.windows(x, pixels), weight, pixels).reshape(*x.shape[:3], weight.shape[0])
    return mx.conv2d(x, weight, stride=stride, padding=padding)


def _conv_in_slabs(x: mx.array, weight: mx.array, slabs: int) -> mx.array:
    """A padded 3x3 convolution, some rows of the picture at a time, to bound the memory that windows are copied to."""
    height = x.shape[1]
    rows = -(-height // slabs)
    parts = []
    for top in range(0, height, rows):
        first, last = max(0, top - 1), min(height, top + rows + 1)
        part = cpu.conv2d(x[:, first:last], weight, stride=1, padding=1)
        parts.append(mx.contiguous(part[:, top - first : top - first + min(rows, height - top)]))
        mx.eval(parts[-1])
    return mx.concatenate(parts, axis=1)


# Input channels times output channels up to which a transformed weight, 16/9 as large as the weight, is kept: those of
# 1,280 channels would take more memory than the model's peak allows.
_MAX_WINOGRAD_CHANNELS = 5 * 2**18
# The channels and the 2x2 squares of pixels from which on Winograd's matrix products are large enough to pay.
_MIN_WINOGRAD_CHANNELS, _MIN_WINOGRAD_SQUARES = 128, 64
# Elements in a picture's transformed squares that are multiplied at a time, and in the products: 64 MiB.
WINOGRAD_CHUNK = 2**24


def _use_winograd(x: mx.array, weight: mx.array) -> bool:
    """Whether a padded 3x3 convolution is faster by `winograd_conv2d`."""
    O, _, _, C = weight.shape
    squares = x.shape[0] * ((x.shape[1] + 1) // 2) * ((x.shape[2] + 1) // 2)
    return (
        x.dtype == weight.dtype == mx.float32
        and min(O, C) >= _MIN_WINOGRAD_CHANNELS
        and O * C <= _MAX_WINOGRAD_CHANNELS
        and squares >= _MIN_WINOGRAD_SQUARES
    )


def winograd_conv2d(x: mx.array, weight: mx.array) -> mx.array:
    """A padded 3x3 convolution, 16 multiplications for every 2x2 pixels instead of 36 (Lavin and Gray, 2016).

    Y = A'[(G g G') * (B' d B)]A, their F(2x2, 3x3): squares d of 4x4 pixels, two apart, and the 3x3 weights g become
    16 numbers each; their products, summed over channels, are 16 matrix products, and A makes 2x2 pixels of them.
    """
    B, H, W, C = x.shape
    O = weight.shape[0]
    rows, columns = (H + 1) // 2, (W + 1) // 2
    transformed = _transformed(weight)
    chunk = max(1, min(rows, WINOGRAD_CHUNK // (16 * columns * (C + O))))
    padded = np.zeros((B, 2 * rows + 2, 2 * columns + 2, C), np.float32)
    squares, result = mx.zeros((16, chunk * columns, C)), mx.zeros((B, 2 * rows, 2 * columns, O))
    pixels, square_view, result_view = views(x, squares, result)
    padded[:, 1 : H + 1, 1 : W + 1] = pixels
    square_view = square_view.reshape(4, 4, chunk, columns, C)
    result_view = result_view.reshape(B, rows, 2, columns, 2, O)
    step = max(1, CHUNK // (columns * max(C, O)))

    for b in range(B):
        for top in range(0, rows, chunk):
            count = min(chunk, rows - top)
            transform = partial(_transform_squares, padded[b, 2 * top :], square_view)
            for part in _on_all_cores(transform, count, step):
                transform(*part)
            (products,) = views(squares @ transformed.swapaxes(1, 2))
            collect = partial(_collect_pixels, products.reshape(4, 4, chunk, columns, O), result_view[b, top:])
            for part in _on_all_cores(collect, count, step):
                collect(*part)
    return result[:, :H, :W]


def _transform_squares(picture: Floats, squares: Floats, start: int, stop: int) -> None:
    """B' d B: of a padded picture (2R + 2, 2K + 2, C) to (4, 4, R, K, C), for rows `start` to `stop` of R."""
    pixels, out = picture[2 * start : 2 * stop + 2], squares[:, :, start:stop]
    even, odd = pixels[0::2], pixels[1::2]
    lines = even[:-1] - even[1:], odd[:-1] + even[1:], even[1:] - odd[:-1], odd[:-1] - odd[1:]
    for line, numbers in zip(lines, out, strict=True):
        even, odd = line[:, 0::2], line[:, 1::2]
        np.subtract(even[:, :-1], even[:, 1:], out=numbers[0])
        np.add(odd[:, :-1], even[:, 1:], out=numbers[1])
        np.subtract(even[:, 1:], odd[:, :-1], out=numbers[2])
        np.subtract(odd[:, :-1], odd[:, 1:], out=numbers[3])


def _collect_pixels(all_products: Floats, picture: Floats, start: int, stop: int) -> None:
    """A' m A: of (4, 4, R, K, O) to (R, 2, K, 2, O), for rows `start` to `stop` of R."""
    products, out = all_products[:, :, start:stop], picture[start:stop]
    upper = products[1] + products[2]
    upper += products[0]
    lower = products[1] - products[2]
    lower -= products[3]
    for i, line in enumerate((upper, lower)):
        left, right = out[:, i, :, 0], out[:, i, :, 1]
        np.add(line[1], line[2], out=left)
        left += line[0]
        np.subtract(line[1], line[2], out=right)
        right -= line[3]


# Transformed weights by the id of the weight; an entry goes when its weight is deleted. The second item is another
# reference to the memory that was transformed: while it exists, a weight that is changed in place gets other memory.
_transforms: dict[int, tuple[weakref.ref[mx.array], mx.array, mx.array]] = {}


def _transformed(weight: mx.array) -> mx.array:
    """G g G': (O, 3, 3, C) -> (16, O, C), computed once for each weight and once more after it is changed in place."""
    key = id(weight)
    (taps,) = views(weight)
    if key in _transforms:
        _, memory, transform = _transforms[key]
        if np.array(memory, copy=False).ctypes.data == taps.ctypes.data:
            return transform
    O, _, _, C = weight.shape
    transform = mx.zeros((16, O, C))
    (numbers,) = views(transform)
    numbers = numbers.reshape(4, 4, O, C)

    def work(start: int, stop: int) -> None:
        for line, rows in zip(_spread(*np.moveaxis(taps[start:stop], 1, 0)), numbers, strict=True):
            for tap, out in zip(_spread(*np.moveaxis(line, 1, 0)), rows, strict=True):
                out[start:stop] = tap

    for part in _on_all_cores(work, O, max(1, CHUNK // (9 * C))):
        work(*part)
    _transforms[key] = weakref.ref(weight, lambda _: _transforms.pop(key, None)), weight[...], transform
    return transform


def _spread(first: Floats, middle: Floats, last: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """G: three taps -> four."""
    outer, inner = 0.5 * (first + last), 0.5 * middle
    return first, outer + inner, outer - inner, last
