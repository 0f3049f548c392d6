"""Convolutions: the windows of the padded input laid out as columns, then one matrix product."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .shapes import bounded

Array = np.ndarray[Any, Any]

# The largest matrix of windows that is laid out at once.
MAX_WINDOW_BYTES = 64 * 2**20


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
    """x: (B, C, H, W), weight: (O, C, kh, kw), bias: (O,) -> (B, O, H', W').

    pad_type: `valid` for no padding, `custom` for the zeros of `pad`: above, below, left, right.
    """
    if x.ndim != 4 or int(groups) != 1 or (dilations is not None and (np.ravel(dilations) != 1).any()):
        raise ValueError("a convolution with groups, dilations or other than two dimensions is not supported")
    if str(pad_type) not in ("valid", "custom"):
        raise ValueError(f"pad_type {pad_type} is not supported")
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"weight {weight.shape} does not fit {x.shape[1]} channels")
    steps = [1, 1] if strides is None else [int(step) for step in np.ravel(strides)]
    if len(steps) != 2 or min(steps) < 1:
        raise ValueError(f"strides {steps} do not fit two dimensions")
    if str(pad_type) == "custom" and pad is not None:
        above, below, left, right = (int(size) for size in np.ravel(pad))
        bounded([x.shape[2] + above + below, x.shape[3] + left + right])
        x = np.pad(x, [(0, 0), (0, 0), (above, below), (left, right)])
    out = _correlate(x, weight, steps)
    if bias is not None:
        out += bias.reshape(-1, 1, 1)
    return out


def _correlate(padded: Array, weight: Array, steps: Sequence[int]) -> Array:
    """The convolution without padding: a few rows of the output at a time, each of its pixels a column of a matrix."""
    O, C, kh, kw = weight.shape
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(2, 3))
    # (B, C, H', W', kh, kw) -> (B, C, kh, kw, H', W'), so that rows of an image are copied whole.
    windows = windows[:, :, :: steps[0], :: steps[1]].transpose(0, 1, 4, 5, 2, 3)
    B, height, width = len(padded), *windows.shape[4:]
    matrix = weight.reshape(O, -1)
    out = np.empty((B, O, height, width), np.float32)
    rows = max(1, MAX_WINDOW_BYTES // max(4 * C * kh * kw * width, 1))
    for image in range(B):
        for start in range(0, height, rows):
            columns = windows[image, ..., start : start + rows, :]
            out[image, :, start : start + rows] = (matrix @ columns.reshape(C * kh * kw, -1)).reshape(O, -1, width)
    return out


OPS: dict[str, Callable[..., Any]] = {"conv": conv}
