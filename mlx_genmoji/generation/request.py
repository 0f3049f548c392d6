"""Reads and checks the arguments of `Genmoji.generate` and makes one `Request` of them."""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
from PIL import Image

from ..errors import UserError, quoted
from ..families.base import STRENGTH, Family, ImageStart
from ..prompt.safety import check_safe
from ..reader import OpenReader, Options
from ..samplers import Schedule
from .recipe import ModelFacts, Recipe


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

    def noise(self, family: Family, i: int) -> mx.array:
        """The initial noise of candidate `i`, (1, h, w, c)."""
        return family.noise(self.seed + i) if self.latents is None else self.latents[i : i + 1]


def prepare(prompt: str, options: Options, reader: OpenReader, facts: Callable[[], Mapping[str, Any]]) -> Request:
    """The request that a prompt and its options make.

    facts: returns the recipe's `model`, `adapters` and `version`; called after adapters are routed. Raises UserError
    for an argument that is out of range or contradicts another.
    """
    family, defaults = reader.family, reader.defaults
    steps = defaults.steps if options.steps is None else options.steps
    guidance = defaults.guidance if options.guidance is None else options.guidance
    reading = reader.read(prompt, options)
    seed = check_numbers(options, guidance)
    if options.latents is not None:
        _check_latents(options.latents, options.count, family)
    strength = None if options.image is None else STRENGTH if options.strength is None else options.strength
    sampler, schedule = family.schedule(options.sampler, steps, strength)
    start = family.start(schedule, options.image, options.strength, options.mask)
    recipe = Recipe(
        prompt=prompt,
        final_prompt=reading.final_prompt,
        negative_prompt=reading.negative_prompt,
        skin_tone=reading.skin_tone,
        person_type=reading.person_type,
        template=reading.template,
        plan=reading.plan,
        seed=None,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        image=start.recipe,
        notes=reading.notes,
        **facts(),
    )
    recipes = []
    for i in range(options.count):
        drawn, variation = reader.vary(reading, seed + i, options)
        recipes.append(
            replace(
                recipe,
                seed=seed + i if options.latents is None else None,
                final_prompt=drawn.final_prompt,
                plan=drawn.plan,
                combination=drawn.combination if isinstance(options.combine, bool) else options.combine,
                variation=variation,
            )
        )
    for note in reading.notes:
        # At the line that called `Genmoji.generate`, which `drawing` wraps.
        warnings.warn(note, stacklevel=4)
    return Request(recipes, list(map(captions_of, recipes)), schedule, start, seed, options.latents)


def request_again(recipe: Recipe, options: Options, family: Family) -> Request:
    """The request for a stored recipe. options: its seed and strength, and the pictures that it started from.

    Raises UserError for a number that is out of range, UnsafePrompt for a refused caption.
    """
    if not recipe.final_prompt.strip():
        raise UserError("The recipe's 'final_prompt' is empty.")
    check_safe(recipe.final_prompt)
    seed = check_numbers(options, recipe.guidance)
    strength = options.strength
    _, schedule = family.schedule(recipe.sampler, recipe.steps, strength)
    start = family.start(schedule, options.image, strength, options.mask)
    return Request([recipe], [captions_of(recipe)], schedule, start, seed)


def check_same(
    recipe: Recipe, model: ModelFacts, size: tuple[int, int], image: Image.Image | None, mask: Image.Image | None
) -> None:
    """Raise UserError if a model, with these pictures to start from, would draw another sticker than the recipe's.

    size: the height and width of the model's pictures.
    """
    from ..pictures import fingerprint, fit_mask, fit_picture

    drawn_by = recipe.model
    if drawn_by.sha256 != model.sha256:
        raise UserError(f"The sticker was drawn with other weights, those of {drawn_by.name!r}: load that model.")
    if drawn_by.quantization != model.quantization:
        theirs, ours = (quoted(value or "none") for value in (drawn_by.quantization, model.quantization))
        raise UserError(f"The sticker was drawn with the quantization {theirs}; this model has {ours}.")
    if recipe.seed is None:
        raise UserError("The sticker was drawn from noise that a program gave, which is not in the recipe.")
    for what, given, fit in (("image", image, fit_picture), ("mask", mask, fit_mask)):
        expected = recipe.image.get(f"{what}_sha256")
        if expected != (None if given is None else fingerprint(fit(given, *size))):
            wanted = f"needs the {what} that it started from" if expected else f"started from no {what}"
            raise UserError(f"The sticker {wanted}; {'another one' if given else 'none'} was given.")


def captions_of(recipe: Recipe) -> list[str]:
    """The captions to draw: one, or those of a combination's parts, the subject last so that previews end with it.

    Raises UnsafePrompt for a refused part.
    """
    if recipe.combination is None:
        return [recipe.final_prompt]
    captions = [part.text for part in reversed(recipe.combination.parts)]
    for caption in captions:
        check_safe(caption)
    return captions


def check_numbers(options: Options, guidance: float) -> int:
    """The seed, a random one if none is given. Raises UserError for a number that is out of range."""
    if options.count < 1:
        raise UserError(f"The count must be 1 or more, not {options.count}.")
    variety = options.variety
    if not (isinstance(variety, int | float) and not isinstance(variety, bool) and 0 <= variety <= 1):
        raise UserError(f"The variety must be a number from 0 to 1, not {variety}.")
    if not (math.isfinite(guidance) and guidance >= 0):
        raise UserError(f"The guidance must be 0 or more, not {guidance}.")
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    if not 0 <= seed < 2**63 - options.count:
        raise UserError(f"The seed must be a whole number from 0 to {2**63 - options.count - 1}, not {seed}.")
    return seed


def _check_latents(latents: mx.array, count: int, family: Family) -> None:
    expected = (count, *family.latents_shape)
    if tuple(latents.shape) != expected:
        raise UserError(f"The latents must have the shape {expected}, not {tuple(latents.shape)}.")
    if not mx.isfinite(latents).all().item():
        raise UserError("The latents hold values that are not finite numbers.")
