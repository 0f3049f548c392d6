"""One drawing, step by step: `request` -> `denoise` -> `finished` picture, and its `recipe`.

Here: from noise to latents, the loop over a sampler's steps, which is the same for all families of models; and from
decoded pixels to the finished picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import Cancelled, UserError
from ..families.base import Conditions, Family, ImageStart, Settings
from ..models.ops import on_cpu
from ..samplers import History, Schedule, step_noise
from ..sticker import Sticker

if TYPE_CHECKING:
    from .recipe import Recipe

OPAQUE = 128
"""The alpha, of 255, from which a pixel belongs to the figure."""
CORNER, FAINT, STAIN = 8, 3, 48
"""A corner's sides in pixels; how many levels darker than white its inner edge and its pixels are at most."""

Each = Callable[[Sticker], object]
"""Called with each sticker when it is finished."""
Callback = Callable[[int, int, mx.array], Any]


class Progress:
    """Calls a user's callback once for each step of a whole generation. Raises Cancelled if it returns False."""

    def __init__(self, callback: Callback | None, total: int):
        """total: the number of steps of all candidates and parts."""
        self.callback = callback
        self.total = total
        self._done = 0
        self.latents: mx.array | None = None
        """The prediction of the finished latents after the newest step, (B, h, w, c)."""

    def step(self, finished: mx.array) -> None:
        """finished: the prediction of the finished latents, (B, h, w, c). The callback is called for each of B."""
        self.latents = finished
        for j in range(len(finished)):
            if self.callback is not None and self.callback(self._done, self.total, finished[j : j + 1]) is False:
                raise Cancelled
            self._done += 1


class Draws(NamedTuple):
    """What chance gives to one drawing."""

    noise: mx.array
    """The initial noise, standard normal, (1, h, w, c)."""
    start: ImageStart
    step_noise: Callable[[int], mx.array]
    """The noise of step i, (1, h, w, c), for a stochastic sampler; called once for each such step, in their order."""

    def repeated(self, count: int) -> Draws:
        """The draws of a batch of `count` pictures, which have the same noise."""
        return self if count == 1 else self._replace(noise=mx.repeat(self.noise, count, axis=0))


def draws_of(family: Family, settings: Settings, seed: int, start: ImageStart, noise: mx.array | None) -> Draws:
    """The draws of a seed. noise: the initial noise, if the caller gave it."""
    shape = (1, *family.shape(settings))
    if settings.noise == "torch":
        from .torch_draws import draws_of_torch

        return Draws(*draws_of_torch(seed, shape, start, noise))
    if noise is None:
        noise = family.noise(seed, settings)
    return Draws(noise, start, lambda i: step_noise(seed, i, shape))


def denoise(
    family: Family,
    schedule: Schedule,
    draws: Draws,
    conditions: Conditions,
    guidance: float,
    progress: Progress,
) -> mx.array:
    """The finished latents of one picture, (1, h, w, c), or of a batch: as many as `draws.noise` has.

    On a CPU each step is evaluated before the next. On a GPU the next step is submitted while one is computed, so that
    the GPU never waits for Python; the callback is called for a step after the next one was submitted.
    """
    start, noise = draws.start, draws.noise
    if start.latents is None:
        latents = noise * schedule.init_noise_sigma
    else:
        latents = schedule.add_noise(start.latents, noise, start.step)
    history: History = ()
    pending: mx.array | None = None
    for i in range(start.step, len(schedule.timesteps)):
        scaled = schedule.scale_model_input(latents, i)
        output = family.predict(scaled, schedule.timesteps[i], conditions, guidance, start)
        drawn = draws.step_noise(i) if schedule.draws_noise(i) else None
        latents, history = schedule.step(output, i, latents, history, drawn)
        finished = latents if i + 1 == len(schedule.timesteps) else history[0]
        if on_cpu():
            mx.eval(latents, history)
            progress.step(finished)
        else:
            mx.async_eval(latents, history)
            if pending is not None:
                progress.step(pending)
            pending = finished
    if pending is not None:
        progress.step(pending)
    return latents


def to_picture(pixels: mx.array, on_white: bool = False) -> Image.Image:
    """(1, H, W, 3) in [-1, 1] -> RGB. Raises UserError where a value is not a finite number.

    on_white: whether the background is to be white up to the corners.
    """
    values = np.asarray(pixels[0])
    if not np.isfinite(values).all():
        raise UserError("The model's result is not a number: its weights may be damaged, or the guidance too high.")
    levels = np.round(np.clip(values / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(with_white_corners(levels) if on_white else levels)


def with_white_corners(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture on white, (H, W, 3), whose corners are white unless the figure reaches them.

    An autoencoder leaves the corners of white pictures a little grey.
    """
    levels = levels.copy()
    side = min(CORNER, *levels.shape[:2])
    for down in (slice(None), slice(None, None, -1)):
        for right in (slice(None), slice(None, None, -1)):
            corner = levels[down, right][:side, :side]
            contrast = 255 - corner.min(-1)
            if contrast.max() <= STAIN and max(contrast[-1].max(), contrast[:, -1].max()) <= FAINT:
                corner[:] = 255
    return levels


def finished(recipe: Recipe, pictures: Sequence[Image.Image], outlines: Sequence[NDArray[np.bool_] | None]) -> Sticker:
    """The sticker of a recipe, from the pictures of its captions in the order of `request.captions_of`.

    The parts of a combination are put together; the recipe's variation is applied. outlines: the pixels of each
    picture's figure, `(H, W)`, as far as they are known (`sticker.Outlines`).
    """
    if recipe.variation is not None:
        pictures = recipe.variation.shaded(pictures)
    picture, outline = pictures[0], outlines[0]
    if recipe.combination is not None:
        from ..combinations import assemble

        cut = [
            picture if known is None else Sticker(picture, outline=known).cutout()
            for picture, known in zip(pictures, outlines, strict=True)
        ]
        parts = reversed(recipe.combination.parts)
        picture, alpha = assemble.assembled(recipe.combination, dict(zip(parts, cut, strict=True)))
        outline = None if alpha is None else np.asarray(alpha) >= OPAQUE
    if recipe.variation is not None:
        picture, outline = recipe.variation.moved(picture, outline)
    return Sticker(picture, recipe.to_dict(), outline)
