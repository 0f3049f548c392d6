"""`genmoji models`: the models that have a name, what is on this machine, and what an id on the hub holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_genmoji.errors import UserError

from . import AdapterFiles, AllowPickle, VaeOption, parse_adapter

if TYPE_CHECKING:
    from mlx_genmoji.presets import Preset

models = typer.Typer(
    help="List the models that have a name, add others, and see what an id on the hub holds.\n\n"
    "For example: genmoji models, or genmoji models info fofr/sdxl-emoji",
    add_completion=False,
    rich_markup_mode=None,
)

WIDTHS = (18, 6, 9, 9, 9, 7, 6, 0)
"""Of the table's columns."""
HEAD = ("name", "here", "download", "memory", "in 4 bits", "size", "steps", "licence")
Name = Annotated[str, typer.Argument(metavar="NAME")]


@models.callback(invoke_without_command=True)
def table(context: typer.Context) -> None:
    """List the models that have a name, add others, and see what an id on the hub holds."""
    if context.invoked_subcommand is not None:
        return
    from mlx_genmoji.presets import shipped_presets, user_presets

    typer.echo(_row(*HEAD))
    typer.echo(_row("builtin", "yes", "", "0.1 GB", "", "128 px", "25", "MIT"))
    typer.echo("    the model that ships with mlx-genmoji and draws by default")
    for preset in (*user_presets().values(), *shipped_presets().values()):
        typer.echo("\n".join(_entry(preset)))
    others = sorted(_others())
    if others:
        typer.echo("\nAlso on this machine:")
        for name in others:
            typer.echo(f"    {name}")
    typer.echo('\nDraw with one: genmoji generate "octopus" --model sdxl-emoji. Look up an id: genmoji models info ID.')


@models.command()
def add(
    name: Name,
    base: Annotated[str, typer.Option(metavar="FOLDER_OR_ID", help="The model: a diffusers folder, or owner/name.")],
    adapter: AdapterFiles = [],  # noqa: B006
    trigger: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Words to add to a prompt that lacks them: an emoji of.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="How closely to follow the prompt.")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler; see genmoji generate --help.")] = None,
    spacing: Annotated[str | None, typer.Option(help="leading, trailing or linspace.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Width and height in pixels.")] = None,
    clip_skip: Annotated[int | None, typer.Option(min=0, help="Last layers of the text encoder to leave out.")] = None,
    vae: VaeOption = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Keep a base with adapters and settings under NAME, which --model then takes.

    For example: genmoji models add toon --base a/folder --adapter toon.safetensors:0.8 --trigger "toon style"
    """
    from mlx_genmoji.families.base import Settings
    from mlx_genmoji.presets import Preset, add_preset
    from mlx_genmoji.samplers import SAMPLERS, sampler_named

    Settings.of(size=size, width=None, height=None, spacing=spacing, clip_skip=clip_skip)
    if sampler is not None and sampler not in SAMPLERS:
        sampler_named(sampler)
    pairs = tuple((_kept(str(path)), weight) for path, weight in map(parse_adapter, adapter))
    preset = Preset(
        name=name,
        base=_kept(base),
        adapters=pairs,
        vae=None if vae is None else _kept(vae),
        allow_pickle=allow_pickle,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        spacing=spacing,
        size=size,
        clip_skip=clip_skip,
        trigger=trigger,
    )
    add_preset(preset)
    typer.echo("\n".join(_entry(preset)))
    typer.echo(f'Draw with it: genmoji generate "flying pig" --model {name}')


@models.command()
def remove(name: Name) -> None:
    """Forget the model that was added as NAME; its files stay.

    For example: genmoji models remove toon
    """
    from mlx_genmoji.presets import remove_preset

    remove_preset(name)


@models.command()
def info(
    model: Annotated[
        str, typer.Argument(metavar="NAME_OR_FOLDER_OR_ID", help="A name in the table, a folder, a file, or an id.")
    ],
) -> None:
    """Say what a name, folder, file or id of the hub holds, and the commands that use it.

    For example: genmoji models info fofr/sdxl-emoji
    """
    from mlx_genmoji.hub import ID, preset_of

    preset = preset_of(model)
    if preset is not None:
        lines = [*_entry(preset), f'  genmoji generate "flying pig" --model {preset.name}']
    elif Path(model).exists() or model == "builtin":
        lines = list(_local(model))
    elif match := ID.fullmatch(model):
        from mlx_genmoji.hub_info import describe
        from mlx_genmoji.hub_repository import Repository

        lines = list(describe(Repository(match["id"], match["revision"] or "main")))
    else:
        from mlx_genmoji.hub import resolve

        resolve(model)
        raise UserError(f"There is no model {model}.")
    typer.echo("\n".join(lines))


def _row(name: str, *cells: str) -> str:
    return " ".join(text.ljust(width) for text, width in zip((name, *cells), WIDTHS, strict=True)).rstrip()


def _entry(preset: Preset) -> Iterator[str]:
    """A preset in two lines: its row of the table, then what it is made of."""
    sizes = ["" if x is None else f"{x:.1f} GB" for x in (preset.download, preset.memory(16), preset.memory(4))]
    size = "" if preset.size is None else f"{preset.size} px"
    steps = "" if preset.steps is None else str(preset.steps)
    yield _row(preset.name, _here(preset), *sizes, size, steps, preset.licence)
    weighted = [f"{path}:{weight:g}" if weight is not None else path for path, weight in preset.adapters]
    details = [
        preset.about,
        " + ".join([preset.base, *weighted]),
        preset.trigger and f'trigger "{preset.trigger}"',
        preset.guidance is not None and f"guidance {preset.guidance:g}",
        preset.sampler and f"sampler {preset.sampler}",
        preset.spacing and f"{preset.spacing} timesteps",
        preset.vae and f"autoencoder {preset.vae}",
    ]
    yield f"    {'; '.join(detail for detail in details if detail)}"


def _here(preset: Preset) -> str:
    """How much of a preset is on this machine."""
    from mlx_genmoji.hub import ADAPTER_ID, ID
    from mlx_genmoji.hub_repository import AdapterRepository, Repository

    found = []
    match = ID.fullmatch(preset.base)
    if Path(preset.base).exists() or match is None:
        found.append(Path(preset.base).exists())
    else:
        repository = Repository(match["id"], match["revision"] or "main", preset.allow_pickle)
        found.append(any(repository.cached(half) is not None for half in (True, False)))
    for path, _ in preset.adapters:
        match = None if Path(path).exists() else ADAPTER_ID.fullmatch(path)
        if match is None:
            found.append(Path(path).exists())
            continue
        adapter = AdapterRepository(match["id"], match["revision"] or "main", preset.allow_pickle, file=match["file"])
        found.append(adapter.cached() is not None)
    return "yes" if all(found) else "partly" if any(found) else "no"


def _others() -> Iterator[str]:
    """The ids of the models in the hub's cache that no preset is based on."""
    from mlx_genmoji.hub_repository import INDEX, cache_folder, id_and_commit
    from mlx_genmoji.presets import shipped_presets, user_presets

    known = {preset.base for preset in (*shipped_presets().values(), *user_presets().values())}
    for index in cache_folder().glob(f"models--*/snapshots/*/{INDEX}"):
        name = id_and_commit(index.parent)[0]
        if name not in known:
            yield name


