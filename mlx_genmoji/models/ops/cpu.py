"""The same arithmetic in the form that MLX's CPU backend computes fast. Nothing here runs on a GPU.

That backend computes `exp`, `tanh` and `erf` at 30-80 million elements a second, reduces short axes slowly, gathers
the windows of a thin convolution pixel by pixel, and differentiates a strided convolution by a naive loop. Said with
multiplications, matrix products and block copies the results are equal to within float32 rounding, and 4-10 times
faster. All of it is differentiable. Where nothing is differentiated, `cpu_now` is faster still.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

import mlx.core as mx


def _polynomial(x: mx.array, coefficients: tuple[float, ...]) -> mx.array:
    """Horner's rule, highest power first."""
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


# Numbers that go through a formula together: as many as a core's cache holds, with what is made of them.
_AT_ONCE = 2**18


def _in_parts(formula: Callable[..., Any], x: mx.array) -> mx.array:
    """An elementwise formula of float32 numbers, a cache's worth of `x` at a time. Its steps are memory traffic."""
    flat = x.astype(mx.float32).reshape(-1)
    parts = [formula(flat[start : start + _AT_ONCE]) for start in range(0, max(1, flat.size), _AT_ONCE)]
    return mx.concatenate(parts).reshape(x.shape).astype(x.dtype)


# Minimax rational approximation of tanh on [-7.9, 7.9], odd over even, in powers of x^2 (the constants are those that
# Eigen and XLA use); its largest error is 2 units in the last place of float32.
_TANH_NUMERATOR = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)

