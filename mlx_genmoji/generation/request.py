"""Reads and checks the arguments of `Genmoji.generate` and makes one `Request` of them."""

from __future__ import annotations

import math
import re
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..errors import UserError
from ..families.base import STRENGTH, Family, ImageStart, Settings
from ..prompt.safety import check_safe
from ..reader import AS_IS, OpenReader, Options, Reading
from ..samplers import SAMPLERS, sampler_named
from . import Request
from .recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image

    from ..checkpoint import Defaults
    from ..combinations.combination import Combination

MAX_SCALE = 1.6
"""How much larger or smaller than the model's own pictures may be, in length, before a note says so."""
MARK = re.compile(r"[(\[<]|BREAK")
"""What a prompt with A1111's marks has."""


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
    settings = _with_defaults(options.settings, defaults)
    _check_size(settings, reader)
    latents = _latents(options, family, settings)
    likens = reader.closed and options.image is not None and options.mask is None and options.template != AS_IS
    strength = None if options.image is None else STRENGTH if options.strength is None else options.strength
    name = options.sampler or defaults.sampler
    settings = _with_sampler(settings, name)
    sampler, schedule = family.schedule(name, steps, None if likens else strength, settings)
    if likens:
        start = _likeness(family, options.image, strength, settings)
    else:
        start = family.start(schedule, options.image, options.strength, options.mask, settings)
    combination = reading.combination if isinstance(options.combine, bool) else options.combine
    notes = (*reading.notes, *_notes(reading, combination, family, settings))
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
        settings=settings,
        notes=notes,
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
    for note in notes:
        # At the line that called `Genmoji.generate`, which `drawing` wraps.
        warnings.warn(note, stacklevel=4)
    return Request(recipes, list(map(captions_of, recipes)), schedule, start, seed, latents)


def request_again(recipe: Recipe, options: Options, family: Family) -> Request:
    """The request for a stored recipe. options: its seed and strength, and the pictures that it started from.

    Raises UserError for a number that is out of range, UnsafePrompt for a refused caption.
    """
    if not recipe.final_prompt.strip():
        raise UserError("The recipe's 'final_prompt' is empty.")
    check_safe(recipe.final_prompt)
    seed = check_numbers(options, recipe.guidance)
    strength = options.strength
    likens = recipe.image.get("likeness", False)
    _, schedule = family.schedule(recipe.sampler, recipe.steps, None if likens else strength, recipe.settings)
    if likens:
        start = _likeness(family, options.image, strength, recipe.settings)
    else:
        start = family.start(schedule, options.image, strength, options.mask, recipe.settings)
    return Request([recipe], [captions_of(recipe)], schedule, start, seed)


def _likeness(family: Family, image: Image.Image | None, strength: float | None, settings: Settings) -> ImageStart:
    """The start of a drawing that is likened to a picture, by a model with a closed vocabulary."""
    from .likeness import likeness_start

    assert image is not None
    return likeness_start(family.picture_size(settings), image, strength)


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


def _latents(options: Options, family: Family, settings: Settings) -> mx.array | None:
    """The initial noise that the user gave. Raises UserError for another shape or values that are not finite."""
    if options.latents is None:
        return None
    latents, expected = mx.array(options.latents), (options.count, *family.shape(settings))
    if tuple(latents.shape) != expected:
        raise UserError(f"The latents must have the shape {expected}, not {tuple(latents.shape)}.")
    if not mx.isfinite(latents).all().item():
        raise UserError("The latents hold values that are not finite numbers.")
    return latents


def _check_size(settings: Settings, reader: OpenReader) -> None:
    """Raise UserError for a size that the model cannot draw, or that a closed vocabulary's model was not made for."""
    own, size = reader.family.size, reader.family.picture_size(settings)
    if size != own and reader.closed:
        raise UserError(
            f"The model {reader.family.name} draws pictures of {own[1]} x {own[0]} pixels and no other size: leave out"
            " the size. Stickers are made larger when they are exported."
        )


def _with_defaults(settings: Settings, defaults: Defaults) -> Settings:
    """The settings with the model's own size, spacing and clip skip where none are given."""
    changes: dict[str, Any] = {}
    if defaults.size is not None and settings.width is None and settings.height is None:
        changes = {"width": defaults.size, "height": defaults.size}
    for field in ("spacing", "clip_skip"):
        if getattr(settings, field) is None and getattr(defaults, field) is not None:
            changes[field] = getattr(defaults, field)
    return replace(settings, **changes) if changes else settings


def _with_sampler(settings: Settings, sampler: str | None) -> Settings:
    """The settings with what a sampler's name says of the schedule, such as "DPM++ 2M Karras"."""
    if sampler is None or sampler in SAMPLERS:
        return settings
    choice = sampler_named(sampler)
    karras = choice.karras if settings.karras is None else settings.karras
    return replace(settings, karras=karras, spacing=choice.spacing if settings.spacing is None else settings.spacing)


def _notes(reading: Reading, combination: Combination | None, family: Family, settings: Settings) -> Iterator[str]:
    """Sentences about a size far from the model's, marks in the prompt, and a prompt whose end the model cannot see."""
    (height, width), (own_height, own_width) = family.picture_size(settings), family.size
    ratio = math.sqrt(height * width / (own_height * own_width))
    if not 1 / MAX_SCALE < ratio < MAX_SCALE:
        yield (
            f"{width} x {height} is far from the {own_width} x {own_height} pixels that the model {family.name} draws:"
            " the picture may fall apart or repeat its subject."
        )
    texts = [reading.final_prompt] if combination is None else [part.text for part in combination.parts]
    for text in (*texts, reading.negative_prompt):
        if MARK.search(text):
            from ..prompt.weights import notes_on_marks

            yield from notes_on_marks(text, settings.prompt_weights)
        if cut := family.cut_off(text, settings):
            yield f"The text is too long; the model does not see the end of it: {cut!r}"
