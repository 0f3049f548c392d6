"""Convolutions and pools: windows of the padded input, then one matrix product, or one sum, maximum or mean.

x: (B, C, *D) with one to three spatial dimensions D. `pad_type` is valid, custom (`pad`: before and after each
dimension), same (as many outputs as D / stride, the odd one padded after) or same_lower (the odd one before).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Of the windows that are laid out at once for a product.
WINDOW_BYTES = 64 * 2**20


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: Array | str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Array | int = 1,
) -> Array:
    """weight: (O, C / groups, *K), bias: (O,) -> (B, O, *D')."""
    kernel = weight.shape[2:]
    steps, spread = _each(strides, kernel), _each(dilations, kernel)
    covered = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, spread, strict=True)]
    padded = _pad(x, _padding(x.shape[2:], covered, steps, str(pad_type), pad))
    if weight.shape[1] * int(groups) != x.shape[1]:
        raise ValueError(f"weight {weight.shape} in {groups} groups does not fit {x.shape[1]} channels")
    return _correlate(padded, weight, bias, steps, spread, int(groups))


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: Array | str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: Array | int = 1,
) -> Array:
    """weight: (C, O / groups, *K): a convolution with the kernel turned about, of x with zeros between its elements."""
    kernel, groups = weight.shape[2:], int(groups)
    steps, spread = _each(strides, kernel), _each(dilations, kernel)
    covered = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, spread, strict=True)]
    spaced_shape = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], steps, strict=True)]
    spaced = np.zeros((*x.shape[:2], *bounded(spaced_shape)), np.float32)
    spaced[_last(slice(None, None, step) for step in steps)] = x

    cropped = [(0, 0)] * len(kernel)
    if str(pad_type) == "custom" and pad is not None:
        cropped = _pairs(pad)
    elif str(pad_type).startswith("same"):
        # A stride wider than the kernel crops less than nothing: it leaves zeros at the end.
        surplus = [size - step for size, step in zip(covered, steps, strict=True)]
        cropped = [(max(size, 0) // 2, size - max(size, 0) // 2) for size in surplus]
    if output_shape is not None:
        sizes = [size + reach - 1 for size, reach in zip(spaced_shape, covered, strict=True)]
        wanted = [int(size) for size in np.ravel(output_shape)[2:]]
        cropped = [
            (before, size - before - target) for (before, _), size, target in zip(cropped, sizes, wanted, strict=True)
        ]
    around = [(reach - 1 - before, reach - 1 - after) for reach, (before, after) in zip(covered, cropped, strict=True)]
    turned = np.flip(weight, tuple(range(2, weight.ndim)))
    turned = turned.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(-1, len(weight) // groups, *kernel)
    return _correlate(_pad(spaced, around), turned, bias, [1] * len(kernel), spread, groups)


def bounded(shape: Sequence[int]) -> Sequence[int]:
    """`shape`, unless an array of it were larger than any that a diffusion model has: then the package is wrong."""
    if any(size < 0 for size in shape) or np.prod(np.array(shape, dtype=np.float64)) > 2**31:
        raise ValueError(f"a result of shape {tuple(shape)} is out of bounds")
    return shape


def _correlate(
    padded: Array, weight: Array, bias: Array | None, steps: list[int], spread: list[int], groups: int
) -> Array:
    """The windows of a few rows at a time, each column of a matrix, times the weights of each group."""
    batch, channels = padded.shape[:2]
    out_channels, kernel = len(weight), weight.shape[2:]
    windows = _windows(padded, kernel, steps, spread)
    sizes = windows.shape[2 : 2 + len(kernel)]
    matrix = weight.reshape(groups, out_channels // groups, -1)
    out = np.empty((batch, groups, out_channels // groups, *sizes), np.float32)
    # (B, C, *D', *K) -> (B, C, *K, *D'), so that rows of an image are copied whole.
    order = (0, 1, *range(2 + len(kernel), windows.ndim), *range(2, 2 + len(kernel)))
    windows = windows.transpose(order)
    row_bytes = 4 * channels * int(np.prod(kernel)) * int(np.prod(sizes[1:]))
    rows = max(1, WINDOW_BYTES // max(row_bytes, 1))
    for image in range(batch):
        for start in range(0, sizes[0], rows):
            part = (..., slice(start, start + rows), *[slice(None)] * (len(kernel) - 1))
            columns = windows[image][part]
            product = matrix @ columns.reshape(groups, matrix.shape[2], -1)
            out[image][part] = product.reshape(*matrix.shape[:2], -1, *sizes[1:])
    out = out.reshape(batch, out_channels, *sizes)
    if bias is not None:
        out += bias.reshape(-1, *[1] * len(kernel))
    return out


def _windows(padded: Array, kernel: Sequence[int], steps: list[int], spread: list[int]) -> Array:
    """(B, C, *D) -> (B, C, *D', *K), a view."""
    covered = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, spread, strict=True)]
    axes = tuple(range(2, padded.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, covered, axis=axes)
    every = (*(slice(None, None, step) for step in steps), *(slice(None, None, dilation) for dilation in spread))
    return windows[(slice(None), slice(None), *every)]


def _last(slices: Iterable[slice]) -> tuple[Any, ...]:
    """The index of `slices` of the last dimensions."""
    return (..., *slices)


def _each(values: Array | None, kernel: Sequence[int]) -> list[int]:
    """One number for each spatial dimension, ones by default."""
    numbers = [1] * len(kernel) if values is None else [int(value) for value in np.ravel(values)]
    if len(numbers) != len(kernel) or min(numbers) < 1:
        raise ValueError(f"{numbers} does not fit a kernel of {len(kernel)} dimensions")
    return numbers


def _pairs(pad: Array) -> list[tuple[int, int]]:
    return [(int(before), int(after)) for before, after in np.reshape(pad, (-1, 2))]


def _padding(
    sizes: Sequence[int], covered: list[int], steps: list[int], pad_type: str, pad: Array | None
) -> list[tuple[int, int]]:
    if pad_type == "valid":
        return [(0, 0)] * len(covered)
    if pad_type == "custom":
        return [(0, 0)] * len(covered) if pad is None else _pairs(pad)
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type} is unknown")
    totals = [
        max(0, -(-size // step) * step - size + reach - step)
        for size, reach, step in zip(sizes, covered, steps, strict=True)
    ]
    small = [(total // 2, total - total // 2) for total in totals]
    return [(after, before) for before, after in small] if pad_type == "same_lower" else small


def _pad(x: Array, around: list[tuple[int, int]], value: float = 0) -> Array:
    """Zeros, or `value`, around the spatial dimensions; a negative number crops."""
    if not any(any(pair) for pair in around):
        return x
    bounded([size + before + after for size, (before, after) in zip(x.shape[2:], around, strict=True)])
    ends = [(max(-before, 0), size - max(-after, 0)) for size, (before, after) in zip(x.shape[2:], around, strict=True)]
    x = x[_last(slice(start, end) for start, end in ends)]
    grown = [(max(before, 0), max(after, 0)) for before, after in around]
    return np.pad(x, [(0, 0), (0, 0), *grown], constant_values=value)


def _pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None,
    pad_type: Array | str,
    pad: Array | None,
    ceil_mode: Array | bool,
    outside: float,
) -> tuple[Array, list[tuple[int, int]], list[tuple[int, int]]]:
    """The windows (B, C, *D', *K), how x was padded for them, and by how much more for a last, incomplete one."""
    kernel = [int(size) for size in np.ravel(kernel_sizes)]
    steps = _each(strides, kernel)
    around = _padding(x.shape[2:], kernel, steps, str(pad_type), pad)
    more = [(0, 0)] * len(kernel)
    if ceil_mode:
        for axis, (size, (before, after)) in enumerate(zip(x.shape[2:], around, strict=True)):
            count = -(-(size + before + after - kernel[axis]) // steps[axis]) + 1
            if (count - 1) * steps[axis] >= size + before and before + after > 0:
                count -= 1
            more[axis] = (0, max(0, (count - 1) * steps[axis] + kernel[axis] - size - before - after))
    padded = _pad(_pad(x, around, outside), more, outside)
    return _windows(padded, kernel, steps, [1] * len(kernel)), around, more


def _spatial(windows: Array) -> tuple[int, ...]:
    return tuple(range(-(windows.ndim - 2) // 2, 0))


def max_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: Array | str = "valid",
    pad: Array | None = None,
    ceil_mode: Array | bool = False,
) -> Array:
    windows, _, _ = _pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, -np.inf)
    return windows.max(axis=_spatial(windows))


def l2_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: Array | str = "valid",
    pad: Array | None = None,
    ceil_mode: Array | bool = False,
) -> Array:
    windows, _, _ = _pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, 0)
    return np.sqrt(np.square(windows).sum(axis=_spatial(windows)))


def avg_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: Array | str = "valid",
    pad: Array | None = None,
    exclude_padding_from_average: Array | bool = False,
    ceil_mode: Array | bool = False,
) -> Array:
    windows, around, more = _pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, 0)
    inside = np.ones((1, 1, *x.shape[2:]), np.float32)
    inside = _pad(_pad(inside, around, 0 if exclude_padding_from_average else 1), more, 0)
    kernel = [int(size) for size in np.ravel(kernel_sizes)]
    counted = _windows(inside, kernel, _each(strides, kernel), [1] * len(kernel))
    return windows.sum(axis=_spatial(windows)) / counted.sum(axis=_spatial(counted))


OPS: dict[str, Callable[..., Any]] = {
    "avg_pool": avg_pool,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "l2_pool": l2_pool,
    "max_pool": max_pool,
}
