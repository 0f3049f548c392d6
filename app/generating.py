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
TARGET_NAMES = (
    "slack",
    "discord-emoji",
    "discord-sticker",
    "telegram",
    "whatsapp",
    "signal",
    "imessage",
    "ios-glyph",
    "favicon",
)
"""The keys of `mlx_genmoji.sticker.TARGETS`, without importing Pillow: for help texts."""
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
    style: str | None = None
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
    output: str | None
    """The file to write, or a folder (it ends with a slash, or exists); None is a name made of the prompt."""
    targets: tuple[str, ...]
    """The sticker targets to export for; none writes the picture as the suffix of `output` says."""
    transparent: bool
    recipe: bool
    """Whether the files hold how they were made."""
    vae: str | None = None
    """The autoencoder to use instead of the model's; see `Genmoji.load`."""
    allow_pickle: bool = False
    overwrite: bool = False
    """Whether a file that exists is replaced; else the new one gets a number."""


def checked_paths(request: DrawingRequest) -> list[list[Path]]:
    """The files to write for each sticker: one, or one for each target. Raises UserError if one cannot be written."""
    folder, stem, suffix = place(request)
    suffixes = output_suffixes(request.targets)
    if len(request.targets) <= 1:
        check_writable(folder / f"{stem}{suffix}", suffixes)
    names = file_names(request, stem, suffix)
    taken = [folder / name for row in names for name in row if (folder / name).exists()]
    if taken and not request.overwrite:
        names = free_names(request, folder, stem, suffix)
        print(f"genmoji: {taken[0]} exists and is kept; --overwrite replaces it.", file=sys.stderr)
    paths = [[folder / name for name in row] for row in names]
    for path in (path for row in paths for path in row):
        check_writable(path)
    return paths


def place(request: DrawingRequest) -> tuple[Path, str, str]:
    """The folder to write to, the stem of the file's name, and its suffix."""
    stem = default_stem(request)
    suffix = output_suffixes(request.targets)[0]
    output = request.output
    if output is None:
        return Path(), stem, suffix
    path = Path(output)
    if output.endswith(("/", "\\")) or path.is_dir() or len(request.targets) > 1:
        if path.is_file():
            raise UserError(f"{path} is a file; several formats need --output to name a folder.")
        return path, stem if len(request.targets) != 1 else f"{stem}-{request.targets[0]}", suffix
    return path.parent, path.stem, path.suffix or suffix


def file_names(request: DrawingRequest, stem: str, suffix: str, first: int = 1) -> list[list[str]]:
    """The names of each sticker's files. first: the number of the first of several stickers."""
    count = request.options.count
    stems = [stem] if count == 1 else [f"{stem}-{number}" for number in range(first, first + count)]
    if len(request.targets) > 1:
        return [[sticker_file_name(name, target) for target in request.targets] for name in stems]
    return [[f"{name}{suffix}"] for name in stems]


def free_names(request: DrawingRequest, folder: Path, stem: str, suffix: str) -> list[list[str]]:
    """`file_names` with the lowest numbers that no file has: pig.png exists -> pig-2.png; pig-1 and pig-2 -> pig-3."""
    number = 2
    while True:
        if request.options.count == 1:
            names = file_names(request, f"{stem}-{number}", suffix)
        else:
            names = file_names(request, stem, suffix, number)
        if not any((folder / name).exists() for row in names for name in row):
            return names
        number += 1


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


def print_seeds(stickers: Sequence[Sticker]) -> None:
    """Print the seeds of new stickers on stderr: with one of them the same picture is drawn again."""
    seeds = [sticker.recipe["seed"] for sticker in stickers if sticker.recipe.get("seed") is not None]
    if seeds:
        print(f"genmoji: seed {' '.join(map(str, seeds))}", file=sys.stderr)


