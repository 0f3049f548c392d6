"""Cuts the eyes and mouth out of a smiley."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# As a fraction of the face's radius. Farther out are its edge and its shading.
RADIUS = 0.86

# Distance in RGB from the face's colour: below FAINT a pixel is face, above SURE a feature, between them a mixture.
FAINT, SURE = 40.0, 90.0

# Of the face: where less of it is yellow, its colour is the commonest one.
MIN_WARM = 0.2

# How often the face's colour is fitted anew without what does not fit.
ROUNDS = 6


def features(image: Image.Image) -> Image.Image:
    """From a smiley (RGBA), its eyes and mouth: RGBA of the same size, transparent elsewhere.

    A feature is what differs from the face's colour. That colour varies smoothly over the face, so it is modelled as a
    cubic polynomial in x and y for each channel, fitted to the pixels near it. If too few pixels look like a face, the
    result is fully transparent.
    """
    rgba = np.asarray(image).astype(np.float32)
    height, width = rgba.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    inner = ((x**2 + y**2) < RADIUS**2) & (rgba[..., 3] > 200)
    powers = np.stack([x**i * y**j for i in range(4) for j in range(4 - i)], axis=-1)
    # The smileys' yellow, from orange to nearly white.
    warm = (rgba[..., 0] > 190) & (rgba[..., 1] > 90) & (rgba[..., 0] - rgba[..., 2] > 60)
    chosen = inner & warm
    if warm[inner].mean() < MIN_WARM:
        chosen = inner & _near_commonest(rgba, inner)
    base = rgba[..., :3]
    for _ in range(ROUNDS):
        if chosen.sum() < 4 * powers.shape[-1]:
            return Image.new("RGBA", image.size)
        weights, *_ = np.linalg.lstsq(powers[chosen], rgba[chosen][:, :3], rcond=None)
        base = powers @ weights
        distance = np.sqrt(((rgba[..., :3] - base) ** 2).sum(-1))
        chosen = inner & (distance < FAINT)
    alpha = np.clip((distance - FAINT) / (SURE - FAINT), 0, 1) * inner
    share = np.maximum(alpha, 0.05)[..., None]
    colour = np.clip((rgba[..., :3] - base * (1 - share)) / share, 0, 255)
    return Image.fromarray(np.round(np.dstack([colour, 255 * alpha])).astype(np.uint8), "RGBA")


def _near_commonest(rgba: NDArray[np.float32], inner: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels near the commonest colour of a face that is not yellow: a sick, a cold or an angry one."""
    boxes = (rgba[..., :3] // 43).astype(int)
    names = boxes[..., 0] * 36 + boxes[..., 1] * 6 + boxes[..., 2]
    if not inner.any():
        return inner
    common = rgba[inner & (names == np.bincount(names[inner]).argmax())][:, :3].mean(0)
    near: NDArray[np.bool_] = np.sqrt(((rgba[..., :3] - common) ** 2).sum(-1)) < SURE
    return near
