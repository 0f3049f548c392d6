"""What `cpu` says in graphs, computed before it returns: by NumPy, on all cores. For `functions.inference` alone.

MLX's CPU backend computes elementwise operations on one core, each over the whole array. NumPy leaves Python's lock
while it computes, so threads share the work, a cache's worth at a time, and its `exp` and `tanh` are 30 times as quick.
What is computed here can be neither differentiated nor compiled. Arrays are float32; products remain MLX's.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from . import cpu

Numbers = NDArray[np.float32]

# Numbers that go through a formula together: the caches hold them, with what is made of them. With fewer, threads wait
# for Python's lock more often than for numbers.
_AT_ONCE = 2**16
# With fewer numbers, waking the other cores takes longer than the work.
LARGE = 2**16


def worthwhile(x: mx.array) -> bool:
    """Whether computing with `x` here is quicker than in a graph."""
    return x.dtype == mx.float32 and x.size >= LARGE


@cache
def _cores() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


def _share(work: Callable[[int, int], object], length: int) -> None:
    """work(start, stop) of even parts of a length, one for each core; this thread's own is the first."""
    size = max(1, -(-length // (os.cpu_count() or 1)))
    others = [_cores().submit(work, start, min(start + size, length)) for start in range(size, length, size)]
    work(0, min(size, length))
    for other in others:
        other.result()


def _views(*arrays: mx.array) -> list[Numbers]:
    """The arrays, evaluated, as NumPy's of the same memory: what is written to them is in the arrays."""
    mx.eval(arrays)
    return [np.array(array, copy=False) for array in arrays]


def _elementwise(formula: Callable[..., None], *arrays: mx.array) -> mx.array:
    """formula(out, *arrays) of arrays (..., C), some rows at a time."""
    result = mx.zeros(arrays[0].shape)
    rows = [view.reshape(-1, view.shape[-1]) for view in _views(result, *arrays)]
    step = max(1, _AT_ONCE // arrays[0].shape[-1])

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, step):
            part = slice(first, min(first + step, stop))
            formula(*(array[part] for array in rows))

    _share(work, len(rows[0]))
    return result


# Arrays that memory is made for, and as many that are converted, while the next is read.
_AHEAD = 4


def widened(halves: Iterable[mx.array]) -> Iterator[mx.array]:
    """float16 arrays in float32: while MLX reads one, another stream makes memory for the next and cores convert."""
    memory = _second_stream(threading.get_ident())
    ahead: deque[tuple[mx.array, mx.array]] = deque()
    under_way: deque[tuple[mx.array, Future[None]]] = deque()

    def convert() -> None:
        half, result = ahead.popleft()
        source, target = _views(half, result)
        under_way.append((result, _cores().submit(_widen, source.reshape(-1), target.reshape(-1))))

    def converted() -> mx.array:
        result, conversion = under_way.popleft()
        conversion.result()
        return result

    for half in halves:
        result = mx.zeros(half.shape, stream=memory)
        mx.async_eval(half, result)
        ahead.append((half, result))
        if len(ahead) > _AHEAD:
            convert()
        if len(under_way) > _AHEAD:
            yield converted()
    while ahead:
        convert()
    while under_way:
        yield converted()


@cache
def _second_stream(thread: int) -> mx.Stream:
    """A thread's own: MLX knows no other thread's."""
    return mx.new_stream(mx.Device(mx.cpu))


def _widen(halves: NDArray[Any], out: Numbers) -> None:
    """Bits are moved to where float32 has them, and exponents corrected by a product: thrice as fast as a cast."""
    for first in range(0, out.size, _AT_ONCE):
        part, source = out[first : first + _AT_ONCE], halves[first : first + _AT_ONCE]
        bits = part.view(np.int32)
        np.copyto(bits, source.view(np.int16))
        bits <<= 13
        # The sign has come to the three bits below its own, too.
        bits &= ~(0b111 << 28)
        part *= 2.0**112
        # Infinities and NaN are no powers of two.
        if part.max() >= 2**16 or part.min() <= -(2**16):
            np.copyto(part, source)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    return _elementwise(_silu, x)


def _silu(out: Numbers, x: Numbers) -> None:
    np.multiply(x, 0.5, out=out)
    sigmoid = np.tanh(out)
    sigmoid += 1
    out *= sigmoid


def gated_gelu(x: mx.array, gate: mx.array) -> mx.array:
    """x * gelu(gate)."""
    return _elementwise(_gated_gelu, x, gate)


def _gated_gelu(out: Numbers, x: Numbers, gate: Numbers) -> None:
    np.multiply(gate, 0.5**0.5, out=out)
    np.clip(out, -4, 4, out=out)
    square = out * out
    out *= _polynomial(square, cpu.ERF_NUMERATOR)
    out /= _polynomial(square, cpu.ERF_DENOMINATOR)
    out += 1
    out *= gate
    out *= x
    out *= 0.5


def _polynomial(x: Numbers, coefficients: tuple[float, ...]) -> Numbers:
    """Horner's rule, highest power first."""
    value = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value


# Scores computed together: a cache that cores share holds them.
_SCORES_AT_ONCE = 2**21
# Exponentials of scores up to this, and sums of thousands of them, are float32 numbers.
_SMALL = 64.0


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """Scaled dot-product attention of (N, L, D) over (N, S, D)."""
    if queries.shape[0] * queries.shape[1] * keys.shape[1] < LARGE:
        return cpu.attention(queries, keys, values, scale)
    queries = queries * scale
    # |q . k| <= |q| |k|: where that says that scores are small, no row's largest has to be found and taken off.
    bound = mx.linalg.norm(queries, axis=-1).max() * mx.linalg.norm(keys, axis=-1).max()
    small = bool((bound <= _SMALL).item())

    def weigh(scores: mx.array) -> mx.array:
        (rows,) = _views(scores)
        rows = rows.reshape(-1, rows.shape[-1])
        step = max(1, _AT_ONCE // rows.shape[-1])

        def work(start: int, stop: int) -> None:
            for first in range(start, stop, step):
                part = rows[first : min(first + step, stop)]
                if not small:
                    part -= part.max(axis=1, keepdims=True)
                np.exp(part, out=part)

        _share(work, len(rows))
        return scores

    parts = []
    for part in cpu.attended(queries, keys, values, _SCORES_AT_ONCE, weigh):
        mx.eval(part)
        parts.append(part)
    return mx.concatenate(parts).reshape(queries.shape)


# Numbers in the windows that a convolution copies together: 0.25 GB in float32.
_WINDOWS_AT_ONCE = 2**26


def conv2d(x: mx.array, weight: mx.array, stride: int, padding: int) -> mx.array:
    """The convolution (B, H, W, C) * (O, kh, kw, C), each shape by the quickest route."""
    if weight.shape[1:3] == (3, 3) and stride == 1 and padding == 1:
        if _pays(x, weight):
            return winograd_conv2d(x, weight)
        if 9 * x.size > _WINDOWS_AT_ONCE:
            return _in_slabs(x, weight, -(-9 * x.size // _WINDOWS_AT_ONCE))
    return cpu.conv2d(x, weight, stride, padding)


def _in_slabs(x: mx.array, weight: mx.array, slabs: int) -> mx.array:
    """A padded 3x3 convolution, some rows after others: all windows of what is computed together are copied."""
    height = x.shape[1]
    rows = -(-height // slabs)
    parts = []
    for top in range(0, height, rows):
        first, last = max(0, top - 1), min(height, top + rows + 1)
        part = cpu.conv2d(x[:, first:last], weight, stride=1, padding=1)
        parts.append(mx.contiguous(part[:, top - first : top - first + min(rows, height - top)]))
        mx.eval(parts[-1])
    return mx.concatenate(parts, axis=1)


# A transformed weight is kept beside the weight, in 16/9 of its memory: only up to so many channels in times out.
_KEPT_CHANNELS = 5 * 2**18
# The channels and squares of 2x2 pixels from which on products are large enough.
_LEAST_CHANNELS, _LEAST_SQUARES = 128, 64
# Numbers in a picture's transformed squares that are multiplied together, and in the products: 64 MB.
_TRANSFORMED_AT_ONCE = 2**24


def _pays(x: mx.array, weight: mx.array) -> bool:
    O, _, _, C = weight.shape
    squares = x.shape[0] * _half(x.shape[1]) * _half(x.shape[2])
    return (
        x.dtype == weight.dtype == mx.float32
        and min(O, C) >= _LEAST_CHANNELS
        and O * C <= _KEPT_CHANNELS
        and squares >= _LEAST_SQUARES
    )


def _half(length: int) -> int:
    return -(-length // 2)


def winograd_conv2d(x: mx.array, weight: mx.array) -> mx.array:
    """A padded 3x3 convolution, 16 multiplications for every 2x2 pixels instead of 36 (Lavin and Gray, 2016).

    Y = A'[(G g G') * (B' d B)]A, their F(2x2, 3x3): squares d of 4x4 pixels, two apart, and taps g become 16 numbers
    each; their products, summed over channels, are 16 matrix products, and A makes 2x2 pixels of them.
    """
    B, H, W, C = x.shape
    O = weight.shape[0]
    rows, columns = _half(H), _half(W)
    taps = _transformed(weight)
    at_once = max(1, min(rows, _TRANSFORMED_AT_ONCE // (16 * columns * (C + O))))
    padded = np.zeros((B, 2 * rows + 2, 2 * columns + 2, C), np.float32)
    squares, result = mx.zeros((16, at_once * columns, C)), mx.zeros((B, 2 * rows, 2 * columns, O))
    pixels, numbers, out = _views(x, squares, result)
    padded[:, 1 : H + 1, 1 : W + 1] = pixels
    numbers = numbers.reshape(4, 4, at_once, columns, C)
    out = out.reshape(B, rows, 2, columns, 2, O)
    step = max(1, _AT_ONCE // (columns * max(C, O)))

    for b in range(B):
        for top in range(0, rows, at_once):
            count = min(at_once, rows - top)

            def transform(start: int, stop: int, picture: Numbers = padded[b, 2 * top :]) -> None:
                for first in range(start, stop, step):
                    last = min(first + step, stop)
                    _transform_squares(picture[2 * first : 2 * last + 2], numbers[:, :, first:last])

            _share(transform, count)
            (products,) = _views(squares @ taps.swapaxes(1, 2))
            products = products.reshape(4, 4, at_once, columns, O)

            def collect(start: int, stop: int, products: Numbers = products, picture: Numbers = out[b, top:]) -> None:
                for first in range(start, stop, step):
                    last = min(first + step, stop)
                    _collect_pixels(products[:, :, first:last], picture[first:last])

            _share(collect, count)
    return result[:, :H, :W]


def _transform_squares(pixels: Numbers, out: Numbers) -> None:
    """B' d B: rows (2R + 2, 2K + 2, C) of a padded picture -> (4, 4, R, K, C)."""
    even, odd = pixels[0::2], pixels[1::2]
    lines = even[:-1] - even[1:], odd[:-1] + even[1:], even[1:] - odd[:-1], odd[:-1] - odd[1:]
    for line, numbers in zip(lines, out, strict=True):
        even, odd = line[:, 0::2], line[:, 1::2]
        np.subtract(even[:, :-1], even[:, 1:], out=numbers[0])
        np.add(odd[:, :-1], even[:, 1:], out=numbers[1])
        np.subtract(even[:, 1:], odd[:, :-1], out=numbers[2])
        np.subtract(odd[:, :-1], odd[:, 1:], out=numbers[3])


def _collect_pixels(products: Numbers, out: Numbers) -> None:
    """A' m A: (4, 4, R, K, O) -> (R, 2, K, 2, O)."""
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


# By the identity of weights that live, and lost with them: a layer's weight is transformed once.
_kept: dict[int, tuple[weakref.ref[mx.array], mx.array]] = {}


def _transformed(weight: mx.array) -> mx.array:
    """G g G': (O, 3, 3, C) -> (16, O, C)."""
    identity = id(weight)
    if identity in _kept:
        return _kept[identity][1]
    O, _, _, C = weight.shape
    result = mx.zeros((16, O, C))
    numbers, taps = _views(result, weight)
    numbers = numbers.reshape(4, 4, O, C)
    step = max(1, _AT_ONCE // (9 * C))

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, step):
            part = slice(first, min(first + step, stop))
            for line, rows in zip(_spread(*np.moveaxis(taps[part], 1, 0)), numbers, strict=True):
                for tap, out in zip(_spread(*np.moveaxis(line, 1, 0)), rows, strict=True):
                    out[part] = tap

    _share(work, O)
    _kept[identity] = weakref.ref(weight, lambda _: _kept.pop(identity)), result
    return result


def _spread(first: Numbers, middle: Numbers, last: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """G: three taps -> four."""
    outer, inner = 0.5 * (first + last), 0.5 * middle
    return first, outer + inner, outer - inner, last


def upsampled_conv2d(x: mx.array, weight: mx.array) -> mx.array:
    """Nearest-neighbour doubling and a 3x3 convolution in one."""
    return cpu.upsampled_conv2d(x, weight, conv2d)
