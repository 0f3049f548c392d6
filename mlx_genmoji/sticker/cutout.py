"""Cuts a figure out of a picture on white: finds the background, and the alpha of each pixel on the figure's edge.

Each pixel is `a * figure + (1 - a) * white`. Pixels as white as the border and connected to it are background: `a = 0`.
Next to them is the edge, a ramp of a few pixels from white to the figure's colour. From an edge pixel, the steepest
ascent in contrast to white leads to a pixel with the figure's colour `f`. It is followed only while the edge pixel lies
on the line from white to `f` in RGB, as a mixture of the two must. The position on that line is `a`, and the colour of
the result is the pixel without its share of white. White enclosed by the figure stays (teeth, eyes, a white cat) unless
it is a gap in the figure; see `_gaps`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

# A border pixel darker than this is not a white background.
MIN_WHITE = 232
# A picture is on a ground of another colour if this share of its border is within so many levels of one colour.
GROUND_SHARE, GROUND_NOISE = 0.75, 12.0
# A figure covers at least this share of a picture.
MIN_FIGURE = 0.005
# Limits of the estimated noise of the white background, in levels.
MIN_NOISE, MAX_NOISE = 1.0, 16.0
# If white is noisy, as in a JPEG, more than this share of the nearly white pixels (within so many levels) around the
# figure are darker than both neighbours. A clean drawing has a quarter of that: its edges and shades are monotonic.
NEARLY_WHITE, BUMPS = 16.0, 0.09
# A lossy WebP has few bumps, but its faint pixels away from the figure are rough: the mean Laplacian is more than the
# first share of the mean contrast, over more than the second share of the picture. Of 1,000 clean drawings of Fluent
# and Noto none is both (0.8 % of the picture at most); 24 WebPs of qualities 90 to 20 are (1.4 % at least).
ROUGH, ROUGH_AREA = 0.09, 0.011
# The edge is this many pixels wide.
RAMP = 3
# A mixture is this close to the line from white to the figure's colour: levels, plus a share of its contrast.
OFF_LINE, OFF_LINE_SHARE = 8.0, 0.15
# The ascent goes on while each step raises the contrast by this factor.
GAIN = 0.12
# A drawing is flat if more than this share of neighbouring pixels are equal; it may have flat white parts.
FLAT = 0.6
# White parts of a shaded figure fade out. Of the pixels around a gap, at most the share FADING is within FAINT levels.
FADING, FAINT = 0.4, 10.0
# A gap is at least this share of the picture: smaller pure white is a highlight.
MIN_GAP = 1 / 3000
# Isolated parts are noise if their contrast (levels) is below the first limit, or below the second if they are small
# (a share of the picture).
SPECK_CONTRAST, SMALL_SPECK_CONTRAST, SMALL_SPECK = 24.0, 64.0, 1 / 1500
# Up to this contrast (levels) a pixel has the alpha of the known outline, if there is one; above it, its own.
FAINT_EDGE = 40.0
# The edge beside a pixel of more contrast than this (levels) is dark.
DARK = 140.0


def cut_out(rgb: NDArray[np.uint8], outline: Floats | None = None) -> NDArray[np.uint8]:
    """Cut out `(H, W, 3)` on white: `(H, W, 4)`, not premultiplied, black where transparent.

    outline: the alpha, `(H, W)` from 0 to 1, that the figure is known to have to about a pixel (`sticker.Outlines`).
    White inside it belongs to the figure, and white outside it does not.
    On a ground of one other colour (green, grey, beige) that colour stands for white. A picture whose border is
    neither is returned opaque.
    """
    levels = rgb.astype(np.float32)
    ground = _ground(levels) if outline is None else None
    white = _white(levels) if ground is None else ground
    # The distance below white, or from the ground, in the channel where it is largest.
    contrast = (np.maximum(white - levels, 0) if ground is None else np.abs(white - levels)).max(-1)
    noise = _noise(contrast)
    labels, at_border = components(contrast <= noise)
    background = at_border[labels]
    if noise <= MIN_NOISE:
        background |= _gaps(levels, contrast, labels, at_border)[labels]
    else:
        background |= _specks(contrast, background)
    if outline is not None:
        # Beside dark pixels the picture's own edge is better than the outline's.
        pale = ~_grown(contrast > DARK) | _grown(_grown(_inside(outline) & (contrast <= FAINT_EDGE)))
        background = (background & ~(pale & (outline >= 0.5))) | ((contrast <= noise) & ~_grown(outline >= 0.5))
    if ground is not None and background.mean() > 1 - MIN_FIGURE:
        # A square of one colour, which is the figure itself.
        background = np.zeros_like(background)
    alpha = _alpha(white - levels, noise, background)
    if outline is not None:
        edge = np.where(pale & (contrast <= FAINT_EDGE), outline, 0)
        alpha = np.where(_inside(outline), 1, np.maximum(alpha, edge)).astype(np.float32)
    share = np.maximum(alpha, 1 / 255)[..., None]
    colour = np.where(alpha[..., None] > 0, (levels - (1 - share) * white) / share, 0)
    rgba = np.concatenate([colour, 255 * alpha[..., None]], axis=-1)
    return np.round(np.clip(rgba, 0, 255)).astype(np.uint8)


def _edge(pixels: Floats) -> Floats:
    """The outermost pixels of a picture, in a row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _white(levels: Floats) -> Floats:
    """The background's white `(3,)`, from the border; often a little below 255."""
    border = _edge(levels)
    bright = border[border.min(-1) >= MIN_WHITE]
    return np.median(bright, axis=0) if len(bright) else np.full(3, 255, np.float32)


