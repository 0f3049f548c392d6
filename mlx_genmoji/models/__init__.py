"""The networks of a Stable Diffusion checkpoint; their parameter paths are the checkpoint's own keys.

Here: reading a network's `config.json` into its dataclass. The error names a field that is unknown or not supported.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import UserError, quoted

Config = TypeVar("Config")

Count = Annotated[int, "at least 1"]
Depth = Annotated[int, "at least 0"]

CONFIG_KEY = "quantization"
"""The field of a config that says how the weights are packed; absent or null for dense ones (`quantization`)."""
DENSE_KEY = "_dense_sha256"
"""In a UNet's config.json: the hash of the whole model's weights before they were packed. Adapters refer to it."""

# Limits that no real network reaches: a damaged config is refused before its layers use up the memory.
MAX_SIDE = 2**20
MAX_LAYERS = 1000
# About the largest float32.
MAX_NUMBER = 3e38

_KINDS = {
    Count: f"a whole number from 1 to {MAX_SIDE}",
    Depth: f"a whole number from 0 to {MAX_LAYERS}",
    NoneType: "null",
    bool: "true or false",
    float: "a finite number",
    int: "a whole number",
    str: "a name",
}

# Fields without effect on inference: how the file was written, how the network was trained or is kept in memory.
_IGNORED = {
    "bos_token_id",
    "pad_token_id",
    "architectures",
    "attention_dropout",
    "auto_map",
    # In configs of AutoencoderTiny: a copy of `decoder_block_out_channels`.
    "block_out_channels",
    "dropout",
    "dtype",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "latent_magnitude",
    "latent_shift",
    "model_type",
    "quantization",
    "sample_size",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def parse_config(kind: type[Config], config: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]]) -> Config:
    """Read `config` into the dataclass `kind`.

    The dataclass's annotations are the types that its fields may have. `only` maps a field to its supported values; if
    the field is a list, each item must be one of them. A field in neither must be null or false. Raises UserError with
    the names of the component and the field.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in config.items():
        items = value if key in known and isinstance(value, list | tuple) else [value]
        if key in only and not all(item in only[key] for item in items):
            raise field_error(kind, key, value, f"supported is {' or '.join(map(repr, only[key]))}")
        if key in known:
            if not _fits(value, hints[key]):
                raise field_error(kind, key, value, f"it must be {_describe(hints[key])}")
            values[key] = _as_tuples(value)
        elif key not in only and not key.startswith("_") and key not in _IGNORED and value not in (None, False):
            raise field_error(kind, key, value, "which is not supported")
    missing = [
        key
        for key, field in known.items()
        if key not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise UserError(f"{kind.__name__}: config.json lacks {', '.join(missing)}.")
    return kind(**values)


def field_error(kind: type, key: str, value: Any, why: str) -> UserError:
    """The UserError for one field of a config. why: the end of the sentence."""
    return UserError(f"{kind.__name__}: config field {quoted(repr(key))} is {quoted(repr(value))}, {why}.")


def require_per_block(config: Any, *keys: str) -> None:
    """Raise UserError if a field is a list that is not as long as `config.block_out_channels`."""
    count = len(config.block_out_channels)
    for key in keys:
        value = getattr(config, key)
        if isinstance(value, tuple) and len(value) != count:
            raise field_error(type(config), key, list(value), f"it must have one item for each of {count} blocks")


def require_few_layers(config: Any, key: str, layers: int) -> None:
    """Raise UserError if `layers`, the number of layers that the field `key` leads to, is above `MAX_LAYERS`."""
    if layers > MAX_LAYERS:
        raise field_error(type(config), key, getattr(config, key), f"{layers} layers are more than {MAX_LAYERS}")


def require_divisor(config: Any, key: str, divisor: int, channels: int) -> None:
    """Raise UserError if `divisor`, which comes from the field `key`, does not divide `channels`."""
    if channels % divisor:
        raise field_error(type(config), key, getattr(config, key), f"but {divisor} does not divide {channels} channels")


def per_block(value: Any, count: int) -> tuple[Any, ...]:
    """A config value as a tuple with an item for each of `count` blocks. A single value is repeated."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * count


def keep_config(module: object, config: Mapping[str, Any]) -> None:
    """Set `module.raw_config`. MLX's own `__setattr__` would take the dict for parameters."""
    object.__setattr__(module, "raw_config", dict(config))


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and len(value) > 0 and all(_fits(v, get_args(hint)[0]) for v in value)
    if hint == Count:
        return type(value) is int and 0 < value <= MAX_SIDE
    if hint == Depth:
        return type(value) is int and 0 <= value <= MAX_LAYERS
    if hint is float:
        return type(value) in (float, int) and abs(value) < MAX_NUMBER
    return type(value) is hint


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_describe, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_describe(get_args(hint)[0])}"
    return _KINDS[hint]


def sample_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the latents, from the UNet's config.json. Raises UserError if they are not whole numbers."""
    size = config.get("sample_size") or 64
    # The first Stable Diffusion folders say 32 and mean 64; diffusers corrects them likewise.
    if type(size) is int and size < 64 and re.match(r"0\.[0-8]\b", str(config.get("_diffusers_version"))):
        size = 64
    sides = size if isinstance(size, (list, tuple)) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"The UNet's config field 'sample_size' is {size!r}, it must be one or two whole numbers.")
    return sides[0], sides[1]
