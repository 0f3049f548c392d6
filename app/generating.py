"""What `genmoji generate` does once its options are read: check the output, draw or replay, and write the files."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlx_genmoji.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from mlx_genmoji import Sticker

MAX_NAME_LENGTH = 60

SAMPLER_NAMES = (
    "ddim",
    "euler",
    "euler-ancestral",
    "dpm++2m",
    "lcm",
    "unipc",
    "pndm",
    "heun",
    "lms",
    "deis",
    "dpm2",
    "dpm2-ancestral",
    "dpm++2s",
    "dpm++2m-sde",
    "ddpm",
    "tcd",
)
"""The keys of `mlx_genmoji.samplers.SAMPLERS`, in their order, without importing MLX: for help texts."""
Spacing = Literal["leading", "trailing", "linspace"]
NoiseSource = Literal["mlx", "torch"]


@dataclass(frozen=True)
class DrawingOptions:
    """The options of `Genmoji.generate`, under its names, that a recipe holds; None is the model's default."""

    count: int = 1
    seed: int | None = None
    skin_tone: str | None = None
    person_type: str | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str = ""
    rewrite: str | None = None
    sampler: str | None = None
    strength: float | None = None
    combine: bool = True
    variety: float = 1.0
    trigger: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of `families.settings.Settings` and `size` that were given."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of `Genmoji.generate`."""
        named = dict(vars(self))
        return named | named.pop("settings")


@dataclass(frozen=True)
class DrawingRequest:
    """One run of `genmoji generate`."""

    source: str | Path
    """A prompt; or a PNG whose recipe is drawn again, which then replaces `options`."""
    model: str | None
    adapters: Path | list[tuple[Path, float | None]]
    """A folder of adapters with an index, or adapter files with their weights."""
    options: DrawingOptions
    output: Path | None
    """The file to write; None is a name made of the prompt."""
    target: str | None
    """The sticker target to export for; None writes the picture as the suffix of `output` says."""
    transparent: bool
    recipe: bool
    """Whether the files hold how they were made."""
    vae: str | None = None
    """The autoencoder to use instead of the model's; see `Genmoji.load`."""
    allow_pickle: bool = False


def checked_paths(request: DrawingRequest) -> list[Path]:
    """The files to write, one for each sticker. Raises UserError if one could not be written."""
    suffixes = output_suffixes(request.target)
    output = request.output or default_output(request)
    check_writable(output, suffixes)
    paths = output_paths(output, request.options.count)
    for path in paths:
        check_writable(path, suffixes)
    return paths


def replayed(request: DrawingRequest, source: Path, image: Image.Image | None, mask: Image.Image | None) -> Sticker:
    """The sticker of the PNG `source`, drawn again. Raises UserError if it has no recipe, or by another model."""
    from mlx_genmoji import Genmoji

    recipe = recipe_of(source)
    pipeline = Genmoji.load(request.model or model_of(recipe, source), **loading(request))
    return pipeline.replay(recipe, image=image, mask=mask)


def loading(request: DrawingRequest) -> dict[str, Any]:
    """The arguments of `Genmoji.load` after the model: the adapters, and others where they are given."""
    requested = {"vae": request.vae, "allow_pickle": request.allow_pickle}
    return {"adapters": request.adapters} | {name: value for name, value in requested.items() if value}


def print_notes(stickers: Sequence[Sticker]) -> None:
    """Print each note of the stickers once, on stderr."""
    for note in dict.fromkeys(note for sticker in stickers for note in sticker.notes):
        print("genmoji:", note, file=sys.stderr)


def open_optional(path: Path | None) -> Image.Image | None:
    """The picture in a file, if there is a path. Raises UserError if it cannot be read."""
    if path is None:
        return None
    from mlx_genmoji.pictures import open_picture

    return open_picture(path)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, Any], None]]:
    """A progress bar on stderr if that is a terminal; yields the callback of `Genmoji.generate` that moves it."""
    from tqdm import tqdm

    with tqdm(disable=None, leave=False, unit="step") as bar:

        def show_step(step: int, steps: int, latents: Any) -> None:
            bar.total = steps
            bar.update()

        yield show_step


