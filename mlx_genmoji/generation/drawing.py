"""Draws a request: the captions of each candidate, and the finished pictures.

The parts of a combination are denoised in one batch, which on a CPU takes about half of the time that they take one
after the other. Float32 rounding depends on the size of a batch, so the recipe says `batched`, and a replay draws the
same batch. Candidates are never batched: each is what its seed gives alone, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..families.base import Conditions, Family
from ..sticker import Outlines, Sticker
from . import Callback, Each, Progress, denoise, finished, to_picture
from .request import Key, Request

MAX_BATCH_POSITIONS = 4096
"""Latent positions (height times width) of a batch at most: larger pictures gain nothing from one, and need memory."""


def in_batches(request: Request, family: Family) -> Request:
    """The request, its recipes marked as `batched` where the parts of a combination are drawn together."""
    parts = max(len(set(captions)) for captions in request.captions)
    height, width, _ = family.shape(request.recipe.settings)
    # Long prompts are of several lengths, which do not fit into one batch.
    if parts == 1 or parts * height * width > MAX_BATCH_POSITIONS or request.recipe.settings.long_prompts:
        return request
    return replace(request, recipes=[replace(recipe, batched=True) for recipe in request.recipes])


def joined(conditions: Sequence[Conditions]) -> Conditions:
    """The conditions of a batch: all first rows (the unconditional ones, if there are two), then all others.

    conditions: of one picture each, all of the same shapes.
    """

    def join(arrays: Sequence[mx.array]) -> mx.array:
        return mx.concatenate([array[row : row + 1] for row in range(len(arrays[0])) for array in arrays])

    if len(conditions) == 1:
        return conditions[0]
    added = {name: join([each.added[name] for each in conditions]) for name in conditions[0].added}
    return Conditions(join([each.states for each in conditions]), added)


class Drawing:
    """One call of `Genmoji.generate` or `replay`, while it draws."""

    def __init__(
        self,
        family: Family,
        request: Request,
        *,
        parts: Mapping[str, str],
        outlines: Outlines,
        drawings: MutableMapping[Key, Image.Image],
    ):
        """parts: `Defaults.parts`. drawings: pictures to use instead of drawing them; drawn ones are added, unless they
        were drawn in a batch or from a picture or noise of the caller's.
        """
        self.family = family
        self.request = request
        self.parts = parts
        self.outlines = outlines
        self.drawings = drawings
        self.progress = Progress(None, 0)
        self.candidate = 0
        """The candidate that is drawn now."""
        self.batch: list[Key] = []
        """The drawings that are denoised now."""

    def stickers(self, callback: Callback | None, each: Each | None) -> list[Sticker]:
        """Draw all candidates. callback, each: see `Genmoji.generate`."""
        request, schedule, start = self.request, self.request.schedule, self.request.start
        batches = [self._batches(row) for row in request.keys]
        captions = (key[0] for row in batches for batch in row for key in batch)
        conditions = request.conditions(self.family, captions)
        mx.eval(list(conditions.values()), start.latents, start.inpainting)
        drawn = sum(len(batch) for row in batches for batch in row)
        self.progress = Progress(callback, drawn * (len(schedule.timesteps) - start.step))
        stickers = []
        for i, row in enumerate(request.keys):
            self.candidate = i
            pictures: dict[Key, Image.Image] = {}
            for batch in batches[i]:
                self.batch = batch
                draws = request.draws(self.family, i).repeated(len(batch))
                states = joined([conditions[key[0]] for key in batch])
                latents = denoise(self.family, schedule, draws, states, request.recipe.guidance, self.progress)
                pictures |= zip(batch, self._pictures(latents), strict=True)
            if request.repeatable and not request.recipe.batched:
                self.drawings.update(pictures)
            stickers.append(self._finished([pictures[key] if key in pictures else self.drawings[key] for key in row]))
            if each is not None:
                each(stickers[-1])
        return stickers

    def preview(self, latents: mx.array) -> Image.Image:
        """The picture of a callback's latents; where parts are drawn together, the candidate as far as it is."""
        if len(self.batch) > 1 and self.progress.latents is not None:
            latents = self.progress.latents
        pictures = dict(zip(self.batch, self._pictures(latents, preview=True), strict=True))
        row = self.request.keys[self.candidate]
        if not all(key in pictures for key in row):
            return pictures[self.batch[-1]]
        return self._finished([pictures[key] for key in row]).image

    def _batches(self, row: Sequence[Key]) -> list[list[Key]]:
        """The drawings of a candidate that are missing, each list to be denoised in one batch."""
        keys = list(dict.fromkeys(row))
        if self.request.recipe.batched:
            return [keys]
        reusable = self.drawings if self.request.repeatable else {}
        return [[key] for key in keys if key not in reusable]

    def _pictures(self, latents: mx.array, preview: bool = False) -> list[Image.Image]:
        """The pictures of latents (B, h, w, c), decoded one by one: a batch of them is no faster."""
        decoded = (self.family.decode(latents[j : j + 1], preview) for j in range(len(latents)))
        return [to_picture(pixels, on_white=bool(self.parts)) for pixels in decoded]

    def _finished(self, pictures: Sequence[Image.Image]) -> Sticker:
        """The sticker of the candidate, from the pictures of its captions."""
        outlines = [self._outline(caption) for caption in self.request.captions[self.candidate]]
        return finished(self.request.recipes[self.candidate], pictures, outlines)

    def _outline(self, caption: str) -> NDArray[np.bool_] | None:
        """The outline of a caption's drawing, if it is known: an adapter, or a picture to start from, changes it."""
        recipe: Any = self.request.recipe
        if recipe.adapters or recipe.image:
            return None
        return self.outlines.of(caption, dict(self.parts), self.family.size[::-1])
