"""One style, and from it one adapter for each skin tone, each person type and each of both together.

    style, on the whole dataset -> each persona, from the style's adapter, on the pictures of it alone

`output/adapters` is the folder that `Genmoji.load(adapters=...)` routes requests by: an index and a file for each. Of
what has too few pictures the index says so, and requests fall back. Each adapter is a run of its own (`output/style`,
`output/dark`, `output/dark-woman`), so all goes on wherever it was stopped.
"""

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mlx_genmoji.errors import UserError
from mlx_genmoji.lora import Entry, Index, load_adapter, write_index
from mlx_genmoji.prompt import PERSON_TYPES, SKIN_TONES

from .data import matches, read_metadata
from .distributed import World
from .lora import LoRARecipe, train_lora
from .recipe import Loop

STYLE = "style"
FOLDER = "adapters"


@dataclass(frozen=True)
class Personas:
    """Which adapters are made from the style's."""

    skin_tones: tuple[str, ...] = SKIN_TONES
    person_types: tuple[str, ...] = PERSON_TYPES
    combinations: bool = True
    """Whether also of each skin tone with each person type."""
    least: int = 50
    """Pictures that an adapter needs; with fewer, there is none."""
    loop: Loop | None = None
    """How they are fitted; without it, as the style is."""

    def __post_init__(self) -> None:
        for name, known in (("skin_tones", SKIN_TONES), ("person_types", PERSON_TYPES)):
            for value in getattr(self, name):
                if value not in known:
                    raise UserError(f"Recipe: 'personas.{name}' has {value!r}; there are {', '.join(known)}.")


@dataclass(frozen=True)
class PersonasRecipe(LoRARecipe):
    """The recipe of the style, and what is made from it."""

    personas: Personas = field(default_factory=Personas)


def train_personas(recipe: PersonasRecipe, resume: bool) -> Path:
    """Train the style and all personas with enough pictures; the folder of the adapters, `output/adapters`."""
    rows = [row for folder in recipe.data.folders for row in read_metadata(folder)]
    rows = [row for row in rows if matches(row, recipe.data.where)]
    cache = recipe.cache or recipe.output.parent / "cache"
    style_recipe = _lora_recipe(recipe, objective="lora", output=recipe.output / STYLE, cache=cache)
    style = train_lora(style_recipe, resume)
    said = load_adapter(style).metadata
    entries = [_place(recipe, style, Entry(f"{STYLE}.safetensors", examples=len(rows)))]
    for tone, kind in personas(recipe.personas):
        name = "-".join(filter(None, (tone, kind)))
        where = recipe.data.where | ({"skin_tone": [[tone]]} if tone else {}) | ({"person_type": kind} if kind else {})
        count = sum(matches(row, where) for row in rows)
        if count < recipe.personas.least:
            warnings.warn(f"no adapter for {name}: {count} pictures, {recipe.personas.least} are needed.", stacklevel=2)
            entries.append(Entry(None, tone, kind, count))
        else:
            own = replace(
                style_recipe,
                output=recipe.output / name,
                data=replace(recipe.data, where=where),
                loop=recipe.personas.loop or recipe.loop,
                start_from=style,
                skin_tone=tone,
                person_type=kind,
            )
            trained = train_lora(own, resume)
            entries.append(_place(recipe, trained, Entry(f"{name}.safetensors", tone, kind, count)))
        # After each, so that what there is can be drawn with while the rest is trained.
        if World().writes:
            index = Index(tuple(entries), said.get("base_model"), said.get("base_sha256"))
            write_index(recipe.output / FOLDER, index)
    return recipe.output / FOLDER


def personas(wanted: Personas) -> Iterator[tuple[str | None, str | None]]:
    """Skin tone and person type of each adapter: those of one of them first."""
    yield from ((tone, None) for tone in wanted.skin_tones)
    yield from ((None, kind) for kind in wanted.person_types)
    if wanted.combinations:
        yield from ((tone, kind) for tone in wanted.skin_tones for kind in wanted.person_types)


def _lora_recipe(recipe: PersonasRecipe, **changes: Any) -> LoRARecipe:
    own = {item.name: getattr(recipe, item.name) for item in fields(LoRARecipe)}
    return LoRARecipe(**own | changes)


def _place(recipe: PersonasRecipe, trained: Path, entry: Entry) -> Entry:
    """Copy a trained adapter to the folder of all, moved into place when whole."""
    target = recipe.output / FOLDER / str(entry.file)
    if World().writes:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copyfile(trained, partial)
        partial.replace(target)
    return entry