def _ground(levels: Floats) -> Floats | None:
    """The colour `(3,)` of a ground that is not white, if nearly all of the border has it; None for other pictures."""
    border = _edge(levels)
    if (border.min(-1) >= MIN_WHITE).mean() > 1 - GROUND_SHARE:
        return None
    colour: Floats = np.median(border, axis=0)
    same = (np.abs(border - colour).max(-1) <= GROUND_NOISE).mean() >= GROUND_SHARE
    return colour if same else None


def _noise(contrast: Floats) -> float:
    """The noise of the white background in levels, from the border and from bumps in the white around the figure."""
    border = _edge(contrast)
    white = border[border <= 255 - MIN_WHITE]
    noise = 1.5 * np.quantile(white, 0.98) if len(white) else 0.0
    labels, at_border = components(contrast <= NEARLY_WHITE)
    inner = contrast[1:-1, 1:-1]
    near = at_border[labels][1:-1, 1:-1] & (inner >= 1)
    across = (inner > contrast[1:-1, :-2]) & (inner > contrast[1:-1, 2:])
    along = (inner > contrast[:-2, 1:-1]) & (inner > contrast[2:, 1:-1])
    bumps = near & (across | along)
    away = near & ~_grown(_grown(contrast > NEARLY_WHITE))[1:-1, 1:-1]
    around = contrast[:-2, 1:-1] + contrast[2:, 1:-1] + contrast[1:-1, :-2] + contrast[1:-1, 2:]
    rough = np.abs(inner - around / 4)[away].sum() > ROUGH * inner[away].sum()
    if bumps.sum() > BUMPS * near.sum() or (rough and bumps.any() and away.sum() > ROUGH_AREA * contrast.size):
        noise = max(noise, np.quantile(inner[bumps], 0.96))
    return float(np.clip(noise, MIN_NOISE, MAX_NOISE))


def components(mask: Mask) -> tuple[Ints, Mask]:
    """Label the 4-connected components of a mask.

    Returns a label for each pixel, 0 outside the mask, and for each label whether its component touches the border.
    Runs of pixels along the rows are numbered, and the smallest number spreads to all runs that touch in adjacent rows.
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
    """For each white component, whether it is a gap, such as a doughnut's hole or the space between arm and body.

    White parts of a shaded figure vary and fade out; a gap is pure white and ends sharply. In a flat drawing a gap and
    a tooth look alike, so no component counts as a gap.
    """
    inside = ~_grown(_grown(labels > 0))
    same = (levels[:, 1:] == levels[:, :-1]).all(-1)[inside[:, 1:] & inside[:, :-1]]
    if not len(same) or same.mean() > FLAT:
        return np.zeros_like(at_border)
    count = len(at_border)
    around, faint = np.zeros(count), np.zeros(count)
    for here, there in ((labels, contrast), (labels.T, contrast.T)):
        for of, by in ((here[:-1], there[1:]), (here[1:], there[:-1])):
            outside = (of > 0) & (by > MIN_NOISE)
            around += np.bincount(of[outside], minlength=count)
            faint += np.bincount(of[outside & (by < FAINT)], minlength=count)
    size = np.bincount(labels.ravel(), minlength=count)
    pure = np.bincount(labels.ravel(), (contrast == 0).ravel(), count)
    gaps: Mask = (faint <= FADING * around) & (pure >= 0.95 * size) & (size >= MIN_GAP * labels.size)
    gaps[0] = False
    return gaps


def _specks(contrast: Floats, background: Mask) -> Mask:
    """The pixels of noise on the background: faint components apart from the largest, which is the figure."""
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
    """Each pixel's alpha, `(H, W)` in [0, 1], from `depth` `(H, W, 3)`: the distance of each channel below white."""
    H, W = background.shape
    # The edge grows only towards more contrast: white behind a thin outline does not belong to it.
    heights = np.where(background, 0, np.linalg.norm(depth, axis=-1))
    near, front = background, background
    for _ in range(RAMP):
        front = (_least_around(np.where(front, heights, np.inf)) <= heights) & ~near
        near = near | front
    edge = np.flatnonzero(near & ~background)
    alpha = np.where(background, 0, 1).astype(np.float32)
    # Padded, so that every pixel has eight neighbours.
    framed = np.pad(depth, ((1, 1), (1, 1), (0, 0))).reshape(-1, 3)
    lengths = np.linalg.norm(framed, axis=-1)
    around = [down * (W + 2) + right for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    at = (edge // W + 1) * (W + 2) + edge % W + 1
    pixel, pixel_length = framed[at], lengths[at]
    for _ in range(RAMP):
        best, top = at, lengths[at] * (1 + GAIN) + noise
        for offset in around:
            there = at + offset
            along = (pixel * framed[there]).sum(-1) / np.maximum(lengths[there], 1e-6)
            off = np.sqrt(np.maximum(pixel_length**2 - along**2, 0))
            better = (lengths[there] > top) & (off <= OFF_LINE + OFF_LINE_SHARE * pixel_length)
            best, top = np.where(better, there, best), np.where(better, lengths[there], top)
        at = best
    along = (pixel * framed[at]).sum(-1) / np.maximum((framed[at] ** 2).sum(-1), 1e-6)
    alpha.reshape(-1)[edge] = np.clip(along, 0, 1)
    return alpha


def _inside(outline: Floats) -> Mask:
    """The pixels that are in the figure if its outline is right to a pixel."""
    return ~_grown(outline < 0.5)


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
