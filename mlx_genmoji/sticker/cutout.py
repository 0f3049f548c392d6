"""A figure on white, cut out: which white is background, and how much of each pixel of the edge is figure.

A picture on white is `a * figure + (1 - a) * white` in each pixel. What joins the border, as white as the border is,
is background, `a = 0`. Beside it lies the edge, a few pixels of ramp from white to the figure's colour: from each of
them the steepest way up leads to the colour `f` of the figure behind it, as long as the pixel lies on the line from
white to `f`, as a mixture must; its place on that line is `a`, and its own colour is what is left without the white.
White that the figure encloses stays (teeth, eyes, a white cat), unless it is a gap in the figure; see `_gaps`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

# A border darker than this is no white background.
FAINTEST = 232
# How far white strays from the border's own, at the least and at the most, in levels.
LEAST_NOISE, MOST_NOISE = 1.0, 16.0
# Of what is nearly white (levels) around the figure, this share stands out from both sides where white is noisy, as in
# a JPEG: four times less in a clean drawing, whose edges and shades go one way.
NEARLY, BUMPS = 16.0, 0.09
# The edge is this many pixels wide.
RAMP = 3
# A mixture lies this close to the line from white to the figure's colour: levels, and a share of its contrast.
OFF_LINE, OFF_LINE_SHARE = 8.0, 0.15
# The way up goes on while each step gains so much of the contrast.
GAIN = 0.12
# A drawing of which more neighbours than this share have one colour is flat, and may have flat whites of its own.
FLAT = 0.6
# White of a shaded figure fades into what is around it; a gap has at most this share of neighbours this faint (levels).
FADING, FAINT = 0.4, 10.0
# Nor is it smaller than this share of the picture: light on a tooth saturates too.
LEAST_GAP = 1 / 3000
# What noise leaves on white, by itself: parts of less contrast (levels), or of some more and small.
SPECK_CONTRAST, SMALL_SPECK_CONTRAST, SMALL_SPECK = 24.0, 64.0, 1 / 1500


def cut_out(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(H, W, 3)` on white to `(H, W, 4)`, not premultiplied, black where clear. Off white, all of it stays."""
    levels = rgb.astype(np.float32)
    white = _white(levels)
    # How far below white, in the channel that is farthest.
    contrast = np.maximum(white - levels, 0).max(-1)
    noise = _noise(contrast)
    labels, at_border = components(contrast <= noise)
    background = at_border[labels]
    if noise <= LEAST_NOISE:
        background |= _gaps(levels, contrast, labels, at_border)[labels]
    else:
        background |= _specks(contrast, background)
    alpha = _alpha(white - levels, noise, background)
    share = np.maximum(alpha, 1 / 255)[..., None]
    colour = np.where(alpha[..., None] > 0, (levels - (1 - share) * white) / share, 0)
    rgba = np.concatenate([colour, 255 * alpha[..., None]], axis=-1)
    return np.round(np.clip(rgba, 0, 255)).astype(np.uint8)


