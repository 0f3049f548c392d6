"""The tensors that a file has for one layer -> the layer's change: a pair of matrices, or what is no pair.

Which of them are there decides the kind: see `KINDS`. PEFT's config gives the scale where a file has no alpha.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..errors import UserError, quoted
from .adapter import Layer
from .whole import WholeChange, rank_of, tucker_down

Parts = Mapping[str, mx.array]
"""The tensors of one layer by their names in `key_formats.TENSORS`."""

KINDS = (
    ("LoHa", r"hada_.*"),
    ("LoKr", r"lokr_.*"),
    ("a difference of whole weights", r"diff|w_norm"),
    ("LoRA", r"down|up"),
    ("a difference of biases", r"diff_b|b_norm"),
)

# PEFT's names of kinds -> the kind of their tensors, and the field of the config that has alpha.
PEFT_KINDS = {"LORA": ("LoRA", "lora_alpha"), "LOHA": ("LoHa", "alpha"), "LOKR": ("LoKr", "alpha")}

# PEFT's inits that change the base, and whose start cannot be computed from the base alone.
UNKNOWN_STARTS = ("corda", "lora_ga")


class PeftLayer(NamedTuple):
    """What PEFT's config and files say of one layer."""

    config: Mapping[str, Any]
    path: str
    """The layer's path within its component."""
    initial: Parts | None = None
    """The layer's tensors before training, where they were saved beside the adapter."""


def read_layer(file: Path, name: str, parts: Parts, peft: PeftLayer | None) -> tuple[Layer | None, WholeChange | None]:
    """The pair of matrices that a layer has, and any other change of it. Raises UserError for a damaged one.

    file, name: for messages.
    """
    kind = next((kind for kind, pattern in KINDS if any(re.fullmatch(pattern, part) for part in parts)), None)
    if kind is None:
        raise UserError(f"{file} is not whole: {quoted(name)} has {', '.join(parts)} and nothing else.")
    if peft is not None:
        _check_peft(file, peft.config, kind)
    magnitude, over_inputs = _magnitude(parts)
    bias = parts.get("diff_b", parts.get("b_norm"))
    if kind != "LoRA":
        whole = _whole(file, name, kind, parts, peft)
        return None, WholeChange(*whole, magnitude if whole.factors else None, over_inputs, None, bias)

    down, up = _down_and_up(file, name, parts)
    alpha = _alpha(file, name, parts, peft, len(down))
    scale = alpha / len(down)
    if "up_bias" in parts:
        added = parts["up_bias"].astype(mx.float32) * scale
        bias = added if bias is None else bias.astype(mx.float32) + added
    only_bias = None if bias is None else WholeChange("a difference of biases", {}, bias=bias)
    outputs = magnitude is None or (not over_inputs and magnitude.size == len(up))
    start = _start(file, name, peft)
    if outputs and start is None:
        return Layer(down, up, alpha, None if magnitude is None else magnitude.flatten()), only_bias
    inputs = down.shape[-1]
    if magnitude is not None and magnitude.size != (inputs if over_inputs else len(up)):
        raise UserError(f"{file} is damaged: {quoted(name)} has {magnitude.size} magnitudes for {inputs} inputs.")
    label = "PiSSA" if start == "pissa" else "OLoRA" if start == "olora" else "DoRA" if start is None else "LoRA"
    return None, WholeChange(label, {"down": down, "up": up}, scale, magnitude, over_inputs, start, bias)


class _Whole(NamedTuple):
    kind: str
    factors: dict[str, mx.array]
    scale: float


def _whole(file: Path, name: str, kind: str, parts: Parts, peft: PeftLayer | None) -> _Whole:
    """The factors of a change that is no pair, and their scale."""
    if kind == "a difference of biases":
        return _Whole(kind, {}, 1.0)
    if kind == "a difference of whole weights":
        return _Whole(kind, {"diff": parts.get("diff", parts["w_norm"] if "w_norm" in parts else parts["diff"])}, 1.0)
    start = "hada_" if kind == "LoHa" else "lokr_"
    factors = {part: tensor for part, tensor in parts.items() if part.startswith(start)}
    rank = rank_of(factors)
    for number in (1, 2):
        a, b = factors.get(f"{start}w{number}_a"), factors.get(f"{start}w{number}_b")
        if (a is None or b is None) and f"{start}w{number}" not in factors:
            raise UserError(f"{file} is not whole: {quoted(name)} has no {start}w{number}.")
        matrices = [array for array in (a, b, factors.get(f"{start}w{number}")) if array is not None]
        if any(array.ndim < 2 or array.size == 0 for array in matrices):
            raise UserError(f"{file} is damaged: a factor of {quoted(name)} is no matrix.")
    if rank is None:
        # Both factors of a LoKr are whole. LyCORIS then passes over alpha, PEFT does not.
        config_rank = 0 if peft is None else _pattern(peft, "rank_pattern", peft.config.get("r", 8))
        scale = _alpha(file, name, {}, peft, 1) / config_rank if config_rank else 1.0
        return _Whole(kind, factors, scale)
    return _Whole(kind, factors, _alpha(file, name, parts, peft, rank) / rank)


