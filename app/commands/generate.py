"""`genmoji generate`: a prompt in, pictures or stickers out; or a PNG in, the same one again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from mlx_genmoji.errors import UserError
from mlx_genmoji.prompt.lexicon import PERSON_TYPES, SkinTone

from ..generating import (
    SAMPLER_NAMES,
    TARGET_NAMES,
    DrawingOptions,
    DrawingRequest,
    NoiseSource,
    Spacing,
    Writer,
    checked_paths,
    loading,
    open_optional,
    print_notes,
    print_seeds,
    progress_bar,
    targets_named,
)
from . import AdapterFiles, AllowPickle, VaeOption, parse_adapter

_SETTINGS = {
    **dict.fromkeys(("size", "width", "height", "clip_skip", "spacing", "karras")),
    "prompt_weights": False,
    "long_prompts": False,
    "noise": "mlx",
}
"""The defaults of the options that are passed on only where they are given."""


def generate(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", show_default=False, help='What to draw: "flying pig", or without quotes.'),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many candidates to draw.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed draws the same picture; candidate i has seed + i. [default: random]"),
    ] = None,
    skin_tone: Annotated[
        SkinTone | None, typer.Option(case_sensitive=False, help="Skin tone of the people in the picture.")
    ] = None,
    person_type: Annotated[
        str | None,
        typer.Option(metavar=f"<{'|'.join(PERSON_TYPES)}>", help="Who the people in the picture are."),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            metavar="STYLE",
            help="A style of the model: 3d or flat for the built-in one. [default: the model's first, 3d]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            help='The model: a diffusers folder, owner/name[@revision] on the Hugging Face hub, or "builtin".'
            " [default: builtin]",
        ),
    ] = None,
    vae: VaeOption = None,
    adapter: AdapterFiles = [],  # noqa: B006
    adapters: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder of adapters with an index; the skin tone and person type choose one of them.",
        ),
    ] = None,
    trigger: Annotated[
        bool,
        typer.Option("--trigger/--no-trigger", help="Add an adapter's trigger words to a prompt that lacks them."),
    ] = True,
    allow_pickle: AllowPickle = False,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How closely to follow the prompt; 1 or less turns guidance off. [default: the model's]"),
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What not to draw.")] = "",
    rewrite: Annotated[
        str,
        typer.Option(
            metavar="MODEL|none",
            help="A language model that adds details to a short prompt: smollm2, or the id or folder of an mlx-lm"
            " model. See genmoji rewrite.",
        ),
    ] = "none",
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Draw a combination in one piece, where the built-in model would draw it in parts: pig, wings.",
        ),
    ] = False,
    variety: Annotated[
        float,
        typer.Option(
            help="How much the built-in model's candidates differ, from 0 (each as the plain prompt draws it) to 1: for"
            " example genmoji generate pig -n 4 --variety 0.5."
        ),
    ] = 1.0,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(SAMPLER_NAMES)}>",
            help='The sampler; also the name of a diffusers class, or of A1111\'s menu: "DPM++ 2M Karras".'
            " [default: the model's]",
        ),
    ] = None,
    spacing: Annotated[
        Spacing | None,
        typer.Option(
            case_sensitive=False,
            help="How timesteps are spaced; trailing for Lightning and Turbo. [default: the model's]",
        ),
    ] = None,
    karras: Annotated[
        bool | None, typer.Option("--karras/--no-karras", help="Use Karras' sigmas. [default: the model's]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Width and height of the picture in pixels. [default: the model's]")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Width of a picture that is not square.")] = None,
    height: Annotated[int | None, typer.Option(help="Height of a picture that is not square.")] = None,
    clip_skip: Annotated[
        int | None,
        typer.Option(
            help="How many of the text encoder's last layers to leave out, counted as in diffusers: 1 is what A1111"
            " calls clip skip 2, 0 leaves out none. [default: 0]"
        ),
    ] = None,
    prompt_weights: Annotated[
        bool, typer.Option("--prompt-weights", help="Read (word:1.3), ((word)) and [word] as A1111 does.")
    ] = False,
    long_prompts: Annotated[
        bool, typer.Option("--long-prompts", help="Read more than 75 tokens, in chunks, instead of cutting the prompt.")
    ] = False,
    noise: Annotated[
        NoiseSource,
        typer.Option(
            case_sensitive=False,
            help="Whose noise a seed stands for: mlx, or torch, which gives the picture of diffusers.",
        ),
    ] = "mlx",
    image: Annotated[
        Path | None, typer.Option(help="A picture to start from (PNG, JPEG or WebP): it becomes an emoji.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of --image changes, from 0 to 1. [default: 0.8]")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="For inpainting models: white where --image is repainted.")] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw a sticker again from the recipe in its file, without a PROMPT."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE_OR_FOLDER/",
            help="The file to write, .png, .webp, .jpg or .heic (an iOS glyph), or a folder with a slash at its end;"
            " with -n, pig.png becomes pig-1.png, pig-2.png and so on. [default: the prompt's words, as a PNG]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist. Without it, new ones get a number.")
    ] = False,
    transparent: Annotated[bool, typer.Option("--transparent", help="Remove the white background.")] = False,
    format: Annotated[
        list[str],
        typer.Option(
            metavar=f"<{'|'.join(TARGET_NAMES)}|discord|all>",
            help="Write the sticker as this place takes it; repeatable. See genmoji stickers.",
        ),
    ] = [],  # noqa: B006
    no_recipe: Annotated[
        bool, typer.Option("--no-recipe", help="Do not write into the file how it was made (prompt, seed, model).")
    ] = False,
) -> None:
    """Draw a genmoji of PROMPT as a PNG file.

    For example: genmoji generate "flying pig" -n 4 --style flat -o pigs/
    """
    prompt = " ".join(words) if words else None
    settings = {name: x for name, x in locals().items() if name in _SETTINGS and x != _SETTINGS[name]}
    options = DrawingOptions(
        count=count,
        seed=seed,
        skin_tone=skin_tone,
        person_type=person_type and person_type.lower(),
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        rewrite=None if rewrite == "none" else rewrite,
        sampler=_sampler(sampler),
        strength=strength,
        combine=not whole,
        variety=variety,
        trigger=trigger,
        style=style,
        settings=settings,
    )
    source = prompt if replay is None else replay
    if source is None or (prompt is not None and replay is not None):
        raise UserError('Give either a PROMPT, such as "flying pig", or --replay with a PNG to draw again.')
    if replay is not None:
        _check_replay(options)
    if adapter and adapters is not None:
        raise UserError("--adapter and --adapters exclude each other: give files, or a folder with an index.")
    request = DrawingRequest(
        source=source,
        model=model,
        vae=vae,
        adapters=[parse_adapter(text) for text in adapter] if adapters is None else adapters,
        options=options,
        output=output,
        targets=targets_named(format),
        overwrite=overwrite,
        transparent=transparent,
        recipe=not no_recipe,
        allow_pickle=allow_pickle,
    )
    start, repainted = open_optional(image), open_optional(mask)
    writer = Writer(request, checked_paths(request))
    if isinstance(source, str):
        from mlx_genmoji import Genmoji

        pipeline = Genmoji.load(model, **loading(request))
        with progress_bar() as callback:
            arguments = options.arguments() | {"image": start, "mask": repainted}
            stickers = pipeline.generate(source, callback=callback, each=writer, **arguments)
        print_seeds(stickers)
    else:
        from ..replaying import replayed

        sticker = replayed(request, source, start, repainted)
        print_notes([sticker])
        writer(sticker)


def _sampler(name: str | None) -> str | None:
    """A sampler's name as the library takes it, in any case. Raises UserError for an unknown one."""
    if name is None or name.lower() in SAMPLER_NAMES:
        return name and name.lower()
    from mlx_genmoji.samplers import sampler_named

    sampler_named(name)
    return name


def _check_replay(options: DrawingOptions) -> None:
    """Raise UserError if an option is given that a replay takes from the recipe."""
    plain = DrawingOptions()
    given = [field.name for field in fields(options) if getattr(options, field.name) != getattr(plain, field.name)]
    given = [name for name in given if name != "settings"] + list(options.settings)
    if given:
        name = {"combine": "whole", "trigger": "no-trigger"}.get(given[0], given[0].replace("_", "-"))
        raise UserError(f"--replay takes this from the recipe; leave out --{name}.")
