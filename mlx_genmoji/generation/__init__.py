"""One drawing, step by step: `request` -> `denoise` -> `finished` picture, and its `recipe`.

Here: from noise to latents, the loop over a sampler's steps, which is the same for all families of models; from decoded
pixels to the finished picture; and `Drawing`, which does this for each candidate.

The parts of a combination are denoised in one batch, which on a CPU takes about half of the time that they take one
after the other. Float32 rounding depends on the size of a batch, so the recipe says `batched`, and a replay draws the
same batch. Candidates are never batched: each is what its seed gives alone, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import Cancelled, UserError
from ..families.base import Conditions, Family, ImageStart, Settings
from ..models.ops import on_cpu
from ..samplers import History, Schedule, step_noise
from ..sticker import Outlines, Sticker

if TYPE_CHECKING:
    from .recipe import Recipe

OPAQUE = 128
"""The alpha, of 255, from which a pixel belongs to the figure."""
MAX_BATCH_POSITIONS = 4096
"""Latent positions (height times width) of a batch at most: larger pictures gain nothing from one, and need memory."""
CORNER, FAINT, STAIN = 8, 3, 48
"""A corner's sides in pixels; how many levels darker than white its inner edge and its pixels are at most."""

Each = Callable[[Sticker], object]
"""Called with each sticker when it is finished."""
Key = tuple[Any, ...]
"""What decides a picture: its caption, its seed, and the settings."""
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
    picture, outline, stage = pictures[0], outlines[0], None
    if recipe.combination is not None:
        from ..combinations import assemble

        cut = [
            picture if known is None else Sticker(picture, outline=known).cutout()
            for picture, known in zip(pictures, outlines, strict=True)
        ]
        drawn = dict(zip(reversed(recipe.combination.parts), cut, strict=True))
        picture, alpha = assemble.assembled(recipe.combination, drawn)
        stage = partial(assemble.staged, recipe.combination, drawn)
        outline = None if alpha is None else np.asarray(alpha) >= OPAQUE
    if recipe.variation is not None:
        picture, outline = recipe.variation.moved(picture, outline)
    return Sticker(picture, recipe.to_dict(), outline, stage)


@dataclass(frozen=True)
class Request:
    """What to draw, and how."""

    recipes: Sequence[Recipe]
    """One for each candidate."""
    captions: Sequence[Sequence[str]]
    """Of each candidate, one for each drawing: its only caption, or those of its combination's parts, the subject last.
    """
    schedule: Schedule
    start: ImageStart
    seed: int = 0
    latents: mx.array | None = None
    """(count, h, w, c): the initial noise, if the caller gave it."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first candidate, which shares all but drawings and seeds with the others."""
        return self.recipes[0]

    @property
    def repeatable(self) -> bool:
        """Whether captions, seeds and settings alone decide what is drawn: no given noise, no picture to start from."""
        return self.latents is None and not self.recipe.image

    @property
    def keys(self) -> list[list[Key]]:
        """For each candidate its drawings: the caption, the seed, and all else that decides a picture."""
        recipe = self.recipe
        settings = (recipe.negative_prompt, recipe.guidance, recipe.steps, recipe.sampler, recipe.settings)
        rest = (*settings, repr(recipe.adapters))
        return [[(caption, self.seed + i, *rest) for caption in row] for i, row in enumerate(self.captions)]

    def conditions(self, family: Family, captions: Iterable[str]) -> dict[str, Conditions]:
        """The denoiser's inputs of each caption."""
        recipe = self.recipe
        conditions = {}
        for caption in dict.fromkeys(captions):
            texts = (caption, recipe.negative_prompt)
            conditions[caption] = family.conditions(*texts, recipe.guidance, recipe.settings)
        return conditions

    def draws(self, family: Family, i: int) -> Draws:
        """The random numbers of candidate `i`, anew for each drawing."""
        noise = None if self.latents is None else self.latents[i : i + 1]
        return draws_of(family, self.recipe.settings, self.seed + i, self.start, noise)


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
        """The drawings that are denoised now; empty when all are done."""

    def stickers(self, callback: Callback | None = None, each: Each | None = None) -> list[Sticker]:
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
                # Decoded one by one: a batch is no faster.
                for j, key in enumerate(batch):
                    pictures[key] = to_picture(self.family.decode(latents[j : j + 1]), on_white=bool(self.parts))
            if request.repeatable and not request.recipe.batched:
                self.drawings.update(pictures)
            stickers.append(self._finished([pictures[key] if key in pictures else self.drawings[key] for key in row]))
            if each is not None:
                each(stickers[-1])
        self.batch = []
        return stickers

    def preview(self, latents: mx.array) -> Image.Image:
        """The picture of a callback's latents; where parts are drawn together, the candidate as far as it is."""
        if len(self.batch) > 1 and self.progress.latents is not None:
            latents = self.progress.latents
        pictures = {}
        for j, key in enumerate(self.batch):
            pictures[key] = to_picture(self.family.decode(latents[j : j + 1], preview=True), on_white=bool(self.parts))
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

    def _finished(self, pictures: Sequence[Image.Image]) -> Sticker:
        """The sticker of the candidate, from the pictures of its captions."""
        outlines = [self._outline(caption) for caption in self.request.captions[self.candidate]]
        sticker = finished(self.request.recipes[self.candidate], pictures, outlines)
        reference = self.request.start.reference
        if reference is None:
            return sticker
        from .likeness import likened

        picture, outline = likened(sticker.image, sticker.outline, reference, self.request.recipe.image["strength"])
        return Sticker(picture, sticker.recipe, outline)

    def _outline(self, caption: str) -> NDArray[np.bool_] | None:
        """The outline of a caption's drawing, if it is known: an adapter, or a picture to start from, changes it."""
        recipe: Any = self.request.recipe
        if recipe.adapters or (recipe.image and self.request.start.reference is None):
            return None
        return self.outlines.of(caption, dict(self.parts), self.family.size[::-1])
