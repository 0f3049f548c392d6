"""Float32 kernels for MLX's CPU backend, built from its fast operations; differentiable. No GPU uses them.

MLX 0.32's CPU backend computes `exp`, `tanh` and `erf` at 30 to 80 million elements a second, reduces short axes
slowly, copies the windows of a convolution with few channels pixel by pixel, and differentiates a strided convolution
in a naive loop. These kernels use multiplications, matrix products and block copies instead: the results are equal to
within float32 rounding, 4 to 10 times faster (measured on an AMD EPYC; see LOG.md). `cpu_eager` is faster still where
nothing is differentiated.
"""

import math
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, cast

import mlx.core as mx

# Elements that an elementwise formula takes at a time, 1 MiB in float32, so that its intermediate results stay in a
# core's cache: each step of a formula reads and writes all of them.
CHUNK = 2**18


def _chunk_ends(x: mx.array) -> list[int]:
    return list(range(CHUNK, x.size, CHUNK))


# Minimax rational approximation of tanh on [-7.9, 7.9], odd over even, in powers of x^2, highest first. The constants
# are those of Eigen and XLA; the largest error is 2 units in the last place of float32.
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
    """1 / (1 + exp(-x)), of any shape and floating dtype."""
    results = []
    for chunk in mx.split(x.astype(mx.float32).reshape(-1), _chunk_ends(x)):
        results.append(cast(mx.array, _sigmoid(chunk)))
    return mx.concatenate(results).reshape(x.shape).astype(x.dtype)


@mx.custom_function
def _sigmoid(x: mx.array) -> mx.array:
    half = mx.clip(0.5 * x, -7.9, 7.9)
    square = half * half
    # Polynomials are evaluated in place, by Horner's rule: a helper would be one more frame in every error's traceback.
    numerator, denominator = square * _TANH_NUMERATOR[0], square * _TANH_DENOMINATOR[0]
    for coefficient in _TANH_NUMERATOR[1:-1]:
        numerator = (numerator + coefficient) * square
    for coefficient in _TANH_DENOMINATOR[1:-1]:
        denominator = (denominator + coefficient) * square
    return 0.5 + 0.5 * half * (numerator + _TANH_NUMERATOR[-1]) / (denominator + _TANH_DENOMINATOR[-1])


@_sigmoid.vjp
def _sigmoid_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * (output * (1 - output))


def erf(x: mx.array) -> mx.array:
    """The error function, of any shape and floating dtype."""
    results = []
    for chunk in mx.split(x.astype(mx.float32).reshape(-1), _chunk_ends(x)):
        results.append(cast(mx.array, _erf(chunk)))
    return mx.concatenate(results).reshape(x.shape).astype(x.dtype)


@mx.custom_function
def _erf(x: mx.array) -> mx.array:
    x = mx.clip(x, -4, 4)
    square = x * x
    numerator, denominator = square * ERF_NUMERATOR[0], square * ERF_DENOMINATOR[0]
    for coefficient in ERF_NUMERATOR[1:-1]:
        numerator = (numerator + coefficient) * square
    for coefficient in ERF_DENOMINATOR[1:-1]:
        denominator = (denominator + coefficient) * square
    return x * (numerator + ERF_NUMERATOR[-1]) / (denominator + ERF_DENOMINATOR[-1])


@_erf.vjp
def _erf_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * ((2 / math.sqrt(math.pi)) * mx.exp(-(x * x)))


# The minimax polynomial of 2^f on [-1/2, 1/2], highest power first, within 2 units in the last place of float32.
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
    """2^x for float32 x up to 127. Below -126 it is 2^-126, near enough to zero for a softmax."""
    x = mx.maximum(x, -126)
    rounded = x + _ROUND
    fraction = x - (rounded - _ROUND)
    power = fraction * _EXP2[0]
    for coefficient in _EXP2[1:-1]:
        power = (power + coefficient) * fraction
    # The whole part of x is added to the exponent bits.
    bits = mx.view(power + _EXP2[-1], mx.int32) + mx.left_shift(mx.view(rounded, mx.int32), 23)
    return mx.view(bits, mx.float32)


@_exp2.vjp
def _exp2_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output * math.log(2)


# Attention scores computed at a time, 2 MiB in float32: a core's caches hold them and what is made of them.
SCORES_CHUNK = 2**19


def attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """Scaled dot-product attention of (N, L, D) over (N, S, D), float32, in chunks of SCORES_CHUNK scores."""
    means = []
    for scores, chunk_values in score_chunks(queries * (scale * math.log2(math.e)), keys, values, SCORES_CHUNK):
        weights = _exp2(scores - mx.stop_gradient(scores.max(-1, keepdims=True)))
        means.append(weighted_mean(cast(mx.array, weights), chunk_values))
    return mx.concatenate(means).reshape(queries.shape)


