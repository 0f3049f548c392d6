"""The adapters that a model draws with.

The modules that read and apply adapter files are imported when the first adapter is set: most drawings need none.
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
    from .apply import WeightedAdapter
    from .persona_index import Index

AdapterSpec = str | Path | tuple[str | Path, float]
"""An adapter's file, alone or with its weight."""


class Adapters:
    """The adapters that a model draws with: a fixed list, or from a folder with an index one for each request."""

    def __init__(self, family: Family):
        self.family = family
        self.models = family.models
        self.active: list[WeightedAdapter] = []
        self._index: Index | None = None
        self._loaded: dict[str, Adapter] = {}

    def set(self, adapters: str | Path | Sequence[AdapterSpec]) -> None:
        """Use these adapters instead of those before: files with weights (1 by default), or a folder with an index.

        Raises UserError if one cannot be read or is for another model; those before then stay in use.
        """
        if not isinstance(adapters, str | Path) and not adapters:
            self._use([])
            self._index, self._loaded = None, {}
            return
        from .persona_index import is_index, read_index

        if not isinstance(adapters, str | Path) and len(adapters) == 1 and is_index(adapters[0]):
            adapters = adapters[0]
        if is_index(adapters):
            index, folder = read_index(adapters), Path(adapters)
            loaded = {entry.file: self._load(folder / entry.file) for entry in index.entries if entry.file is not None}
            self._use([(loaded[str(index.style.file)], 1.0)])
            self._index, self._loaded = index, loaded
            return
        specs = [adapters] if isinstance(adapters, str | Path) else adapters
        pairs = [spec if isinstance(spec, tuple) else (spec, 1.0) for spec in specs]
        for pair in pairs:
            if len(pair) != 2:
                raise UserError(f"An adapter is a file, or a file and its weight, not {quoted(repr(pair))}.")
            path, weight = pair
            if is_index(path):
                raise UserError(f"{path} is a folder of adapters with an index: give it alone and without a weight.")
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UserError(f"The weight of the adapter {path} must be a number, not {weight!r}.")
        # An adapter with weight 0 is not used at all.
        self._use([(self._load(path), float(weight)) for path, weight in pairs if weight != 0])
        self._index, self._loaded = None, {}

    def route(self, skin_tone: str | None, person_type: str | None) -> None:
        """Use the adapter that an indexed folder has for this request. Warns if it is not for all of the request."""
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
        """The active adapters, for a sticker's recipe."""
        return [{"name": adapter.name, "sha256": adapter.sha256, "weight": weight} for adapter, weight in self.active]

    @property
    def template(self) -> str | None:
        """The caption template of the first active adapter that has one."""
        return next(
            (adapter.metadata["template"] for adapter, _ in self.active if "template" in adapter.metadata), None
        )

    def _load(self, path: str | Path) -> Adapter:
        from .apply import packed
        from .files import load_adapter

        adapter = load_adapter(path).resolve(self.models)
        if adapter.metadata.get("init") == "loftq" and not packed(self.models):
            warnings.warn(
                f"{adapter.name} corrects the rounding of a quantized model, and this model is not quantized;"
                " it may draw worse.",
                stacklevel=4,
            )
        trained_on = adapter.metadata.get("base_sha256")
        weights = self.family.weights
        accepted = (None, self.family.dense_sha256)
        if trained_on not in accepted and (weights is None or trained_on != weights.sha256):
            model = adapter.metadata.get("base_model", "another model")
            warnings.warn(
                f"{adapter.name} was trained for the weights of {model}, which are not these; it may draw worse.",
                stacklevel=4,
            )
        return adapter

    def _use(self, adapters: list[WeightedAdapter]) -> None:
        if not adapters and not self.active:
            return
        from .apply import use

        use(self.models, adapters, self.family.dtype)
        self.active = adapters
        self.family.layers_changed()
