"""From decoded pixels to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from PIL import Image

from ..errors import UserError

if TYPE_CHECKING:
    from ..combinations.combination import Combination


def to_picture(pixels: mx.array) -> Image.Image:
    """(1, H, W, 3) in [-1, 1] -> RGB. Raises UserError where a value is not a finite number."""
    values = np.asarray(pixels[0])
    if not np.isfinite(values).all():
        raise UserError("The model's result is not a number: its weights may be damaged, or the guidance too high.")
    return Image.fromarray(np.round(np.clip(values / 2 + 0.5, 0, 1) * 255).astype(np.uint8))


def put_together(combination: Combination | None, pictures: Sequence[Image.Image]) -> Image.Image:
    """Assemble the pictures of a combination's parts, in the order of `request.captions_of`, into one picture.

    Without a combination this is the only picture.
    """
    if combination is None:
        return pictures[0]
    from ..combinations import assemble

    return assemble.put_together(combination, dict(zip(reversed(combination.parts), pictures, strict=True)))
