"""The adapters that a pipeline draws with: several at once with weights, exchanged without loading the model again."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..errors import UserError, quoted
from ..quantization import QuantizedLayer
from .adapter import Adapter, Layer
from .files import load_adapter
from .layer_tree import Models, adaptable, detach, replace
from .layers import LoRALayer, dense_weight, low_rank, output_norms, weight_shape, wrap
from .persona_index import Index, is_index, read_index

Weighted = tuple[Adapter, float]
Given = str | Path | tuple[str | Path, float]


def use(models: Models, adapters: Sequence[Weighted], dtype: mx.Dtype) -> None:
    """Make `models` compute with adapters, each with its weight, in place of those before; with none, as they were.

    The ranks of a layer's adapters are put side by side as one pair, kept in `dtype`. A weight of 0 is none of an
    adapter, of a DoRA too: there a weight is between the layer as it is and as the DoRA makes it. Raises UserError
    where an adapter is of another model; the models are left as they were.
    """
    changes: dict[str, list[tuple[Layer, float]]] = {}
    for adapter, weight in adapters:
        for path, layer in adapter.resolve(models).layers.items():
            changes.setdefault(path, []).append((layer, weight))
    layers = adaptable(models)
    wrapped = {}
    for path, parts in changes.items():
        wrapped[path] = _together(layers[path], parts, dtype)
        # One at a time: a DoRA needs the dense weight of its layer.
        mx.eval(wrapped[path].lora_a, wrapped[path].lora_b, wrapped[path].get("excess"))
    detach(models)
    replace(models, wrapped)


def _together(base: nn.Module, parts: Sequence[tuple[Layer, float]], dtype: mx.Dtype) -> LoRALayer:
    shape = weight_shape(base)
    downs, ups, excess = [], [], None
    for change, weight in parts:
        down, up = change.down.astype(mx.float32), change.up.astype(mx.float32) * (weight * change.scale)
        down = down.reshape(change.rank, *shape[1:])
        if change.dora_scale is not None:
            dense = dense_weight(base).astype(mx.float32)
            changed = dense + low_rank(change.scale, down, change.up.astype(mx.float32), shape)
            gain = change.dora_scale.astype(mx.float32) / output_norms(changed)
            up = up * gain[:, None]
            more = weight * (gain - 1)
            excess = more if excess is None else excess + more
        downs.append(down)
        ups.append(up)
    layer = wrap(base, mx.concatenate(downs).astype(dtype), mx.concatenate(ups, axis=1).astype(dtype), 1.0)
    if excess is not None:
        layer.excess = excess.astype(dtype)
    layer.merges = not isinstance(base, QuantizedLayer)
    layer.freeze()
    layer.eval()
    return layer


def _packed(models: Models) -> bool:
    return any(isinstance(layer, QuantizedLayer) for layer in adaptable(models).values())


class Adapters:
    """Which adapters a pipeline draws with, and which a request asks for."""

    def __init__(
        self, models: Models, dtype: mx.Dtype, base_sha256: Callable[[], str | None], dense_sha256: str | None = None
    ):
        """dense_sha256: of the weights that those of a packed model were before."""
        self.models = models
        self.dtype = dtype
        self.base_sha256 = base_sha256
        self.dense_sha256 = dense_sha256
        self.active: list[Weighted] = []
        self._folder: Path | None = None
        self._index: Index | None = None
        self._loaded: dict[str, Adapter] = {}
        self._fixed = False

    def set(self, given: str | Path | Sequence[Given]) -> None:
        """Files with weights (1 where not said), or a folder with an index, of which each request gets its own.

        Raises UserError where one cannot be read or is of another model, and leaves those before in use.
        """
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
        if self._index is None or self._fixed:
            return
        choice = self._index.choose(skin_tone, person_type)
        if choice.note:
            warnings.warn(choice.note, stacklevel=3)
        chosen = self._loaded[choice.file]
        if self.active != [(chosen, 1.0)]:
            self._use([(chosen, 1.0)])

    @contextmanager
    def of_recipe(self, recipe: Mapping[str, Any]) -> Iterator[None]:
        """Within, those that a recipe was drawn with. Raises UserError where they are not those that there are."""
        self.route(recipe.get("skin_tone"), recipe.get("person_type"))
        wanted = recipe.get("adapters", [])
        if wanted != self.recipe:
            try:
                names = ", ".join(f"{one['name']} with a weight of {one['weight']}" for one in wanted)
            except (KeyError, TypeError):
                names = "others"
            raise UserError(f"The sticker was drawn with {names or 'no adapters'}; give the same.")
        self._fixed = True
        try:
            yield
        finally:
            self._fixed = False

    @property
    def recipe(self) -> list[dict[str, Any]]:
        """What a sticker's recipe says of them."""
        return [{"name": one.name, "sha256": one.sha256, "weight": weight} for one, weight in self.active]

    @property
    def template(self) -> str | None:
        """The caption template of the first that has one."""
        return next((one.metadata["template"] for one, _ in self.active if "template" in one.metadata), None)

    def _load(self, path: str | Path) -> Adapter:
        adapter = load_adapter(path).resolve(self.models)
        if adapter.metadata.get("init") == "loftq" and not _packed(self.models):
            warnings.warn(
                f"{adapter.name} makes up for the rounding of a quantized model, which this is not; it may draw worse.",
                stacklevel=4,
            )
        trained_on = adapter.metadata.get("base_sha256")
        if trained_on not in (None, self.dense_sha256) and trained_on != self.base_sha256():
            model = adapter.metadata.get("base_model", "another model")
            warnings.warn(
                f"{adapter.name} was trained on other weights, those of {model}; it may draw worse.", stacklevel=4
            )
        return adapter

    def _use(self, adapters: list[Weighted]) -> None:
        use(self.models, adapters, self.dtype)
        self.active = adapters
