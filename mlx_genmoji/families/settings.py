"""Options of a drawing that the family carries out: the picture's size, how texts are read, timesteps and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..choices import NOISE_SOURCES, SPACINGS
from ..errors import UserError

MAX_SIDE = 4096
"""Of a picture, in pixels."""
MAX_CLIP_SKIP = 100


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `Genmoji.generate` under their names, where they are explained; None is the model's default."""

    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    spacing: str | None = None
    karras: bool | None = None
    prompt_weights: bool = False
    long_prompts: bool = False
    noise: str = "mlx"

    def __post_init__(self) -> None:
        """Raise UserError for a value that no model takes."""
        for name in ("width", "height"):
            side = getattr(self, name)
            if side is not None and not (_is_whole(side) and 1 <= side <= MAX_SIDE):
                raise UserError(f"The {name} must be a whole number from 1 to {MAX_SIDE} pixels, not {side!r:.80}.")
        skipped = self.clip_skip
        if skipped is not None and not (_is_whole(skipped) and 0 <= skipped <= MAX_CLIP_SKIP):
            raise UserError(f"clip_skip must be a whole number from 0 to {MAX_CLIP_SKIP}, not {skipped!r:.80}.")
        if self.spacing is not None and self.spacing not in SPACINGS:
            raise UserError(f"There is no spacing {self.spacing!r:.80}; there are {', '.join(SPACINGS)}.")
        if self.noise not in NOISE_SOURCES:
            raise UserError(f"There is no noise {self.noise!r:.80}; there are {' and '.join(NOISE_SOURCES)}.")

    @classmethod
    def of(cls, *, size: int | None, width: int | None, height: int | None, **others: Any) -> Settings:
        """Settings with a `size`, which is the width and the height of a square. Raises UserError for both."""
        if size is not None and not (width is None and height is None):
            raise UserError("Give either the size of a square picture, or its width and height.")
        return cls(width=size if width is None else width, height=size if height is None else height, **others)

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not the default, for a recipe."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The settings in a recipe, whose other fields are passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def picture_size(self, own: tuple[int, int], multiple: int) -> tuple[int, int]:
        """Height and width of the picture, in pixels.

        own: the model's. multiple: the side of a latent in pixels. Raises UserError for sides that are no multiples of
        it, and names the nearest that are.
        """
        size = (self.height or own[0], self.width or own[1])
        nearest = [max(round(side / multiple), 1) * multiple for side in size]
        if list(size) != nearest:
            raise UserError(
                f"The model draws widths and heights that are multiples of {multiple} pixels, not"
                f" {size[1]} x {size[0]}; the nearest are {nearest[1]} x {nearest[0]}."
            )
        return size


DEFAULT_SETTINGS = Settings()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
