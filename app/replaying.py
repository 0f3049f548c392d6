"""What `genmoji generate --replay` and `genmoji show` do with the recipe in a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_genmoji.errors import UserError

from .generating import DrawingRequest, loading

if TYPE_CHECKING:
    from PIL import Image

    from mlx_genmoji import Sticker


def replayed(request: DrawingRequest, source: Path, image: Image.Image | None, mask: Image.Image | None) -> Sticker:
    """The sticker of the PNG `source`, drawn again. Raises UserError if it has no recipe, or by another model."""
    from mlx_genmoji import Genmoji

    recipe = recipe_of(source)
    pipeline = Genmoji.load(request.model or model_of(recipe, source), **loading(request))
    return pipeline.replay(recipe, image=image, mask=mask)


def recipe_of(png: Path) -> dict[str, Any]:
    """The recipe in a PNG. Raises UserError if the file cannot be read or holds none."""
    from mlx_genmoji.pictures import UNREADABLE
    from mlx_genmoji.sticker import RECIPE_KEY, read_recipe

    try:
        recipe = read_recipe(png)
    except FileNotFoundError:
        raise UserError(f"There is no file {png}.") from None
    except UNREADABLE:
        raise UserError(f"{png} cannot be read as a picture.") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{png} holds no recipe ({RECIPE_KEY!r} in its metadata), so it cannot be drawn again.")
    return recipe


def model_of(recipe: dict[str, Any], png: Path) -> str:
    """The name by which the model of a recipe is loaded. Raises UserError if it names only a folder."""
    from mlx_genmoji.hub import BUILTIN_NAME

    model = recipe.get("model")
    fields = model if isinstance(model, dict) else {}
    name, revision = fields.get("name"), fields.get("revision")
    if name == BUILTIN_NAME:
        return BUILTIN_NAME
    if not revision:
        raise UserError(f"{png} was drawn by the model {name!r}; give its folder with --model.")
    return f"{name}@{revision}"