def recipe_of(png: Path) -> dict[str, Any]:
    """The recipe in a PNG. Raises UserError if the file cannot be read or holds none."""
    from mlx_genmoji.pictures import UNREADABLE
    from mlx_genmoji.sticker import RECIPE_KEY, read_recipe

    try:
        recipe = read_recipe(png)
    except FileNotFoundError:
        raise UserError(f"There is no file {png}.") from None
    except UNREADABLE:
        raise UserError(f"{png} cannot be read as a picture.") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{png} holds no recipe ({RECIPE_KEY!r} in its metadata), so it cannot be drawn again.")
    return recipe


def model_of(recipe: dict[str, Any], png: Path) -> str:
    """The name by which the model of a recipe is loaded. Raises UserError if it names only a folder."""
    from mlx_genmoji.hub import BUILTIN_NAME

    model = recipe.get("model")
    fields = model if isinstance(model, dict) else {}
    name, revision = fields.get("name"), fields.get("revision")
    if name == BUILTIN_NAME:
        return BUILTIN_NAME
    if not revision:
        raise UserError(f"{png} was drawn by the model {name!r}; give its folder with --model.")
    return f"{name}@{revision}"


def write(sticker: Sticker, path: Path, request: DrawingRequest) -> None:
    """Write a sticker to `path`, as a picture or as the requested target takes it."""
    from mlx_genmoji.files import write_bytes

    try:
        if request.target is None:
            sticker.save(path, recipe=request.recipe, transparent=request.transparent)
        else:
            write_bytes(path, sticker.export_file(request.target, path.stem, recipe=request.recipe)[1])
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}.") from error


def slug(prompt: str) -> str:
    """The prompt's words as a file name's stem: "Flying pig!" -> "flying-pig"."""
    words = "".join(char if char.isalnum() else " " for char in prompt.casefold()).split()
    return "-".join(words)[:MAX_NAME_LENGTH].rstrip("-") or "genmoji"


def sticker_file_name(stem: str, target: str) -> str:
    """The name of a sticker's file for a target: pig, slack -> pig-slack.png."""
    from mlx_genmoji.sticker import target_named

    return f"{stem}-{target}{target_named(target).suffix}"


def default_output(request: DrawingRequest) -> Path:
    """The file to write where no --output is given: flying-pig.png, or pig-again.png for a replay of pig.png."""
    source = request.source
    stem = slug(source) if isinstance(source, str) else f"{source.stem}-again"
    return Path(f"{stem}.png" if request.target is None else sticker_file_name(stem, request.target))


def output_paths(output: Path, count: int) -> list[Path]:
    """`output`, or for several pictures `output` numbered from 1: pig-1.png, pig-2.png."""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


def output_suffixes(target: str | None) -> tuple[str, ...]:
    """The suffixes that an output file may have. Raises UserError for an unknown target."""
    if target is None:
        return (".png", ".webp", ".heic")
    from mlx_genmoji.sticker import target_named

    return (target_named(target).suffix,)


def check_writable(path: Path, suffixes: Sequence[str] = (".png",)) -> None:
    """Raise UserError if a file with one of `suffixes` cannot be written to `path`. Leaves no file behind."""
    try:
        # Path.is_dir hides a name that is too long or a locked folder in some versions of Python; stat does not.
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
        if path.is_dir():
            raise UserError(f"{path} is a folder; give --output the name of a file.")
        suffix = path.suffix.lower()
        if suffix not in suffixes:
            raise UserError(
                f"{path} has an unsupported file extension; give --output a name that ends in {' or '.join(suffixes)}."
            )
        if suffix == ".heic" and find_spec("pillow_heif") is None:
            raise UserError(f"{path}: HEIC needs pillow-heif; install mlx-genmoji[heic].")
        if not path.parent.is_dir():
            raise UserError(f"There is no folder {path.parent} to write {path.name} to.")
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose another place with --output.") from error
