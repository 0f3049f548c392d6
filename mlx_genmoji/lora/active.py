"""The adapters that a model draws with.

What reads and applies adapter files is imported when the first adapter is set: most drawings need none of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, quoted
from ..families.base import Family

if TYPE_CHECKING:
    from .adapter import Adapter
    from .apply import Weighted
    from .persona_index import Index

Given = str | Path | tuple[str | Path, float]


class Adapters:
    """The adapters that a model draws with; of a folder with an index, the one that a request asks for."""

    def __init__(self, family: Family):
        self.family = family
        self.models = family.models
        self.active: list[Weighted] = []
        self._index: Index | None = None
        self._loaded: dict[str, Adapter] = {}

    def set(self, given: str | Path | Sequence[Given]) -> None:
        """Files with weights (1 by default), or a folder with an index, of which each request gets its own.

        Raises UserError where one cannot be read or is of another model, and leaves those before in use.
        """
        if not isinstance(given, str | Path) and not given:
            self._use([])
            self._index, self._loaded = None, {}
            return
        from .persona_index import is_index, read_index

        if not isinstance(given, str | Path) and len(given) == 1 and is_index(given[0]):
            given = given[0]
        if is_index(given):
            index, folder = read_index(given), Path(given)
            loaded = {entry.file: self._load(folder / entry.file) for entry in index.entries if entry.file is not None}
            self._use([(loaded[str(index.style.file)], 1.0)])
            self._index, self._loaded = index, loaded
            return
        listed = [given] if isinstance(given, str | Path) else given
        pairs = [one if isinstance(one, tuple) else (one, 1.0) for one in listed]
        for pair in pairs:
            if len(pair) != 2:
                raise UserError(f"An adapter is a file, or a file and its weight, not {quoted(repr(pair))}.")
            path, weight = pair
            if is_index(path):
                raise UserError(f"{path} is a folder of adapters with an index: give it alone, without a weight.")
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UserError(f"The weight of the adapter {path} must be a number, not {weight!r}.")
        # A weight of 0 is no adapter.
        self._use([(self._load(path), float(weight)) for path, weight in pairs if weight != 0])
        self._index, self._loaded = None, {}

    def route(self, skin_tone: str | None, person_type: str | None) -> None:
        """Use what a folder has for this; warns where that is less than what is asked for."""
        if self._index is None:
            return
        choice = self._index.choose(skin_tone, person_type)
        if choice.note:
            warnings.warn(choice.note, stacklevel=3)
        chosen = self._loaded[choice.file]
        if self.active != [(chosen, 1.0)]:
            self._use([(chosen, 1.0)])

    @property
    def routes(self) -> bool:
        """Whether each request gets the adapter for its skin tone and person type."""
        return self._index is not None

    @property
    def recipe(self) -> list[dict[str, Any]]:
        """What a sticker's recipe says of them."""
        return [{"name": one.name, "sha256": one.sha256, "weight": weight} for one, weight in self.active]

    @property
    def template(self) -> str | None:
        """The caption template of the first that has one."""
        return next((one.metadata["template"] for one, _ in self.active if "template" in one.metadata), None)

    def _load(self, path: str | Path) -> Adapter:
        from .apply import packed
        from .files import load_adapter

        adapter = load_adapter(path).resolve(self.models)
        if adapter.metadata.get("init") == "loftq" and not packed(self.models):
            warnings.warn(
                f"{adapter.name} makes up for the rounding of a quantized model, which this is not; it may draw worse.",
                stacklevel=4,
            )
        trained_on = adapter.metadata.get("base_sha256")
        weights = self.family.weights
        known = (None, self.family.dense_sha256)
        if trained_on not in known and (weights is None or trained_on != weights.sha256):
            model = adapter.metadata.get("base_model", "another model")
            warnings.warn(
                f"{adapter.name} was trained on other weights, those of {model}; it may draw worse.", stacklevel=4
            )
        return adapter

    def _use(self, adapters: list[Weighted]) -> None:
        if not adapters and not self.active:
            return
        from .apply import use

        use(self.models, adapters, self.family.dtype)
        self.active = adapters
        self.family.layers_changed()