# The same for erf on [-4, 4].
ERF_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + exp(-x))."""
    return _in_parts(_sigmoid, x)


@mx.custom_function
def _sigmoid(x: mx.array) -> mx.array:
    half = mx.clip(0.5 * x, -7.9, 7.9)
    square = half * half
    return 0.5 + 0.5 * half * _polynomial(square, _TANH_NUMERATOR) / _polynomial(square, _TANH_DENOMINATOR)


@_sigmoid.vjp
def _sigmoid_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * (output * (1 - output))


def erf(x: mx.array) -> mx.array:
    """The error function."""
    return _in_parts(_erf, x)


@mx.custom_function
def _erf(x: mx.array) -> mx.array:
    x = mx.clip(x, -4, 4)
    square = x * x
    return x * _polynomial(square, ERF_NUMERATOR) / _polynomial(square, ERF_DENOMINATOR)


@_erf.vjp
def _erf_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * ((2 / math.sqrt(math.pi)) * mx.exp(-(x * x)))


# The minimax polynomial of 2^f on [-1/2, 1/2], within 2 units in the last place of float32.
_EXP2 = (
    1.339887440266574e-03,
    9.618437357674640e-03,
    5.550332471162809e-02,
    2.402264791363012e-01,
    6.931472028550421e-01,
    1.0,
)
# Added to a float32 it rounds it to a whole number, which then stands in the lowest bits.
_ROUND = 1.5 * 2.0**23


@mx.custom_function
def _exp2(x: mx.array) -> mx.array:
    """2^x for float32 x up to 127; below -126 it is that of -126, which is as good as zero."""
    x = mx.maximum(x, -126)
    rounded = x + _ROUND
    power = mx.view(_polynomial(x - (rounded - _ROUND), _EXP2), mx.int32)
    return mx.view(power + mx.left_shift(mx.view(rounded, mx.int32), 23), mx.float32)


@_exp2.vjp
def _exp2_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output * math.log(2)


# Scores computed together by `attention`: as many as the caches of a core hold, with what is made of them.
_SCORES_AT_ONCE = 2**19


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """Scaled dot-product attention of (N, L, D) over (N, S, D), float32, a few rows at a time."""

    def weigh(scores: mx.array) -> mx.array:
        return cast(mx.array, _exp2(scores - mx.stop_gradient(scores.max(-1, keepdims=True))))

    queries = queries * (scale * math.log2(math.e))
    return mx.concatenate(list(attended(queries, keys, values, _SCORES_AT_ONCE, weigh))).reshape(queries.shape)


def attended(
    queries: mx.array, keys: mx.array, values: mx.array, at_once: int, weigh: Callable[[mx.array], mx.array]
) -> Iterator[mx.array]:
    """Attention in parts (rows, D), one after the other; `weigh` makes weights of so many scores, of any sum.

    The sum that a softmax divides by comes out of the product with the values, as one more column of them.
    """
    N, L, D = queries.shape
    S = keys.shape[1]
    keys = keys.swapaxes(1, 2)
    values = mx.concatenate([values, mx.ones((N, S, 1), values.dtype)], axis=-1)
    rows, matrices = min(L, max(1, at_once // S)), max(1, at_once // (L * S))
    for n in range(0, N, matrices):
        for row in range(0, L, rows):
            scores = queries[n : n + matrices, row : row + rows] @ keys[n : n + matrices]
            part = weigh(scores) @ values[n : n + matrices]
            yield (part[..., :D] / part[..., D:]).reshape(-1, D)


def group_norm(x: mx.array, groups: int, weight: mx.array, bias: mx.array, eps: float) -> mx.array:
    """Group normalisation of (B, ..., C); a sum over positions is a matrix product with a row of ones."""
    shape, channels = x.shape, x.shape[-1]
    x = x.reshape(shape[0], -1, channels)
    ones = mx.full((1, x.shape[1]), 1 / (x.shape[1] * (channels // groups)), x.dtype)

    def per_channel_mean(values: mx.array) -> mx.array:
        totals = (ones @ values).reshape(shape[0], groups, -1).sum(-1, keepdims=True)
        return mx.broadcast_to(totals, (shape[0], groups, channels // groups)).reshape(shape[0], 1, channels)

    x = x - per_channel_mean(x)
    scale = mx.rsqrt(per_channel_mean(x * x) + eps) * weight
    return (x * scale + bias).reshape(shape)


# Pixels computed together by a thin convolution, by the sum of its two channel counts.
_PIXELS_AT_ONCE = ((80, 4), (320, 2))
# From this many channels on, zeros in a weight cost more than copies save.
_WIDE = 160


def conv2d(x: mx.array, weight: mx.array, stride: int, padding: int) -> mx.array:
    """The convolution (B, H, W, C) * (O, kh, kw, C), each shape by the quickest route."""
    if weight.shape[1:3] == (3, 3) and stride == 1 and padding == 1:
        for channels, pixels in _PIXELS_AT_ONCE:
            if weight.shape[0] + weight.shape[3] <= channels and x.shape[2] % pixels == 0:
                return _conv_thin(x, weight, pixels)
        if x.shape[0] * x.shape[1] * x.shape[2] < 9 * weight.shape[0]:
            return cast(mx.array, _conv_3x3(x, weight))
    return mx.conv2d(x, weight, stride=stride, padding=padding)


def _windows(x: mx.array, pixels: int) -> mx.array:
    """The 3 x (pixels + 2) windows of the padded picture, as rows of a matrix."""
    B, H, W, C = x.shape
    padded = mx.contiguous(mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]))
    row = (W + 2) * C
    shape, strides = (B, H, W // pixels, 3, (pixels + 2) * C), ((H + 2) * row, row, pixels * C, row, 1)
    return mx.contiguous(mx.as_strided(padded, shape, strides)).reshape(B * H * W // pixels, -1)


def _thin(x: mx.array, weight: mx.array, pixels: int) -> mx.array:
    O = weight.shape[0]
    shifted = [mx.pad(weight, [(0, 0), (0, 0), (p, pixels - 1 - p), (0, 0)]) for p in range(pixels)]
    y = _windows(x, pixels) @ mx.concatenate(shifted, axis=0).reshape(pixels * O, -1).T
    return y.reshape(*x.shape[:3], O)


def _conv_thin(x: mx.array, weight: mx.array, pixels: int) -> mx.array:
    """A 3x3 convolution with few channels: several neighbouring pixels are one row of a matrix product.

    A window of one pixel is too little work for a matrix product to be worth the copy. Up to twice the arithmetic,
    with a banded weight, makes half the copies and products four times as wide.
    """

    @mx.custom_function
    def conv(x: mx.array, weight: mx.array) -> mx.array:
        return _thin(x, weight, pixels)

    @conv.vjp
    def conv_vjp(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
    ) -> tuple[mx.array, mx.array]:
        x, weight = primals
        flipped = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
        banded = cotangent.reshape(-1, pixels * weight.shape[0]).T @ _windows(x, pixels)
        banded = banded.reshape(pixels, weight.shape[0], 3, pixels + 2, weight.shape[3])
        gradient = banded[0, :, :, :3]
        for p in range(1, pixels):
            gradient = gradient + banded[p, :, :, p : p + 3]
        return _thin(cotangent, flipped, pixels), gradient

    return cast(mx.array, conv(x, weight))


@mx.custom_function
def _conv_3x3(x: mx.array, weight: mx.array) -> mx.array:
    return mx.conv2d(x, weight, padding=1)


@_conv_3x3.vjp
def _conv_3x3_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    """MLX's own but for the gradient of `x`, for which MLX would turn the weight around and copy it.

    One product with the weight as it lies gives the gradients of all taps, which are added where they were taken from.
    """
    x, weight = primals
    B, H, W, C = x.shape
    taps = (cotangent.reshape(B * H * W, -1) @ weight.reshape(len(weight), -1)).reshape(B, H, W, 3, 3, C)
    padded = mx.zeros((B, H + 2, W + 2, C), taps.dtype)
    for i in range(3):
        for j in range(3):
            padded[:, i : i + H, j : j + W] += taps[:, :, :, i, j]
    _, gradients = mx.vjp(lambda weight: mx.conv2d(x, weight, padding=1), [weight], [cotangent])
    return padded[:, 1:-1, 1:-1], gradients[0]


def downsampled_conv2d(x: mx.array, weight: mx.array, padding: int) -> mx.array:
    """A 3x3 convolution of stride 2 (H and W even) as a 2x2 one of stride 1 over squares of four pixels."""
    if max(weight.shape[0], weight.shape[3]) >= _WIDE:
        return cast(mx.array, _wide_downsampled_conv2d(padding)(x, weight))
    return _squares_conv2d(x, weight, padding)


@cache
def _wide_downsampled_conv2d(padding: int) -> Any:
    """MLX's own convolution, whose gradient alone is slow; squares have the rearranged weight to pay for."""

    @mx.custom_function
    def conv(x: mx.array, weight: mx.array) -> mx.array:
        x = mx.pad(x, [(0, 0), (padding, 1), (padding, 1), (0, 0)])
        return mx.conv2d(x, weight, stride=2)

    @conv.vjp
    def conv_vjp(primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array) -> list[mx.array]:
        return mx.vjp(partial(_squares_conv2d, padding=padding), list(primals), [cotangent])[1]

    return conv


