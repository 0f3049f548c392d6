"""A figure on white, cut out: which white is background, and how much of each pixel of the edge is figure.

A picture on white is `a * figure + (1 - a) * white` in each pixel. What joins the border as white as the border itself is
background, `a = 0`. Beside it lies the edge, a few pixels of ramp from white to the figure's colour: from each of them
the steepest way up leads to the colour `f` of the figure behind it, as long as the pixel lies on the line from white to
`f`, as a mixture must; its place on that line is `a`, and its own colour is what is left when the white is taken out.
White that the figure encloses stays (teeth, eyes, a white cat), unless it is a gap in the figure; see `_gaps`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

# Fainter borders than this are no white background.
FAINTEST = 232
# How far white strays from the border's own, at the least and at the most.
LEAST_NOISE, MOST_NOISE = 1.0, 10.0
# The edge is this many pixels wide.
RAMP = 3
# A mixture lies this close to the line from white to the figure's colour: so many levels, and so much of its contrast.
OFF_LINE, OFF_LINE_SHARE = 4.0, 0.08
# The way up goes on while each step gains so much of the contrast.
GAIN = 0.06


def cut_out(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(H, W, 3)` on white to `(H, W, 4)`, not premultiplied; what is clear is black."""
    levels = rgb.astype(np.float32)
    white, noise = _white_of_border(levels)
    contrast = np.maximum(white - levels, 0).max(-1)
    labels, border = _components(contrast <= noise)
    background = border[labels]
    alpha = _alpha(levels, white, noise, background)
    share = np.maximum(alpha, 1 / 255)[..., None]
    colour = np.where(alpha[..., None] > 0, (levels - (1 - share) * white) / share, 0)
    rgba = np.concatenate([colour, 255 * alpha[..., None]], axis=-1)
    return np.round(np.clip(rgba, 0, 255)).astype(np.uint8)


def _white_of_border(levels: Floats) -> tuple[Floats, float]:
    """The white `(3,)` of the border, and how far from it (levels) its pixels stray."""
    border = np.concatenate([levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1]])
    bright = border[border.min(-1) >= FAINTEST]
    if len(bright) < 4:
        return np.full(3, 255, np.float32), LEAST_NOISE
    white = np.median(bright, axis=0)
    strays = np.maximum(white - bright, 0).max(-1)
    return white, float(np.clip(np.quantile(strays, 0.98) * 1.5, LEAST_NOISE, MOST_NOISE))


def _components(mask: Mask) -> tuple[Ints, Mask]:
    """The 4-connected part of `mask` that each pixel is in, from 1, and 0 outside; and which parts touch the border.

    Runs along the rows, joined with those they touch in the next row: the smallest number spreads over each part.
    """
    H, W = mask.shape
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    run = np.zeros((H, W + 1), np.intp)
    run[rows, starts] = 1
    numbers = np.where(mask, np.cumsum(run).reshape(H, W + 1)[:, :W], 0)
    both = mask[1:] & mask[:-1]
    above, below = numbers[:-1][both], numbers[1:][both]
    new = np.ones(len(above), bool)
    new[1:] = (np.diff(above) != 0) | (np.diff(below) != 0)
    above, below = above[new], below[new]
    parents = np.arange(len(rows) + 1)
    while True:
        least = np.minimum(parents[above], parents[below])
        before = parents.copy()
        np.minimum.at(parents, parents[above], least)
        np.minimum.at(parents, parents[below], least)
        parents = parents[parents]
        if np.array_equal(parents, before):
            break
    labels = parents[numbers]
    touches = np.zeros(len(parents), bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touches[edge] = True
    touches[0] = False
    return labels, touches


def _alpha(levels: Floats, white: Floats, noise: float, background: Mask) -> Floats:
    H, W = background.shape
    near = background
    for _ in range(RAMP):
        near = _grown(near)
    edge = np.flatnonzero(near & ~background)
    # A frame of the picture's own border, so that every pixel has eight neighbours.
    framed = np.pad(white - levels, ((1, 1), (1, 1), (0, 0)), mode="edge").reshape(-1, 3)
    own = (edge // W + 1) * (W + 2) + edge % W + 1
    depth = framed[own]
    size = np.linalg.norm(depth, axis=-1)
    at, reach = own.copy(), size.copy()
    around = [dy * (W + 2) + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    inner = np.pad(~background, 1).reshape(-1)
    lengths = np.linalg.norm(framed, axis=-1)
    for _ in range(RAMP):
        best, top = at.copy(), reach * (1 + GAIN) + noise
        for offset in around:
            there = at + offset
            ok = inner[there]
            there = np.where(ok, there, at)
            f, length = framed[there], lengths[there]
            along = (depth * f).sum(-1) / np.maximum(length, 1e-6)
            off = np.sqrt(np.maximum(size**2 - along**2, 0))
            better = ok & (length > top) & (off <= OFF_LINE + OFF_LINE_SHARE * size)
            best = np.where(better, there, best)
            top = np.where(better, length, top)
        at, reach = best, lengths[best]
    f = framed[at]
    along = (depth * f).sum(-1) / np.maximum((f * f).sum(-1), 1e-6)
    alpha = np.where(background, 0, 1).astype(np.float32)
    alpha.reshape(-1)[edge] = np.clip(along, 0, 1)
    return alpha


def _grown(mask: Mask) -> Mask:
    """`mask` and the eight neighbours of its pixels."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    tall = wide.copy()
    tall[1:] |= wide[:-1]
    tall[:-1] |= wide[1:]
    return tall
