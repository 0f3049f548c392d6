"""Measures how far the skin in a drawn picture is from the original's, as a colour difference in CIE Lab.

The original (a picture of the set whose style is learned) defines which pixels are skin: those within `NEAR` of the
set's colour for that tone. The distance is between the median colours of the original and of the drawn picture at these
pixels (CIE 1976; 2.3 is just noticeable). Skin is not searched for in the drawn picture: if it has hair or clothes at
these pixels, that counts as an error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Of Twemoji's drawings (their SVG files' fill colours).
TWEMOJI = {
    "light": "#F7DECE",
    "medium-light": "#F3D2A2",
    "medium": "#D5AB88",
    "medium-dark": "#AF7E57",
    "dark": "#7C533E",
}
NEAR = 10.0
# Fewer skin pixels than this share of the picture say too little.
LEAST = 0.03


def lab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB (..., 3) in 0..255 -> CIE L*a*b* under D65 (IEC 61966-2-1, CIE 15)."""
    srgb = np.asarray(colours, np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def skin_mask(original: Image.Image, tone: str, size: int) -> NDArray[np.bool_]:
    """The mask of the skin of `tone` in an original on white, (size, size)."""
    fill = tuple(bytes.fromhex(TWEMOJI[tone].removeprefix("#")))
    return np.linalg.norm(lab(_pixels(original, size)) - lab(np.array(fill, np.uint8)), axis=-1) <= NEAR


def skin_distance(drawn: Image.Image, original: Image.Image, tone: str, size: int) -> float:
    """The CIE Lab distance between the median colours of both pictures at the original's skin."""
    mask = skin_mask(original, tone, size)
    ours, theirs = (np.median(lab(_pixels(picture, size))[mask], axis=0) for picture in (drawn, original))
    return float(np.linalg.norm(ours - theirs))


def _pixels(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    picture = picture.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return np.asarray(flat.resize((size, size), Image.Resampling.LANCZOS))
