"""A recipe: the YAML file that says everything about a training run, so that the run can be repeated.

    objective: lora                 # or another of `train.OBJECTIVES`
    output: runs/twemoji            # where checkpoints, log and result go
    data: {folders: [data/twemoji], size: 128}
    loop: {steps: 500, batch_size: 16, learning_rate: 0.001}
    ...                             # the objective's own keys: the fields of its recipe class

Relative paths are taken from the folder in which the command runs. An unknown key, or a value of the wrong kind, is an
error that names it. A recipe of several stages is in `stages.py`.
"""

import math
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from mlx_genmoji.errors import UserError
from mlx_genmoji.models import ops

Section = TypeVar("Section")


@dataclass(frozen=True)
class Data:
    """Which pictures and captions."""

    folders: tuple[Path, ...]
    """Dataset folders: pictures beside a `metadata.jsonl`."""
    size: int
    """Pixels along each side that pictures are resized to."""
    caption: str = "{text}"
    """The caption of a row; its fields in braces, and `{style}`. Lists are joined by commas, empty parts left out."""
    styles: dict[str, str] = field(default_factory=dict)
    """The `{style}` of each `source`."""
    tone_weight: float = 1.0
    """How often a picture with a skin tone is drawn, relative to one without."""
    shares: tuple[float, ...] = ()
    """How often the pictures of each folder are drawn, relative to the other folders; by their number where missing."""
    where: dict[str, Any] = field(default_factory=dict)
    """Only rows whose field has this value, or one of a list of values: `{skin_tone: dark, source: [noto, fluent]}`."""
    tag_shuffle: bool = False
    """Whether the `{tags}` of a caption are in another order each time."""
    tag_dropout: float = 0.0
    """Share of the `{tags}` that a caption is without."""
    caption_variants: int = 8
    """How many captions a picture has, where its tags are shuffled or dropped."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("caption_variants", 1)):
            if getattr(self, name) < least:
                raise UserError(f"Recipe: 'data.{name}' must be {least} or more, not {getattr(self, name)}.")
        if self.shares and (len(self.shares) != len(self.folders) or min(self.shares) < 0 or not sum(self.shares)):
            raise UserError("Recipe: 'data.shares' must be one number for each of 'data.folders', none below 0.")
        if not 0 <= self.tag_dropout <= 1:
            raise UserError(f"Recipe: 'data.tag_dropout' must be from 0 to 1, not {self.tag_dropout}.")
        if (self.tag_shuffle or self.tag_dropout) and "{tags}" not in self.caption:
            raise UserError("Recipe: 'data.tag_shuffle' and 'data.tag_dropout' need {tags} in 'data.caption'.")


@dataclass(frozen=True)
class Loop:
    """How the parameters are fitted."""

    steps: int
    batch_size: int
    """Pictures of a step; of each machine, where several train together."""
    learning_rate: float
    accumulation: int = 1
    """In how many parts a batch is computed, one after another: the same gradients in less memory."""
    optimizer: Literal["adamw", "adafactor", "lion", "muon"] = "adamw"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls to zero after the warmup; `constant` does in the last `decay_steps`, linearly."""
    warmup_steps: int = 100
    decay_steps: int = 0
    """Over this many last steps the learning rate falls to zero; 0: all after the warmup, or with `constant` none."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW and Lion."""
    clip_norm: float = 1.0
    """Longer gradients are shortened to this norm; 0: they are left as they are."""
    ema_decay: float = 0.0
    """Decay, per step, of the running mean of the parameters that is saved as the result; 0: none."""
    checkpoint_every: int = 200
    keep: int = 3
    """How many checkpoints are kept, the last ones."""
    log_every: int = 20
    sample_every: int = 0
    """A sheet of samples every so many steps; 0: none."""
    compiled: bool = True
    """Whether the step is compiled: quicker steps, after a minute or so on a CPU, which needs a C++ compiler for it."""
    threads: int = 1
    """On a CPU: parts of a batch that are computed at the same time, each on a core of its own."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every", "keep", "log_every", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"Recipe: 'loop.{name}' must be 1 or more, not {getattr(self, name)}.")
        for name in ("learning_rate", "warmup_steps", "decay_steps", "weight_decay", "clip_norm", "sample_every"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"Recipe: 'loop.{name}' must be 0 or more, not {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"Recipe: 'loop.ema_decay' must be from 0 up to, but not, 1, not {self.ema_decay}.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(
                f"Recipe: 'loop.betas' must be two numbers from 0 up to, but not, 1, not {list(self.betas)}."
            )
        if self.batch_size % self.parts:
            raise UserError(
                f"Recipe: 'loop.batch_size' must be a multiple of the {self.parts} parts that 'threads' and"
                f" 'accumulation' make of it, not {self.batch_size}."
            )

    @property
    def concurrent(self) -> int:
        """How many parts of a batch are computed at the same time: one on a GPU."""
        return self.threads if ops.on_cpu() else 1

    @property
    def parts(self) -> int:
        """How many parts a batch is computed in."""
        return self.concurrent * self.accumulation


@dataclass(frozen=True)
class Recipe:
    """The keys of every recipe; an objective's own recipe class derives from it."""

    objective: str
    output: Path
    data: Data
    loop: Loop
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)


def check_seed(name: str, seed: int) -> None:
    """Raise UserError for a seed that a random generator does not take."""
    if not 0 <= seed < 2**32:
        raise UserError(f"Recipe: {name!r} must be a whole number from 0 to {2**32 - 1}, not {seed}.")


def read_recipe(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The recipe as written, with overrides `key.key=value` (values in YAML) applied. Raises UserError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"The recipe {path} is not a mapping of keys to values.")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"--set {override!r} is not of the form key=value.")
        *parents, last = key.split(".")
        section = raw
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise UserError(f"--set {override!r}: {parent!r} is not a section of the recipe.")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {override!r}: the value is not valid YAML.") from None
    return raw


def build(kind: type[Section], raw: Any, where: str = "") -> Section:
    """`raw` as the dataclass `kind`, sections within sections included. Raises UserError naming the key."""
    if not isinstance(raw, dict):
        raise UserError(f"Recipe: {where or 'the file'} must be a mapping of keys to values.")
    known: dict[str, Field[Any]] = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in raw:
        if key not in known:
            raise UserError(f"Recipe: unknown key {prefix + str(key)!r}; known are {', '.join(known)}.")
    for key, item in known.items():
        if key not in raw and item.default is MISSING and item.default_factory is MISSING:
            raise UserError(f"Recipe: {prefix + key!r} is missing.")
    return kind(**{key: _value(hints[key], value, prefix + key) for key, value in raw.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise UserError(f"Recipe: {where!r} must be one of {', '.join(map(str, arguments))}, not {value!r}.")
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is tuple and isinstance(value, str) and arguments[-1] is Ellipsis:
        # A list of one, written without its brackets.
        return (_value(arguments[0], value, where),)
    if origin is dict and isinstance(value, dict):
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        # YAML takes 1e-3, without a point, for a word.
        with suppress(ValueError):
            return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    name = {tuple: "a list", dict: "a mapping"}.get(origin) or getattr(hint, "__name__", str(hint))
    raise UserError(f"Recipe: {where!r} must be {name}, not {value!r}.")
