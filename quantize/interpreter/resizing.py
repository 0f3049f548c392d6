"""Images made larger or smaller, over the last two dimensions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .convolutions import bounded

Array = np.ndarray[Any, Any]


def upsample_nearest_neighbor(
    x: Array, scale_factor_height: Array | float = 1, scale_factor_width: Array | float = 1
) -> Array:
    """Output i is input floor(i / scale)."""
    for axis, scale in ((-2, float(scale_factor_height)), (-1, float(scale_factor_width))):
        x = _nearest(x, axis, _scaled(x, axis, scale), scale)
    return x


def resize_nearest_neighbor(x: Array, target_size_height: Array, target_size_width: Array) -> Array:
    """Output i is input floor(i * input size / target size)."""
    for axis, size in ((-2, int(target_size_height)), (-1, int(target_size_width))):
        x = _nearest(x, axis, size, size / x.shape[axis])
    return x


def upsample_bilinear(
    x: Array,
    scale_factor_height: Array | float = 1,
    scale_factor_width: Array | float = 1,
    align_corners: Array | bool = True,
    half_pixel_centers: Array | bool | None = None,
) -> Array:
    """half_pixel_centers: pixels are squares, sampled at their centres; the default where corners do not align."""
    centred = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if centred else "DEFAULT"
    for axis, scale in ((-2, float(scale_factor_height)), (-1, float(scale_factor_width))):
        x = _linear(x, axis, _scaled(x, axis, scale), mode)
    return x


def resize_bilinear(
    x: Array,
    target_size_height: Array | int = 1,
    target_size_width: Array | int = 1,
    sampling_mode: Array | str = "DEFAULT",
) -> Array:
    for axis, size in ((-2, int(target_size_height)), (-1, int(target_size_width))):
        x = _linear(x, axis, size, str(sampling_mode))
    return x


def _scaled(x: Array, axis: int, scale: float) -> int:
    # A float32 factor may be short of a whole number by its rounding.
    return int(np.floor(np.float32(x.shape[axis]) * np.float32(scale)))


def _resized(x: Array, axis: int, size: int) -> list[int]:
    shape = list(x.shape)
    shape[axis] = size
    return shape


def _nearest(x: Array, axis: int, size: int, scale: float) -> Array:
    bounded(_resized(x, axis, size))
    whole = round(scale)
    if whole == scale and whole * x.shape[axis] == size:
        return np.repeat(x, whole, axis)
    return np.take(x, np.minimum((np.arange(size) / scale).astype(np.intp), x.shape[axis] - 1), axis)


def _linear(x: Array, axis: int, size: int, mode: str) -> Array:
    """Each output a mean of the two inputs beside its place, which `mode` says (coremltools' `resize_bilinear`)."""
    bounded(_resized(x, axis, size))
    before = x.shape[axis]
    steps = np.arange(size, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        lonely = (before - 1) / 2 if mode == "ALIGN_CORNERS" else 0
        places = steps * (before - 1) / (size - 1) if size > 1 else np.full(size, lonely)
    elif mode == "DEFAULT":
        places = steps * before / size
    elif mode == "UNALIGN_CORNERS":
        places = (steps + 0.5) * before / size - 0.5
    elif mode == "OFFSET_CORNERS":
        places = (steps + 0.5) * max(1, before - 1) / size
    else:
        raise ValueError(f"sampling mode {mode} is unknown")
    places = np.clip(places, 0, before - 1)
    low = places.astype(np.intp)
    part = (places - low).astype(np.float32).reshape(-1, *[1] * (-axis - 1))
    return np.take(x, low, axis) * (1 - part) + np.take(x, np.minimum(low + 1, before - 1), axis) * part


OPS: dict[str, Callable[..., Any]] = {
    "resize_bilinear": resize_bilinear,
    "resize_nearest_neighbor": resize_nearest_neighbor,
    "upsample_bilinear": upsample_bilinear,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
