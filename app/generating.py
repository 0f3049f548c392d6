"""`genmoji generate`: a prompt in, pictures or stickers out; or a PNG in, the same one again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlx_genmoji.errors import UserError

from .commands.adapter_options import AdapterFiles, parse_adapter
from .commands.stickers import file_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from mlx_genmoji import Genmoji, Sticker

SkinTone = Literal["light", "medium-light", "medium", "medium-dark", "dark"]
Chosen = Path | list[tuple[Path, float]]
Sampler = Literal["ddim", "euler", "euler-ancestral", "dpm++2m", "lcm", "unipc"]


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", show_default=False, help='What to draw, in quotes: "flying pig".'),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many candidates to make.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same picture; candidate i has seed + i. [default: random]")
    ] = None,
    skin_tone: Annotated[SkinTone | None, typer.Option(help="Skin tone of the people in the picture.")] = None,
    person_type: Annotated[
        str | None, typer.Option(help="Who the people in the picture are: man, woman, girl, old man...")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            help="The model: a diffusers folder, or owner/name[@revision] on the Hugging Face hub."
            " [default: the built-in one]",
        ),
    ] = None,
    adapter: AdapterFiles = [],  # noqa: B006
    adapters: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="A folder of adapters with an index: the skin tone and person type choose."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How closely to follow the prompt; up to 1 is no guidance. [default: the model's]"),
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What not to draw.")] = "",
    rewrite: Annotated[
        str,
        typer.Option(
            metavar="MODEL|none",
            help="A language model that adds to a short prompt: smollm2, or the id or folder of one of mlx-lm's."
            " See genmoji rewrite.",
        ),
    ] = "none",
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Draw a combination in one go, where the built-in model would draw it by parts: pig, wings."
        ),
    ] = False,
    sampler: Annotated[Sampler | None, typer.Option(help="How to denoise. [default: the model's]")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to start from: it becomes an emoji.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of --image changes, from 0 to 1. [default: 0.8]")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="For inpainting models: white where --image is painted anew.")
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw a sticker again from the recipe in it, without a PROMPT."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, .png, .webp or .heic (an iOS glyph); with -n, pig.png becomes pig-1.png, pig-2.png"
            " and so on. [default: the prompt's words, as a PNG]",
        ),
    ] = None,
    transparent: Annotated[bool, typer.Option("--transparent", help="Leave out the white around the figure.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET", help="Make the sticker that slack, telegram and so on take. See genmoji stickers."
        ),
    ] = None,
    no_recipe: Annotated[
        bool, typer.Option("--no-recipe", help="Leave out of the file how it was made (prompt, seed, model).")
    ] = False,
) -> None:
    """Draw a genmoji of PROMPT as a PNG file."""
    options = {
        "count": count,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "negative_prompt": negative_prompt,
        "skin_tone": skin_tone,
        "person_type": person_type,
        "rewrite": None if rewrite == "none" else rewrite,
        "sampler": sampler,
        "strength": strength,
        "combine": not whole,
    }
    if (prompt is None) == (replay is None):
        raise UserError('Give a PROMPT, such as "flying pig", or --replay with a PNG to draw again; one of the two.')
    if replay is not None:
        usual = {"count": 1, "combine": True}
        asked = [name for name, value in options.items() if value not in (None, "") and value != usual.get(name)]
        if asked:
            named = {"combine": "whole"}.get(asked[0], asked[0].replace("_", " "))
            raise UserError(f"--replay takes {named} from the recipe; leave it out.")
    if adapter and adapters is not None:
        raise UserError("--adapter and --adapters exclude each other: give files, or a folder that chooses.")
    chosen = adapters if adapters is not None else [parse_adapter(text) for text in adapter]
    stem = slug(prompt) if prompt is not None else f"{replay.stem}-again" if replay else ""
    suffixes = _suffixes(format)
    output = output or Path(f"{stem}.png" if format is None else file_name(stem, format))
    check_writable(output, suffixes)
    paths = output_paths(output, count)
    for path in paths:
        check_writable(path, suffixes)
    from mlx_genmoji.files import write_bytes

    pictures = {name: _open(path) for name, path in (("image", image), ("mask", mask)) if path is not None}

    if replay is not None:
        stickers = [_replay(replay, model, chosen, pictures)]
    else:
        assert prompt is not None
        stickers = _draw(prompt, model, chosen, options | pictures)
    for sticker, path in zip(stickers, paths, strict=True):
        try:
            if format is None:
                sticker.save(path, recipe=not no_recipe, transparent=transparent)
            else:
                write_bytes(path, sticker.export_file(format, path.stem, recipe=not no_recipe)[1])
        except OSError as error:
            raise UserError(f"{path} could not be written: {error.strerror or error}.") from error
        typer.echo(path)


def _draw(prompt: str, model: str | None, adapters: Chosen, options: dict[str, Any]) -> list[Sticker]:
    """The stickers, with a progress bar while they are drawn."""
    from tqdm import tqdm

    pipeline = _load(model, adapters)
    with tqdm(disable=None, leave=False, unit="step") as bar:

        def show(step: int, steps: int, latents: Any) -> None:
            bar.total = steps
            bar.update()

        return pipeline.generate(prompt, callback=show, **options)


def _replay(path: Path, model: str | None, adapters: Chosen, pictures: dict[str, Image]) -> Sticker:
    """The sticker of the recipe in a PNG, by the model that it names unless another place of it is given."""
    from PIL import Image, UnidentifiedImageError

    from mlx_genmoji.sticker import RECIPE_KEY, read_recipe

    try:
        recipe = read_recipe(path)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UserError(f"{path} is no picture that can be read.") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{path} holds no recipe ({RECIPE_KEY!r} in its metadata): it cannot be drawn again.")
    drawn_by = recipe.get("model")
    facts = drawn_by if isinstance(drawn_by, dict) else {}
    name, revision = facts.get("name"), facts.get("revision")
    if model is None and name != "builtin":
        if not revision:
            raise UserError(f"{path} was drawn by the model {name!r}; say where it is with --model.")
        model = f"{name}@{revision}"
    return _load(model, adapters).replay(recipe, **pictures)


def _load(model: str | None, adapters: Chosen) -> Genmoji:
    from mlx_genmoji import Genmoji

    return Genmoji.load(model, adapters=adapters)


def _open(path: Path) -> Image:
    """A picture, decoded. Raises UserError where it is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise UserError(f"There is no picture {path}.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture that can be read: {error}.") from None


