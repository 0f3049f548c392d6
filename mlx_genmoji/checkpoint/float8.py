"""float8, in the two forms that checkpoints have: to float16, which holds each of its numbers exactly."""

from __future__ import annotations

import mlx.core as mx


def from_float8(bits: mx.array, dtype: str) -> mx.array:
    """The numbers of float8 bits (uint8) as float16, exact. dtype: "float8_e4m3fn" or "float8_e5m2"."""
    if dtype == "float8_e4m3fn":
        return mx.from_fp8(bits, mx.float16)
    # Its sign, its five bits of exponent and two of mantissa are the upper byte of a float16.
    return (bits.astype(mx.uint16) << 8).view(mx.float16)