class Writer:
    """Writes each sticker to its files when it is drawn, and prints their names."""

    def __init__(self, request: DrawingRequest, paths: Sequence[Sequence[Path]]):
        self.request = request
        self.waiting = list(paths)

    def __call__(self, sticker: Sticker) -> None:
        """Write the next sticker."""
        for path, target in zip(self.waiting.pop(0), self.request.targets or (None,), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(sticker, path, self.request, target)
            # At once, so that who stops the drawing knows what there is.
            print(path, flush=True)


def write(sticker: Sticker, path: Path, request: DrawingRequest, target: str | None) -> None:
    """Write a sticker to `path`, as a picture or as the target takes it."""
    from mlx_genmoji.files import write_bytes

    try:
        if target is None:
            sticker.save(path, recipe=request.recipe, transparent=request.transparent)
        else:
            write_bytes(path, sticker.export_file(target, path.stem, recipe=request.recipe)[1])
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}.") from error


def slug(prompt: str) -> str:
    """The prompt's words as a file name's stem: "Flying pig!" -> "flying-pig", "🐷" -> "pig-face"."""
    if not prompt.isascii():
        prompt = _named(prompt)
    words = "".join(char if char.isalnum() else " " for char in prompt.casefold()).split()
    return "-".join(words)[:MAX_NAME_LENGTH].rstrip("-") or "genmoji"


def _named(prompt: str) -> str:
    """The prompt with each emoji replaced by its name, and skin tones by theirs."""
    from mlx_genmoji.prompt.lexicon import Entry
    from mlx_genmoji.prompt.parser import spell_out

    parts, tones = spell_out(prompt)
    text = "".join(part.label if isinstance(part, Entry) else part for part in parts)
    return " ".join([text, *sorted(tones)])


def sticker_file_name(stem: str, target: str) -> str:
    """The name of a sticker's file for a target: pig, slack -> pig-slack.png."""
    from mlx_genmoji.sticker import target_named

    return f"{stem}-{target}{target_named(target).suffix}"


def default_stem(request: DrawingRequest) -> str:
    """The name of a file without its suffix where no name is given: flying-pig, or pig-again for a replay of pig.png.

    With the only target, where there is one and no folder is given: flying-pig-slack.
    """
    source = request.source
    stem = slug(source) if isinstance(source, str) else f"{source.stem}-again"
    return f"{stem}-{request.targets[0]}" if len(request.targets) == 1 and request.output is None else stem


def output_suffixes(targets: Sequence[str]) -> tuple[str, ...]:
    """The suffixes that an output file may have, the usual one first."""
    if not targets:
        return (".png", ".webp", ".jpg", ".jpeg", ".heic")
    from mlx_genmoji.sticker import target_named

    return tuple(dict.fromkeys(target_named(target).suffix for target in targets))


def targets_named(names: Sequence[str]) -> tuple[str, ...]:
    """The sticker targets that names stand for: "slack"; "discord" for both of Discord's; "all" for all.

    Raises UserError for an unknown name.
    """
    if not names:
        return ()
    from mlx_genmoji.sticker import TARGETS, target_named

    chosen: list[str] = []
    for name in (name.lower() for name in names):
        group = [target for target in TARGETS if name == "all" or target.startswith(f"{name}-")]
        if not group or name in TARGETS:
            target_named(name)
            group = [name]
        chosen += group
    return tuple(dict.fromkeys(chosen))


def check_writable(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Raise UserError if a file with one of `suffixes` cannot be written to `path`. Leaves no file behind."""
    try:
        # Path.is_dir hides a name that is too long or a locked folder in some versions of Python; stat does not.
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
        if path.is_dir():
            raise UserError(f"{path} is a folder; give --output the name of a file.")
        suffix = path.suffix.lower()
        if suffixes and suffix not in suffixes:
            raise UserError(
                f"{path} has an unsupported file extension; give --output a name that ends in {' or '.join(suffixes)}."
            )
        if suffix == ".heic" and find_spec("pillow_heif") is None:
            from mlx_genmoji.extras import install_command

            raise UserError(f"{path}: HEIC needs pillow-heif; install it with: {install_command('heic')}")
        parent = next(folder for folder in path.parents if folder.exists())
        if not parent.is_dir():
            raise UserError(f"{parent} is a file, so {path} cannot be written: choose another place with --output.")
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose another place with --output.") from error