def _edge(pixels: Floats) -> Floats:
    """The outermost pixels of a picture, in a row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _white(levels: Floats) -> Floats:
    """The white `(3,)` of the border, not always 255."""
    border = _edge(levels)
    bright = border[border.min(-1) >= FAINTEST]
    return np.median(bright, axis=0) if len(bright) else np.full(3, 255, np.float32)


def _noise(contrast: Floats) -> float:
    """How far (levels) white strays: as far as it does on the border, and as its bumps around the figure stand out."""
    border = _edge(contrast)
    strays = border[border <= 255 - FAINTEST]
    noise = 1.5 * np.quantile(strays, 0.98) if len(strays) else 0.0
    labels, at_border = components(contrast <= NEARLY)
    inner = contrast[1:-1, 1:-1]
    near = at_border[labels][1:-1, 1:-1] & (inner >= 1)
    across = (inner > contrast[1:-1, :-2]) & (inner > contrast[1:-1, 2:])
    along = (inner > contrast[:-2, 1:-1]) & (inner > contrast[2:, 1:-1])
    bumps = near & (across | along)
    if bumps.sum() > BUMPS * near.sum():
        noise = max(noise, np.quantile(inner[bumps], 0.96))
    return float(np.clip(noise, LEAST_NOISE, MOST_NOISE))


def components(mask: Mask) -> tuple[Ints, Mask]:
    """The 4-connected part of `mask` that each pixel is in, from 1, and 0 outside; and which parts touch the border.

    Runs along the rows, joined with those they touch in the next row: the smallest number spreads over each part.
    """
    H, W = mask.shape
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
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


def _gaps(levels: Floats, contrast: Floats, labels: Ints, at_border: Mask) -> Mask:
    """Which of the parts are gaps: the hole of a doughnut, the window between an arm and a body.

    The whites of a shaded figure vary and fade; what is white throughout and ends sharply is background seen through
    it. Where a drawing is flat, or white is noisy, nothing tells a gap from a tooth: all stay.
    """
    inside = ~_grown(_grown(labels > 0))
    same = (levels[:, 1:] == levels[:, :-1]).all(-1)[inside[:, 1:] & inside[:, :-1]]
    if not len(same) or same.mean() > FLAT:
        return np.zeros_like(at_border)
    count = len(at_border)
    around, faint = np.zeros(count), np.zeros(count)
    for here, there in ((labels, contrast), (labels.T, contrast.T)):
        for of, by in ((here[:-1], there[1:]), (here[1:], there[:-1])):
            outside = (of > 0) & (by > LEAST_NOISE)
            around += np.bincount(of[outside], minlength=count)
            faint += np.bincount(of[outside & (by < FAINT)], minlength=count)
    size = np.bincount(labels.ravel(), minlength=count)
    pure = np.bincount(labels.ravel(), (contrast == 0).ravel(), count)
    gaps: Mask = (faint <= FADING * around) & (pure >= 0.95 * size) & (size >= LEAST_GAP * labels.size)
    gaps[0] = False
    return gaps


def _specks(contrast: Floats, background: Mask) -> Mask:
    """What noise has left on the background: faint parts beside the figure, which is the largest part."""
    labels, _ = components(~background)
    size = np.bincount(labels.ravel())
    darkest = np.zeros(len(size), np.float32)
    np.maximum.at(darkest, labels.ravel(), contrast.ravel())
    small = size <= max(SMALL_SPECK * labels.size, 1)
    specks: Mask = (darkest < SPECK_CONTRAST) | small & (darkest < SMALL_SPECK_CONTRAST)
    specks[0] = False
    size[0] = 0
    specks[size.argmax()] = False
    return specks[labels]


def _alpha(depth: Floats, noise: float, background: Mask) -> Floats:
    """How much of each pixel is figure, `(H, W)` in [0, 1]; `depth` `(H, W, 3)` is how far a channel is below white."""
    H, W = background.shape
    # Only upwards: the white behind a thin outline is no part of the edge.
    heights = np.where(background, 0, np.linalg.norm(depth, axis=-1))
    near, front = background, background
    for _ in range(RAMP):
        front = (_least_around(np.where(front, heights, np.inf)) <= heights) & ~near
        near = near | front
    edge = np.flatnonzero(near & ~background)
    alpha = np.where(background, 0, 1).astype(np.float32)
    # A frame around the picture, so that every pixel has eight neighbours.
    framed = np.pad(depth, ((1, 1), (1, 1), (0, 0))).reshape(-1, 3)
    lengths = np.linalg.norm(framed, axis=-1)
    around = [down * (W + 2) + right for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    at = (edge // W + 1) * (W + 2) + edge % W + 1
    own, own_length = framed[at], lengths[at]
    for _ in range(RAMP):
        best, top = at, lengths[at] * (1 + GAIN) + noise
        for offset in around:
            there = at + offset
            along = (own * framed[there]).sum(-1) / np.maximum(lengths[there], 1e-6)
            off = np.sqrt(np.maximum(own_length**2 - along**2, 0))
            better = (lengths[there] > top) & (off <= OFF_LINE + OFF_LINE_SHARE * own_length)
            best, top = np.where(better, there, best), np.where(better, lengths[there], top)
        at = best
    along = (own * framed[at]).sum(-1) / np.maximum((framed[at] ** 2).sum(-1), 1e-6)
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


def _least_around(values: Floats) -> Floats:
    """The smallest of each value and its eight neighbours."""
    wide = values.copy()
    np.minimum(wide[:, 1:], values[:, :-1], out=wide[:, 1:])
    np.minimum(wide[:, :-1], values[:, 1:], out=wide[:, :-1])
    tall = wide.copy()
    np.minimum(tall[1:], wide[:-1], out=tall[1:])
    np.minimum(tall[:-1], wide[1:], out=tall[:-1])
    return tall
