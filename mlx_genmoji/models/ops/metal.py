"""What makes MLX's Metal backend fast: heads of the sizes that its fused attention knows, and memory that stays wired.
Nothing here has an effect on another device."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

# Channels of a head for which MLX computes attention in one kernel, without a matrix of scores in memory.
FUSED_HEADS = (64, 72, 80, 96, 128, 192, 256)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """Scaled dot-product attention of (B, heads, L, D) over (B, heads, S, D).

    Heads of a size between those that are fused (Stable Diffusion 1.5 has 40 and 160) are padded with zeros, which
    change no score and are cut off again.
    """
    D = queries.shape[-1]
    padding = next((fused - D for fused in FUSED_HEADS if fused >= D), 0)
    if padding:
        widths = [(0, 0)] * 3 + [(0, padding)]
        queries, keys, values = (mx.pad(x, widths) for x in (queries, keys, values))
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)[..., :D]


@contextmanager
def wired_memory() -> Iterator[None]:
    """Keep what is computed with in memory, as far as the system recommends; afterwards give back what is cached."""
    if not mx.metal.is_available():
        yield
        return
    recommended = int(mx.device_info()["max_recommended_working_set_size"])
    before = mx.set_wired_limit(recommended)
    try:
        yield
    finally:
        mx.synchronize()
        mx.set_wired_limit(before)
        mx.clear_cache()