def score_chunks(
    queries: mx.array, keys: mx.array, values: mx.array, chunk: int
) -> Iterator[tuple[mx.array, mx.array]]:
    """The scores of attention, about `chunk` at a time, each with the values that `weighted_mean` takes for them.

    queries: (N, L, D), scaled; keys, values: (N, S, D). Yields scores (n, l, S) and values (n, S, D + 1).
    """
    N, L, _ = queries.shape
    S = keys.shape[1]
    keys = keys.swapaxes(1, 2)
    # The sum that a softmax divides by comes out of the product with the values, as one more column of them.
    values = mx.concatenate([values, mx.ones((N, S, 1), values.dtype)], axis=-1)
    rows, matrices = min(L, max(1, chunk // S)), max(1, chunk // (L * S))
    for n in range(0, N, matrices):
        for row in range(0, L, rows):
            scores = queries[n : n + matrices, row : row + rows] @ keys[n : n + matrices]
            yield scores, values[n : n + matrices]


def weighted_mean(weights: mx.array, values: mx.array) -> mx.array:
    """Means of `score_chunks`' values by weights (n, l, S) of any sum: (n * l, D)."""
    sums = weights @ values
    return (sums[..., :-1] / sums[..., -1:]).reshape(-1, values.shape[-1] - 1)


def group_norm(x: mx.array, groups: int, weight: mx.array, bias: mx.array, eps: float) -> mx.array:
    """Group normalisation of (B, ..., C), computed in float32; a sum over positions is a product with a row of ones."""
    B, *positions, C = x.shape
    values = x.astype(mx.float32).reshape(B, math.prod(positions), C)
    ones = mx.full((1, values.shape[1]), 1 / (values.shape[1] * (C // groups)), mx.float32)

    def per_channel_mean(values: mx.array) -> mx.array:
        totals = (ones @ values).reshape(B, groups, C // groups).sum(-1, keepdims=True)
        return mx.broadcast_to(totals, (B, groups, C // groups)).reshape(B, 1, C)

    values = values - per_channel_mean(values)
    scale = mx.rsqrt(per_channel_mean(values * values) + eps) * weight
    return (values * scale + bias).reshape(x.shape).astype(x.dtype)


# How many neighbouring pixels a convolution with few channels computes in one row of a matrix product, by the sum of
# its input and output channels. Measured on an AMD EPYC (LOG.md): with more channels, copies cost less than zeros.
_PIXELS_PER_ROW = ((80, 4), (320, 2))
# From this many channels on, the zeros in a rearranged weight cost more than the copies it saves (measured likewise).
WIDE = 160


def conv2d(x: mx.array, weight: mx.array, stride: int, padding: int) -> mx.array:
    """The convolution of (B, H, W, C) with (O, kh, kw, C), by the kernel that is fastest for the shape."""
    if weight.shape[1:3] == (3, 3) and stride == 1 and padding == 1:
        if pixels := pixels_per_row(x, weight):
            return cast(mx.array, _thin_conv2d(pixels)(x, weight))
        if x.shape[0] * x.shape[1] * x.shape[2] < 9 * weight.shape[0]:
            return cast(mx.array, _conv_3x3(x, weight))
    return mx.conv2d(x, weight, stride=stride, padding=padding)


def pixels_per_row(x: mx.array, weight: mx.array) -> int:
    """The neighbouring pixels that `windows` takes together for a padded 3x3 convolution; 0 where another is faster."""
    for channels, pixels in _PIXELS_PER_ROW:
        if weight.shape[0] + weight.shape[3] <= channels and x.shape[2] % pixels == 0:
            return pixels
    return 0


def windows(x: mx.array, pixels: int) -> mx.array:
    """The 3 x (pixels + 2) windows of the padded picture (B, H, W, C), as rows of a matrix."""
    B, H, W, C = x.shape
    padded = mx.contiguous(mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]))
    row = (W + 2) * C
    shape, strides = (B, H, W // pixels, 3, (pixels + 2) * C), ((H + 2) * row, row, pixels * C, row, 1)
    return mx.contiguous(mx.as_strided(padded, shape, strides)).reshape(B * H * W // pixels, 3 * (pixels + 2) * C)


def banded_product(rows: mx.array, weight: mx.array, pixels: int) -> mx.array:
    """`windows` of `pixels` neighbours times a banded weight, whose rows are shifted copies: a padded 3x3 convolution.

    Returns (B * H * W / pixels, pixels * O).
    """
    O = weight.shape[0]
    shifted = []
    for p in range(pixels):
        shifted.append(mx.pad(weight, [(0, 0), (0, 0), (p, pixels - 1 - p), (0, 0)]))
    return rows @ mx.concatenate(shifted, axis=0).reshape(pixels * O, -1).T


@cache
def _thin_conv2d(pixels: int) -> Any:
    """A padded 3x3 convolution with few channels: several neighbouring pixels are one row of a matrix product.

    A window of one pixel is too little work for a matrix product to be worth the copy. Up to twice the arithmetic,
    with a banded weight, makes half the copies and products four times as wide.
    """

    def convolve(x: mx.array, weight: mx.array) -> mx.array:
        return banded_product(windows(x, pixels), weight, pixels).reshape(*x.shape[:3], weight.shape[0])

    conv = mx.custom_function(convolve)

    @conv.vjp
    def conv_vjp(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
    ) -> tuple[mx.array, mx.array]:
        x, weight = primals
        flipped = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
        banded = cotangent.reshape(-1, pixels * weight.shape[0]).T @ windows(x, pixels)
        banded = banded.reshape(pixels, weight.shape[0], 3, pixels + 2, weight.shape[3])
        gradient = banded[0, :, :, :3]
        for p in range(1, pixels):
            gradient = gradient + banded[p, :, :, p : p + 3]
        return convolve(cotangent, flipped), gradient

    return conv


@mx.custom_function
def _conv_3x3(x: mx.array, weight: mx.array) -> mx.array:
    return mx.conv2d(x, weight, padding=1)


@_conv_3x3.vjp
def _conv_3x3_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    """MLX's gradients, but for that of `x`, for which MLX would flip and copy the weight.

    One product with the unflipped weight gives the gradients of all nine taps, each added where its pixels came from.
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
    if max(weight.shape[0], weight.shape[3]) >= WIDE:
        return cast(mx.array, _wide_downsampled_conv2d(padding)(x, weight))
    return _squares_conv2d(x, weight, padding)


@cache
def _wide_downsampled_conv2d(padding: int) -> Any:
    """MLX's convolution with the gradient of `_squares_conv2d`: only MLX's gradient is slow with many channels."""

    @mx.custom_function
    def conv(x: mx.array, weight: mx.array) -> mx.array:
        x = mx.pad(x, [(0, 0), (padding, 1), (padding, 1), (0, 0)])
        return mx.conv2d(x, weight, stride=2)

    @conv.vjp
    def conv_vjp(primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array) -> list[mx.array]:
        return mx.vjp(partial(_squares_conv2d, padding=padding), list(primals), [cotangent])[1]

    return conv


def _squares_conv2d(x: mx.array, weight: mx.array, padding: int) -> mx.array:
    """A 3x3 convolution of stride 2 as a 2x2 one of stride 1: squares of 2x2 pixels become channels."""
    O, C = weight.shape[0], weight.shape[3]
    x = mx.pad(x, [(0, 0), (padding, 2 - padding), (padding, 2 - padding), (0, 0)])
    B, H, W, _ = x.shape
    x = x.reshape(B, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, H // 2, W // 2, 4 * C)
    weight = mx.pad(weight, [(0, 0), (0, 1), (0, 1), (0, 0)]).reshape(O, 2, 2, 2, 2, C)
    return mx.conv2d(x, weight.transpose(0, 1, 3, 2, 4, 5).reshape(O, 2, 2, 4 * C))


# Nearest-neighbour doubling and a 3x3 convolution in one, at the low resolution: doubled rows are equal in pairs, so
# each of the four pixels that a position becomes is a convolution whose taps are sums of the original ones; the four
# together, its phases, are one convolution with four times the channels.
def phase_weights(weight: mx.array) -> mx.array:
    """The weight (O, 3, 3, C) of a convolution after doubling -> (4 * O, 3, 3, C), of one that computes all phases."""
    phases = []
    for rows in _halves(weight, axis=1):
        phases += _halves(rows, axis=2)
    return mx.concatenate(phases, axis=0)


def interleaved_phases(y: mx.array) -> mx.array:
    """The result of a convolution with `phase_weights`, (B, H, W, 4 * O) -> (B, 2H, 2W, O)."""
    B, H, W, channels = y.shape
    O = channels // 4
    return y.reshape(B, H, W, 2, 2, O).transpose(0, 1, 3, 2, 4, 5).reshape(B, 2 * H, 2 * W, O)


def _halves(weight: mx.array, axis: int) -> list[mx.array]:
    """Three taps on a doubled axis as taps on the axis itself, for the first and the second pixel of a doubled pair."""
    first, middle, last = mx.split(weight, 3, axis=axis)
    zero = mx.zeros_like(first)
    return [mx.concatenate([first, middle + last, zero], axis), mx.concatenate([zero, first + middle, last], axis)]
