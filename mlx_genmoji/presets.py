"""Presets: a base model with adapters and settings, under a name that `--model` and `Genmoji.load` take.

`presets.json` has those that ship with the package, from the cards of public models; `genmoji models add` keeps others
in the user's own file (`user_file`). A folder of the same name in the current folder comes first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import UserError, quoted
from .files import read_json, write_json

SHIPPED = Path(__file__).parent / "presets.json"
RESERVED = "builtin"
"""The name of the model that ships with the package: `hub.BUILTIN_NAME`."""
NAME = re.compile(r"\w[\w.-]*", re.ASCII)

DRAWING = ("steps", "guidance", "sampler", "spacing", "size", "clip_skip", "trigger")
"""The fields that replace those of the base's `Defaults`."""

PARAMETERS = {"sd1": (860, 123, 84), "sd2": (866, 340, 84), "xl": (2567, 818, 84), "ssd": (1330, 818, 84)}
"""Millions of parameters of the UNet, the text encoders and the autoencoder, by the family of the base."""
BITS_WITH_SCALES = {4: 4.5, 8: 8.5}
"""Bits per weight with the scales and biases of groups of 64 (`quantization`)."""


@dataclass(frozen=True)
class Preset:
    """A base, adapters, and the settings to draw with; None is the base's own setting."""

    name: str
    base: str
    """A folder or hub id, as `Genmoji.load` takes it."""
    adapters: tuple[tuple[str, float | None], ...] = ()
    """Files, folders or hub ids with their weights; None is what the card recommends, or 1."""
    vae: str | None = None
    allow_pickle: bool = False
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    spacing: str | None = None
    size: int | None = None
    clip_skip: int | None = None
    trigger: str | None = None
    """Words that a prompt needs, added where it lacks them."""
    about: str = ""
    licence: str = ""
    download: float | None = None
    """Gigabytes."""
    family: str | None = None
    """A key of `PARAMETERS`."""

    def memory(self, bits: int) -> float | None:
        """Gigabytes of the weights with the UNet in 16 or 4 bits; quantized text encoders have 8, the autoencoder 16.

        None where the family is not known. Drawing takes more: `docs/checkpoints.md`.
        """
        if self.family is None:
            return None
        unet, texts, vae = PARAMETERS[self.family]
        unet_bits, text_bits = (16.0, 16.0) if bits == 16 else (BITS_WITH_SCALES[bits], BITS_WITH_SCALES[8])
        return (unet * unet_bits + texts * text_bits + vae * 16) / 8 / 1000

    def load(
        self, load: Callable[..., Any], adapters: str | Path | Sequence[Any], vae: str | Path | None, **options: Any
    ) -> Any:
        """The `Genmoji` that its method `load` loads, with the preset's settings and adapters, then further `adapters`.

        Raises UserError like `Genmoji.load`, and for an indexed folder of adapters, which cannot be joined to others.
        """
        further = [adapters] if isinstance(adapters, str | Path) else list(adapters)
        options["allow_pickle"] = options.get("allow_pickle", False) or self.allow_pickle
        genmoji = load(self.base, vae=vae or self.vae, **options)
        own = {name: getattr(self, name) for name in DRAWING}
        changed = replace(genmoji.defaults, **{name: value for name, value in own.items() if value is not None})
        genmoji.defaults = genmoji.reader.defaults = changed
        genmoji.set_adapters([*self.adapters, *further], allow_pickle=options["allow_pickle"])
        return genmoji

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not the default, without the name: an entry of a file of presets."""
        values = asdict(self)
        plain = asdict(Preset("", ""))
        return {key: value for key, value in values.items() if key != "name" and value != plain[key]}


def preset_named(model: str | Path | None) -> Preset | None:
    """The preset that `model` names; None for a path that exists, an id, and what is no preset's name."""
    if model is None or not NAME.fullmatch(str(model)) or Path(model).exists():
        return None
    return user_presets().get(str(model)) or shipped_presets().get(str(model))


def similar_names(model: str | Path) -> list[str]:
    """The names of presets that a mistyped name may stand for."""
    return get_close_matches(str(model), {**shipped_presets(), **user_presets()})


def shipped_presets() -> dict[str, Preset]:
    """The presets of the package."""
    return _read(SHIPPED)


def user_presets() -> dict[str, Preset]:
    """The presets that the user added. Raises UserError for a damaged file."""
    path = user_file()
    return _read(path) if path.exists() else {}


def user_file() -> Path:
    """Where the user's presets are: in `$XDG_CONFIG_HOME` or `~/.config`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mlx-genmoji" / "models.json"


def add_preset(preset: Preset) -> None:
    """Keep a preset under its name. Raises UserError for a name that is taken or no name, or what no base can be."""
    name = preset.name
    if not NAME.fullmatch(name):
        raise UserError(f"{quoted(name)} is no name for a model: use letters, digits, dots, dashes and underscores.")
    if name == RESERVED or name in shipped_presets():
        raise UserError(f"The name {name} belongs to a model of mlx-genmoji: choose another.")
    if preset_named(preset.base) is not None:
        raise UserError(f"{preset.base} is a name of such a model itself: give its base as --base.")
    write_json(user_file(), {key: item.to_dict() for key, item in (user_presets() | {name: preset}).items()})


def remove_preset(name: str) -> None:
    """Forget a preset of the user's. Raises UserError if there is none of this name."""
    presets = user_presets()
    if name not in presets:
        why = " it ships with mlx-genmoji." if name in shipped_presets() else " genmoji models lists the names."
        raise UserError(f"{quoted(name)} is not a model that you added:{why}")
    del presets[name]
    write_json(user_file(), {key: item.to_dict() for key, item in presets.items()})


def _read(path: Path) -> dict[str, Preset]:
    presets = {}
    for name, entry in read_json(path).items():
        try:
            presets[name] = _preset(name, entry)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: the model {quoted(name)} is not well formed ({quoted(error)}).") from None
    return presets


def _preset(name: str, entry: Mapping[str, Any]) -> Preset:
    adapters = tuple((str(adapter), weight) for adapter, weight in entry.get("adapters", ()))
    return Preset(name=name, **{**entry, "adapters": adapters})