def slug(prompt: str) -> str:
    """A file name's stem of a prompt's words: "Flying pig!" -> "flying-pig"."""
    words = "".join(char if char.isalnum() else " " for char in prompt.casefold()).split()
    return "-".join(words)[:60].rstrip("-") or "genmoji"


def output_paths(output: Path, count: int) -> list[Path]:
    """`output`, or for several pictures `output` numbered from 1: pig-1.png, pig-2.png."""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


def _suffixes(format: str | None) -> tuple[str, ...]:
    """What the names of files may end in. Raises UserError where there is no such target, or HEIC cannot be written."""
    if format is None:
        return (".png", ".webp", ".heic")
    from mlx_genmoji.sticker import target_named

    return (target_named(format).suffix,)


def check_writable(path: Path, suffixes: Sequence[str] = (".png",)) -> None:
    """Raise UserError if a picture could not be written to `path`. Leaves nothing behind."""
    if path.suffix.lower() == ".heic" and find_spec("pillow_heif") is None:
        raise UserError(f"{path}: HEIC needs pillow-heif; install mlx-genmoji[heic].")
    try:
        _check_writable(path, suffixes)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose another place with --output.") from error


def _check_writable(path: Path, suffixes: Sequence[str]) -> None:
    # Whether is_dir tells of a name that is too long, or a folder that is locked, depends on the version of Python.
    with suppress(FileNotFoundError, NotADirectoryError):
        path.stat()
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --output the name of a file.")
    if path.suffix.lower() not in suffixes:
        raise UserError(
            f"{path} is no name for what is written; give --output one that ends in {' or '.join(suffixes)}."
        )
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent} to write {path.name} to.")
    tempfile.TemporaryFile(dir=path.parent).close()