def _local(model: str) -> Iterator[str]:
    """Lines about a folder or file on this machine."""
    from mlx_genmoji.checkpoint.file_kinds import kind_of
    from mlx_genmoji.checkpoint.weight_files import PICKLES, header_of
    from mlx_genmoji.hub import BUILTIN, BUILTIN_NAME
    from mlx_genmoji.lora.persona_index import is_index

    path = BUILTIN if model == BUILTIN_NAME else Path(model)
    if path.is_file():
        if path.suffix in PICKLES:
            yield f"{path} is a pickle; this command reads it, if it is a checkpoint, without running code."
            yield f"  genmoji convert {path} --allow-pickle -o FOLDER"
            return
        kind = kind_of(header_of(path))
        if kind is None:
            yield f"{path} is a checkpoint in one file."
            yield f"  genmoji convert {path} -o FOLDER"
        else:
            yield f"{path} is {kind}."
            if "--adapter" in kind.advice:
                yield f'  genmoji generate "flying pig" --model BASE --adapter {path}'
    elif is_index(path):
        yield f"{path} is a folder of adapters with an index."
        yield f'  genmoji generate "flying pig" --model BASE --adapters {path}'
    elif (path / "model_index.json").is_file():
        from mlx_genmoji.families import pipeline_of

        pipeline_of(path)
        yield f"{model} is a model on this machine."
        yield f'  genmoji generate "flying pig" --model {model}'
    else:
        from mlx_genmoji.lora.adapter_folder import choose

        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        chosen = choose(names, None, model)
        yield f"{model} is the folder of an adapter: {', '.join((*chosen.weights, *chosen.embeddings))}."
        yield f'  genmoji generate "flying pig" --model BASE --adapter {model}'


def _kept(place: str) -> str:
    """A path of this machine in full, so that the name works in every folder; an id as it is."""
    return str(Path(place).resolve()) if Path(place).exists() else place
