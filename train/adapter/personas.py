"""One style, and from it one adapter for each skin tone, each person type and each of both together.

    style, on the whole dataset -> each persona, from the style's adapter, on the pictures of it alone

`output/adapters` is the folder that `Genmoji.load(adapters=...)` takes: an index and a file for each adapter. The index
also lists personas with too few pictures, and requests for them fall back. Each adapter is a run of its own
(`output/style`, `output/dark`, `output/dark-woman`), so all goes on wherever it was stopped.
"""

import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mlx_genmoji.errors import UserError
from mlx_genmoji.files import whole_file
from mlx_genmoji.lora import Entry, Index, load_adapter, write_index
from mlx_genmoji.prompt import PERSON_TYPES, SKIN_TONES, compose, parse

from ..data.captions import prompt_template
from ..data.dataset import Dataset, folder_rows, matches
from ..fit.distributed import World
from ..options import Options
from ..recipe import Loop
from .recipe import LoRARecipe
from .run import ADAPTER, train_lora

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
        if self.least < 1:
            raise UserError(f"Recipe: 'personas.least' must be 1 or more, not {self.least}.")


@dataclass(frozen=True)
class PersonasRecipe(LoRARecipe):
    """The recipe of the style, and of the personas that start from it."""

    personas: Personas = field(default_factory=Personas)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fuse_bits is not None and self.lora.init == "loftq":
            raise UserError(
                "Recipe: 'fuse_bits' and a 'lora.init' of loftq go together in a run alone, not in personas."
            )


def train_personas(recipe: PersonasRecipe, options: Options) -> Path:
    """Train the style and all personas with enough pictures; the folder of the adapters, `output/adapters`."""
    if World().size > 1:
        # The others would need the files that the first one writes.
        raise UserError(
            "Personas are for one machine: train the style on several, as a recipe of the objective 'lora', then on one"
            " the personas, with its adapter as 'start_from' and few 'loop.steps' for the style."
        )
    # The user learns of missing pictures before the style is trained for hours.
    entries = counted(recipe)
    for entry in entries:
        if entry.file is None:
            warnings.warn(
                f"no adapter for {name_of(entry)}: {entry.examples} pictures, {recipe.personas.least} are needed.",
                stacklevel=2,
            )
    style_recipe = recipe_of_style(recipe)
    whole = Dataset(style_recipe.data, style_recipe.cache_folder)
    style = recipe.output / STYLE / ADAPTER
    for entry in entries:
        if entry.file is None:
            continue
        run = style_recipe
        if name_of(entry) != STYLE:
            run = replace(
                style_recipe,
                output=recipe.output / name_of(entry),
                data=replace(recipe.data, where=_where(recipe, entry)),
                loop=recipe.personas.loop or recipe.loop,
                start_from=style,
                skin_tone=entry.skin_tone,
                person_type=entry.person_type,
                sample_prompts=tuple(prompt_of(recipe, entry, prompt) for prompt in recipe.sample_prompts),
            )
        _place(train_lora(run, options, whole), recipe.output / FOLDER / entry.file)
        # After each, so that finished adapters can be used while the rest is trained.
        if World().writes:
            _write_index(recipe.output / FOLDER, entries, style)
    return recipe.output / FOLDER


def counted(recipe: PersonasRecipe) -> list[Entry]:
    """The adapters in the order in which they are trained, the style first; without a file where pictures are too few.

    Raises UserError where the dataset's rows lack the skin tone or the person type.
    """
    rows = [row for _, row in folder_rows(recipe.data) if matches(row, recipe.data.where)]
    entries = [Entry(f"{STYLE}.safetensors", examples=len(rows))]
    for tone, kind in personas(recipe.personas):
        entry = Entry(None, tone, kind)
        count = sum(matches(row, _where(recipe, entry)) for row in rows)
        file = f"{name_of(entry)}.safetensors" if count >= recipe.personas.least else None
        entries.append(replace(entry, file=file, examples=count))
    return entries


def name_of(entry: Entry) -> str:
    """The name of an adapter's run and file: "dark-woman"."""
    return "-".join(filter(None, (entry.skin_tone, entry.person_type))) or STYLE


def _where(recipe: PersonasRecipe, entry: Entry) -> dict[str, Any]:
    """The `data.where` of a persona: pictures with its tone alone, not those of people with different tones."""
    tone = {"skin_tone": [[entry.skin_tone]]} if entry.skin_tone else {}
    return recipe.data.where | tone | ({"person_type": entry.person_type} if entry.person_type else {})


def personas(wanted: Personas) -> Iterator[tuple[str | None, str | None]]:
    """Skin tone and person type of each adapter: those of one of them first."""
    yield from ((tone, None) for tone in wanted.skin_tones)
    yield from ((None, kind) for kind in wanted.person_types)
    if wanted.combinations:
        yield from ((tone, kind) for tone in wanted.skin_tones for kind in wanted.person_types)


def recipe_of_style(recipe: PersonasRecipe) -> LoRARecipe:
    """The recipe of the first run, the style's."""
    values = {item.name: getattr(recipe, item.name) for item in fields(LoRARecipe)}
    return LoRARecipe(**values | {"objective": "lora", "output": recipe.output / STYLE, "cache": recipe.cache_folder})


def prompt_of(recipe: PersonasRecipe, entry: Entry, prompt: str) -> str:
    """A sample prompt of the style, changed to one of the persona.

    "woman astronaut, medium skin tone, flat" -> "man astronaut, dark skin tone, flat".
    """
    template = prompt_template(recipe.data) or "{prompt}"
    head, _, tail = template.partition("{prompt}")
    parsed = parse(prompt.removeprefix(head).removesuffix(tail), max_characters=None)
    subject = parsed.subject
    if entry.person_type:
        subject = re.sub(rf"\b({'|'.join(PERSON_TYPES)})\b", entry.person_type, subject)
    return compose(subject, template, entry.skin_tone or parsed.skin_tone, entry.person_type)


def _place(trained: Path, target: Path) -> None:
    """Copy a trained adapter to the folder of all adapters, whole or not at all."""
    if World().writes:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as partial:
            shutil.copyfile(trained, partial)


def _write_index(folder: Path, entries: list[Entry], style: Path) -> None:
    """List the adapters that are in the folder: in a resumed run those of the run before too."""
    entries = [entry for entry in entries if entry.file is None or (folder / entry.file).exists()]
    metadata = load_adapter(style).metadata
    write_index(folder, Index(tuple(entries), metadata.get("base_model"), metadata.get("base_sha256")))
