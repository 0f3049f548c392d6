"""Whether a loaded model would draw a stored sticker again."""

from __future__ import annotations

from PIL import Image

from ..errors import UserError, quoted
from ..families.base import Family
from ..lora.active import Adapters
from ..pictures import fingerprint, fit_mask, fit_picture
from .recipe import ModelFacts, Recipe


def check_replay(
    recipe: Recipe,
    loaded: ModelFacts,
    family: Family,
    adapters: Adapters,
    image: Image.Image | None,
    mask: Image.Image | None,
) -> None:
    """Raise UserError if the loaded model, with these pictures and adapters, would draw another sticker."""
    model = recipe.model
    if model.sha256 != loaded.sha256:
        raise UserError(f"The sticker was drawn with other weights, those of {model.name!r}: load that model.")
    if model.quantization != loaded.quantization:
        theirs, ours = (quoted(value or "none") for value in (model.quantization, loaded.quantization))
        raise UserError(f"The sticker was drawn with the quantization {theirs}; this model has {ours}.")
    if recipe.seed is None:
        raise UserError("The sticker was drawn from noise that a program gave, which is not in the recipe.")
    size = family.picture_size(recipe.settings)
    for what, given, fit in (("image", image, fit_picture), ("mask", mask, fit_mask)):
        expected = recipe.image.get(f"{what}_sha256")
        if expected != (None if given is None else fingerprint(fit(given, *size))):
            wanted = f"needs the {what} that it started from" if expected else f"started from no {what}"
            raise UserError(f"The sticker {wanted}; {'another one' if given else 'none'} was given.")
    adapters.route(recipe.skin_tone, recipe.person_type)
    if list(recipe.adapters) != adapters.recipe:
        names = ", ".join(f"{adapter['name']} with a weight of {adapter['weight']}" for adapter in recipe.adapters)
        raise UserError(f"The sticker was drawn with {names or 'no adapters'}; give the same.")
