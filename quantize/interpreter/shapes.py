"""Ops that move, join, repeat and make elements."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .convolutions import bounded
from .reductions import axes_of

Array = np.ndarray[Any, Any]


def reshape(x: Array, shape: Array) -> Array:
    """A size of 0 is x's own, -1 what is left."""
    return x.reshape(
        [x.shape[axis] if size == 0 and x.size else int(size) for axis, size in enumerate(np.ravel(shape))]
    )


def transpose(x: Array, perm: Array) -> Array:
    return x.transpose([int(axis) for axis in perm])


def expand_dims(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(axis) for axis in np.ravel(axes)))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, axes_of(axes))


def flatten2d(x: Array, axis: Array | int = 1) -> Array:
    return x.reshape(int(np.prod(x.shape[: int(axis)])), -1)


def concat(values: list[Array], axis: Array, interleave: Array | bool = False) -> Array:
    """interleave: the first of each value, then the second of each."""
    if not interleave:
        return np.concatenate(values, axis=int(axis))
    place, shape = int(axis) % values[0].ndim, values[0].shape
    return np.stack(values, axis=place + 1).reshape(*shape[:place], -1, *shape[place + 1 :])


def stack(values: list[Array], axis: Array) -> Array:
    return np.stack(values, axis=int(axis))


def split(
    x: Array, axis: Array, num_splits: Array | int | None = None, split_sizes: Array | None = None
) -> tuple[Array, ...]:
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits or 0), axis=int(axis)))
    ends = np.cumsum(split_sizes)
    if ends[-1] != x.shape[int(axis)]:
        raise ValueError(f"parts of {split_sizes} do not make up {x.shape[int(axis)]}")
    return tuple(np.split(x, ends[:-1], axis=int(axis)))


def reverse(x: Array, axes: Array | None = None) -> Array:
    return np.flip(x, axes_of(axes))


def tile(x: Array, reps: Array) -> Array:
    times = [int(count) for count in np.ravel(reps)]
    bounded([size * count for size, count in zip(x.shape, times, strict=True)])
    return np.tile(x, times)


def pad(x: Array, pad: Array, mode: Array | str = "constant", constant_val: Array | float = 0.0) -> Array:
    """pad: before and after each of the last dimensions."""
    pairs = [(int(before), int(after)) for before, after in np.reshape(pad, (-1, 2))]
    around = [*[(0, 0)] * (x.ndim - len(pairs)), *pairs]
    bounded([size + before + after for size, (before, after) in zip(x.shape, around, strict=True)])
    if mode == "constant":
        return np.pad(x, around, constant_values=constant_val)
    if mode == "reflect":
        return np.pad(x, around, mode="reflect")
    if mode == "replicate":
        return np.pad(x, around, mode="edge")
    raise ValueError(f"mode {mode} is unknown")


def fill(shape: Array, value: Array | float = 0.0) -> Array:
    sizes = [int(size) for size in np.ravel(shape)]
    return np.full(bounded(sizes), value)


def fill_like(ref_tensor: Array, value: Array | float = 0.0) -> Array:
    return np.full(ref_tensor.shape, value)


def range_1d(end: Array, start: Array, step: Array) -> Array:
    bounded([int(np.ceil(np.float64(end - start) / step))])
    return np.arange(start.item(), end.item(), step.item())


def shape(x: Array) -> Array:
    return np.array(x.shape, np.int32)


def band_part(x: Array, lower: Array | int = -1, upper: Array | int = -1) -> Array:
    """The diagonal of the last two dimensions, and as many diagonals beside it; -1 is all."""
    offset = np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]
    kept = (offset >= -int(lower)) | (lower < 0)
    return x * (kept & ((offset <= int(upper)) | (upper < 0)))


def pixel_shuffle(x: Array, upscale_factor: Array) -> Array:
    """(B, C f f, H, W) -> (B, C, H f, W f)."""
    B, _, H, W = x.shape
    f = int(upscale_factor)
    return x.reshape(B, -1, f, f, H, W).transpose(0, 1, 4, 2, 5, 3).reshape(B, -1, H * f, W * f)


def pixel_unshuffle(x: Array, downscale_factor: Array) -> Array:
    """(B, C, H f, W f) -> (B, C f f, H, W)."""
    B, C, H, W = x.shape
    f = int(downscale_factor)
    return x.reshape(B, C, H // f, f, W // f, f).transpose(0, 1, 3, 5, 2, 4).reshape(B, -1, H // f, W // f)


def depth_to_space(x: Array, block_size: Array) -> Array:
    """(B, b b C, H, W) -> (B, C, H b, W b), the block's places before the channels, as in TensorFlow."""
    B, _, H, W = x.shape
    b = int(block_size)
    return x.reshape(B, b, b, -1, H, W).transpose(0, 3, 4, 1, 5, 2).reshape(B, -1, H * b, W * b)


def space_to_depth(x: Array, block_size: Array) -> Array:
    """(B, C, H b, W b) -> (B, b b C, H, W)."""
    B, C, H, W = x.shape
    b = int(block_size)
    return x.reshape(B, C, H // b, b, W // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(B, -1, H // b, W // b)


OPS: dict[str, Callable[..., Any]] = {
    "band_part": band_part,
    "concat": concat,
    "depth_to_space": depth_to_space,
    "expand_dims": expand_dims,
    "fill": fill,
    "fill_like": fill_like,
    "flatten2d": flatten2d,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "range_1d": range_1d,
    "reshape": reshape,
    "reverse": reverse,
    "shape": shape,
    "space_to_depth": space_to_depth,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
