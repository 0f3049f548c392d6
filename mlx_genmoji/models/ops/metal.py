"""Helpers for MLX's Metal backend: head sizes of its fused attention, and memory that stays wired during a run.

Both are for that device alone: `ops` asks for the device.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

# Channels of a head for which MLX computes attention in one kernel, without a matrix of scores in memory
# (`sdpa_full_supported_head_dim` in mlx/backend/metal/scaled_dot_product_attention.cpp). MLX 0.32 has kernels for 192
# and 256 too, but takes the unfused path for more than 8 queries there, since that is faster.
FUSED_HEADS = (64, 72, 80, 96, 128)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """Scaled dot-product attention of (B, heads, L, D) over (B, heads, S, D), for inference.

    Heads smaller than a fused size (Stable Diffusion 1.5 has 40) are padded with zeros up to it, which change no score
    and are cut off again. Larger ones than all fused sizes (160) are left to MLX's unfused path.
    """
    D = queries.shape[-1]
    padding = next((fused - D for fused in FUSED_HEADS if fused >= D), 0)
    if padding:
        widths = [(0, 0)] * 3 + [(0, padding)]
        queries, keys, values = (mx.pad(x, widths) for x in (queries, keys, values))
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)[..., :D]


@contextmanager
def wired_memory() -> Iterator[None]:
    """Keep MLX's arrays in a Mac's memory, up to what the system recommends; afterwards release what MLX has cached.

    Only where MLX computes on Metal: `ops.drawing` checks that, for on a Mac's CPU nothing shall be wired.
    """
    recommended = int(mx.device_info(mx.Device(mx.gpu))["max_recommended_working_set_size"])
    before = mx.set_wired_limit(recommended)
    try:
        yield
    finally:
        mx.synchronize()
        mx.set_wired_limit(before)
        mx.clear_cache()
