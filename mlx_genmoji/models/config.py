"""A component's `config.json` as a dataclass: what it asks for and we do not support is named in the error."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import UserError, quoted

Config = TypeVar("Config")

Count = Annotated[int, "at least 1"]
Depth = Annotated[int, "at least 0"]

# No network has a side as long, or as many layers; a damaged config that says so is refused before anything is built.
LONGEST_SIDE = 2**20
MOST_LAYERS = 1000

# The largest number that float32 holds, about.
_LARGEST = 3e38

_KINDS = {
    Count: f"a whole number from 1 to {LONGEST_SIDE}",
    Depth: f"a whole number from 0 to {MOST_LAYERS}",
    NoneType: "null",
    bool: "true or false",
    float: "a finite number",
    int: "a whole number",
    str: "a name",
}

# Says how a file was written, is kept in memory or was trained, not what the network computes.
_IGNORED = {
    "bos_token_id",
    "pad_token_id",
    "architectures",
    "attention_dropout",
    "auto_map",
    # Of AutoencoderTiny, a copy of `decoder_block_out_channels`.
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
    """Read `config` as the dataclass `kind`, whose annotations say what a field may hold. A field in `only` must have
    one of the values given there, each item where it is a list; one that neither knows must be off (null or false).

    Raises UserError naming the component and the field.
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
    """The error about one field of a config."""
    return UserError(f"{kind.__name__}: config field {quoted(repr(key))} is {quoted(repr(value))}, {why}.")


def require_per_block(config: Any, *keys: str) -> None:
    """Raises UserError where a field is a list and does not list one for each of `config.block_out_channels`."""
    count = len(config.block_out_channels)
    for key in keys:
        value = getattr(config, key)
        if isinstance(value, tuple) and len(value) != count:
            raise field_error(type(config), key, list(value), f"it must list one for each of {count} blocks")


def require_few_layers(config: Any, key: str, layers: int) -> None:
    """Raises UserError where `layers`, the number that the field `key` leads to, is past all reason."""
    if layers > MOST_LAYERS:
        raise field_error(type(config), key, getattr(config, key), f"{layers} layers are more than {MOST_LAYERS}")


def require_divisor(config: Any, key: str, divisor: int, channels: int) -> None:
    """Raises UserError where `divisor`, which the field `key` gives, does not divide `channels`."""
    if channels % divisor:
        raise field_error(type(config), key, getattr(config, key), f"but {divisor} does not divide {channels} channels")


def per_block(value: Any, count: int) -> tuple[Any, ...]:
    """A config value that stands for all blocks, or lists one for each."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * count


def keep_config(module: object, config: Mapping[str, Any]) -> None:
    """Set `module.raw_config`, past MLX's modules, which would take a dict for parameters."""
    object.__setattr__(module, "raw_config", dict(config))


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and len(value) > 0 and all(_fits(v, get_args(hint)[0]) for v in value)
    if hint == Count:
        return type(value) is int and 0 < value <= LONGEST_SIDE
    if hint == Depth:
        return type(value) is int and 0 <= value <= MOST_LAYERS
    if hint is float:
        return type(value) in (float, int) and abs(value) < _LARGEST
    return type(value) is hint


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_describe, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_describe(get_args(hint)[0])}"
    return _KINDS[hint]