def _squares_conv2d(x: mx.array, weight: mx.array, padding: int) -> mx.array:
    O, C = weight.shape[0], weight.shape[3]
    x = mx.pad(x, [(0, 0), (padding, 2 - padding), (padding, 2 - padding), (0, 0)])
    B, H, W, _ = x.shape
    x = x.reshape(B, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, H // 2, W // 2, 4 * C)
    weight = mx.pad(weight, [(0, 0), (0, 1), (0, 1), (0, 0)]).reshape(O, 2, 2, 2, 2, C)
    return mx.conv2d(x, weight.transpose(0, 1, 3, 2, 4, 5).reshape(O, 2, 2, 4 * C))


def upsampled_conv2d(x: mx.array, weight: mx.array, convolve: Callable[..., mx.array] = conv2d) -> mx.array:
    """Nearest-neighbour doubling and a 3x3 convolution in one, computed at the low resolution.

    Doubled rows are equal in pairs, so each of the four pixels that a position becomes is a 2x2 convolution whose taps
    are sums of the 3x3 ones; the four together are one convolution with four times the channels.
    """
    B, H, W, C = x.shape
    O = weight.shape[0]
    if max(C, O) >= _WIDE:
        doubled = mx.broadcast_to(x[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)
        return convolve(doubled, weight, stride=1, padding=1)
    phases = []
    for rows in _halves(weight, axis=1):
        phases += _halves(rows, axis=2)
    y = convolve(x, mx.concatenate(phases, axis=0), stride=1, padding=1)
    return y.reshape(B, H, W, 2, 2, O).transpose(0, 1, 3, 2, 4, 5).reshape(B, 2 * H, 2 * W, O)


def _halves(weight: mx.array, axis: int) -> list[mx.array]:
    """What three taps on a doubled axis are on the axis itself, for the first and the second of a doubled pair."""
    first, middle, last = mx.split(weight, 3, axis=axis)
    zero = mx.zeros_like(first)
    return [mx.concatenate([first, middle + last, zero], axis), mx.concatenate([zero, first + middle, last], axis)]


def dequantize(packed: Sequence[mx.array], layout: Mapping[str, Any], dtype: mx.Dtype) -> mx.array:
    """A packed weight as the dense one: what divides a byte by vector operations, the rest by MLX's own, number by
    number."""
    weight, scales, *biases = packed
    if layout["mode"] != "affine" or layout["bits"] not in _SPREAD:
        return mx.dequantize(weight, scales, biases[0] if biases else None, **layout, dtype=dtype)
    numbers = _SPREAD[layout["bits"]](mx.view(weight, mx.uint8)).astype(mx.float32)
    grouped = numbers.reshape(*scales.shape, -1) * scales[..., None] + biases[0][..., None]
    return grouped.reshape(*scales.shape[:-1], -1).astype(dtype)


def _spread_pairs(packed: mx.array) -> mx.array:
    pairs = packed.astype(mx.uint16)
    return mx.view((pairs | pairs << 4) & 0x0F0F, mx.uint8)


def _spread_fours(packed: mx.array) -> mx.array:
    fours = packed.astype(mx.uint32)
    fours = (fours | fours << 12) & 0x000F000F
    return mx.view((fours | fours << 6) & 0x03030303, mx.uint8)


# By the bits of a number: bytes that hold one or several -> bytes of one each. Numbers lie lowest bits first.
_SPREAD = {2: _spread_fours, 4: _spread_pairs, 8: lambda packed: packed}