def _magnitude(parts: Parts) -> tuple[mx.array | None, bool]:
    """A DoRA's magnitudes, and whether they are those of the inputs.

    LyCORIS writes (out, 1, ...) for outputs and (1, in, ...) for inputs, PEFT (out,) or (1, out, 1, 1) for outputs.
    diffusers gives the key of LyCORIS to PEFT's: a shape that fits only the outputs is theirs.
    """
    if "magnitude" in parts:
        return parts["magnitude"], False
    magnitude = parts.get("dora_scale")
    if magnitude is None:
        return None, False
    over_inputs = magnitude.ndim > 1 and len(magnitude) == 1 and magnitude.size > 1
    if over_inputs and magnitude.ndim == 4 and "up" in parts:
        inputs = parts["down"].shape[1] if "down" in parts else 0
        over_inputs = magnitude.size == inputs or magnitude.size != len(parts["up"])
    return magnitude, over_inputs


def _down_and_up(file: Path, name: str, parts: Parts) -> tuple[mx.array, mx.array]:
    """The two matrices of a layer, channels last: (rank, in) or (rank, kh, kw, in), and (out, rank)."""
    for matrix in ("down", "up"):
        if matrix not in parts:
            raise UserError(f"{file} is not whole: {quoted(name)} has no {matrix} matrix.")
    down, up = parts["down"], parts["up"]
    if (mid := parts.get("mid")) is not None:
        if mid.ndim != 4 or mid.shape[:2] != (len(down), len(down)):
            raise UserError(f"{file} is damaged: the middle of {quoted(name)} has the shape {tuple(mid.shape)}.")
        down = tucker_down(down, mid)
    if down.ndim == 4:
        down = down.transpose(0, 2, 3, 1)
    if up.ndim == 4 and up.shape[2:] == (1, 1):
        up = up.squeeze((2, 3))
    if down.ndim not in (2, 4) or up.ndim != 2 or up.shape[1] != len(down) or 0 in down.shape:
        shapes = f"{parts['down'].shape} and {parts['up'].shape}"
        raise UserError(f"{file} is damaged: the matrices of {quoted(name)}, {shapes}, do not fit each other.")
    return down, up


def _alpha(file: Path, name: str, parts: Parts, peft: PeftLayer | None, rank: int) -> float:
    """The alpha of a layer: the file's, else that of PEFT's config, else the rank. Raises UserError if it is none.

    With rsLoRA it is multiplied by sqrt(rank), so that alpha / rank is the layer's scale in either case.
    """
    alpha = float(rank) if peft is None else _config_alpha(file, peft, rank)
    if "alpha" in parts:
        if parts["alpha"].size != 1:
            raise UserError(f"{file} is damaged: the alpha of {quoted(name)} is not a number.")
        # As in sd-scripts, an alpha of 0 stands for the rank.
        alpha = float(np.asarray(parts["alpha"].astype(mx.float32)).item()) or float(rank)
    if not math.isfinite(alpha):
        raise UserError(f"{file} is damaged: the alpha of {quoted(name)} is {alpha}.")
    return alpha


def _config_alpha(file: Path, peft: PeftLayer, rank: int) -> float:
    _, field = PEFT_KINDS[str(peft.config.get("peft_type", "LORA"))]
    try:
        alpha = float(_pattern(peft, "alpha_pattern", peft.config.get(field, 8)))
    except (AttributeError, TypeError, ValueError, re.error):
        raise UserError(f"The config of {file} is damaged: its {field} or alpha_pattern is not valid.") from None
    return alpha * (math.sqrt(rank) if peft.config.get("use_rslora") else 1)


def _pattern(peft: PeftLayer, field: str, default: Any) -> Any:
    """The value that a field of PEFT's config, such as "alpha_pattern", has for the layer."""
    for pattern, value in (peft.config.get(field) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", peft.path):
            return value
    return default


def _check_peft(file: Path, config: Mapping[str, Any], kind: str) -> None:
    """Raise UserError if a layer is of another kind than PEFT's config says, or the config is not supported."""
    peft_type = config.get("peft_type", "LORA")
    expected = PEFT_KINDS.get(str(peft_type), ("", ""))[0]
    if expected != kind or config.get("bias", "none") not in ("none", None):
        what = f"peft_type {peft_type!r} with bias {config.get('bias', 'none')!r}"
        raise UserError(
            f"The adapter_config.json of {file} has {quoted(what)}, and the file holds {kind};"
            f" supported are {', '.join(PEFT_KINDS)}, whose tensors are then there, without biases."
        )


def _start(file: Path, name: str, peft: PeftLayer | None) -> str | tuple[mx.array, mx.array] | None:
    """What PEFT subtracts from the base: the name of an init, or the matrices before training; None for most."""
    init = None if peft is None else peft.config.get("init_lora_weights")
    if peft is None or not isinstance(init, str):
        return None
    init = init.lower()
    base_changes = init == "olora" or init.startswith(("pissa", *UNKNOWN_STARTS))
    if not base_changes:
        return None
    if peft.initial:
        return _down_and_up(file, name, peft.initial)
    if init.startswith(UNKNOWN_STARTS):
        raise UserError(
            f"{file} has the init_lora_weights {quoted(init)}: its start cannot be computed from the base; save it in"
            " PEFT with path_initial_model_for_weight_conversion, which makes a plain LoRA of it."
        )
    return "olora" if init == "olora" else "pissa"
