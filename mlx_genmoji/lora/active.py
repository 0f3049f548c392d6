"""The adapters that a model draws with.

The modules that read and apply adapter files are imported when the first adapter is set: most drawings need none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import read_styles
from ..errors import UserError, quoted
from ..families.base import Family
from ..textual_inversion import Learned, joined

if TYPE_CHECKING:
    from .adapter import Adapter
    from .apply import WeightedAdapter
    from .persona_index import Index

AdapterSpec = str | Path | tuple[str | Path, float | None]
"""An adapter's file, folder or hub id, alone or with its weight. None is the weight that its card recommends, or 1."""


class Adapters:
    """The adapters that a model draws with: a fixed list, or from a folder with an index one for each request."""

    def __init__(self, family: Family):
        self.family = family
        self.models = family.models
        self.active: list[WeightedAdapter] = []
        self.learned = Learned()
        """The tokens that they bring."""
        self._index: Index | None = None
        self._loaded: dict[str, Adapter] = {}

    def set(self, adapters: str | Path | Sequence[AdapterSpec], allow_pickle: bool = False) -> None:
        """Use these adapters instead of those before: files with weights, or a folder with an index.

        allow_pickle: read pickles, without running any code of theirs. Raises UserError if one cannot be read or is for
        another model; those before then stay in use.
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
        pairs = [spec if isinstance(spec, tuple) else (spec, None) for spec in specs]
        for pair in pairs:
            if len(pair) != 2:
                raise UserError(f"An adapter is a file, or a file and its weight, not {quoted(repr(pair))}.")
            path, weight = pair
            if is_index(path):
                raise UserError(f"{path} is a folder of adapters with an index: give it alone and without a weight.")
            if weight is not None and (not isinstance(weight, int | float) or not math.isfinite(weight)):
                raise UserError(f"The weight of the adapter {path} must be a number, not {weight!r}.")
        # An adapter with weight 0 is not used at all.
        loaded_pairs = [(self._load(path, allow_pickle), weight) for path, weight in pairs if weight != 0]
        self._use([(a, (a.card.weight or 1.0) if weight is None else float(weight)) for a, weight in loaded_pairs])
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

    @property
    def styles(self) -> dict[str, str]:
        """The templates of the styles that the active adapters declare, by their names.

        In a file's header: `styles`, a JSON object. Raises UserError where it is not one of texts with "{prompt}".
        """
        styles: dict[str, str] = {}
        for adapter, _ in self.active:
            if "styles" in adapter.metadata:
                styles |= read_styles(adapter.metadata["styles"], adapter.name)
        return styles

    @property
    def notes(self) -> tuple[str, ...]:
        """What the cards of the active adapters say: sentences."""
        sentences = (adapter.card.sentence(adapter.name, weight) for adapter, weight in self.active)
        return tuple(sentence for sentence in sentences if sentence is not None)

    def with_triggers(self, text: str, negative_prompt: str, template: str, add: bool) -> tuple[str, tuple[str, ...]]:
        """The template with the triggers that a prompt lacks, and notes: `lora.triggers`."""
        if not self.active:
            return template, ()
        from .triggers import with_triggers

        return with_triggers([adapter for adapter, _ in self.active], text, negative_prompt, template, add)

    def _load(self, path: str | Path, allow_pickle: bool = False) -> Adapter:
        from .apply import packed
        from .files import load_adapter

        adapter = load_adapter(path, allow_pickle)
        try:
            adapter = adapter.resolve(self.models)
        except UserError as error:
            base = adapter.card.base_model
            raise UserError(f"{error} It is for {base}." if base else str(error)) from None
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

        learned = [adapter.learned for adapter, _ in adapters]
        tokens = joined([token for each in learned for token in each.tokens])
        aliases = {word: text for each in reversed(learned) for word, text in each.aliases.items()}
        name = next((adapter.name for adapter, _ in adapters if adapter.learned.tokens), "the adapter")
        merged = Learned(tokens, aliases)
        self.family.learn(merged, name)
        self.learned = merged
        use(self.models, adapters, self.family.dtype)
        self.active = adapters
        self.family.layers_changed()
