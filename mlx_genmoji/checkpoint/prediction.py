"""What a checkpoint in one file predicts: epsilon or v, in whichever of the ways in use the file states it.

In this order: the metadata, a tensor named `v_pred`, and for Stable Diffusion 2, whose versions differ in nothing else,
one evaluation of the UNet. With the wrong one pictures are noise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..errors import UserError, quoted

if TYPE_CHECKING:
    from ..models.unet import UNet2DConditionModel

PREDICTION_TYPES = ("epsilon", "v_prediction")

SPELLINGS = {
    **dict.fromkeys(("epsilon", "eps", "noise"), "epsilon"),
    **dict.fromkeys(("v", "v_prediction", "v_pred", "vpred", "vprediction", "velocity"), "v_prediction"),
}

DECLARATIONS = (
    "modelspec.prediction_type",
    "modelspec.predict_key",
    "prediction_type",
    "predict_key",
    "ss_prediction_type",
    "model_prediction_type",
)
"""Fields of the metadata with one of `SPELLINGS`: of Stability's ModelSpec, ComfyUI, and trainers."""

FLAGS = ("ss_v_parameterization", "v_parameterization", "v_prediction", "v_pred", "vpred")
"""Fields of the metadata that say "True" for v, as kohya's trainer writes them."""

ARCHITECTURES = ("modelspec.architecture", "ss_base_model_version")
"""Fields of the metadata with the name of a version of Stable Diffusion 2."""

ZERO_SNR_FLAGS = ("ss_zero_terminal_snr", "zero_terminal_snr", "modelspec.zero_terminal_snr", "ztsnr", "zsnr")

CORRELATION = 0.5
"""Of a UNet's output and its input, pure noise: one that predicts epsilon returns its input, one that predicts v does
not."""

MEAN_OF_V = -1.0
"""Below this mean of output minus input, for a constant input, a UNet of Stable Diffusion 2 predicts v: AUTOMATIC1111's
rule."""


def declared_prediction(metadata: Mapping[str, str], keys: Collection[str]) -> str | None:
    """The prediction type that a file states, None if it states none. keys: the names of its tensors.

    Raises UserError, which continues "FILE ...", for one that is not supported.
    """
    for field in DECLARATIONS:
        value = _plain(metadata.get(field))
        if value in SPELLINGS:
            return SPELLINGS[value]
        if value:
            raise UserError(
                f"says in {field} that it predicts {quoted(repr(value), 40)}; supported are"
                f" {' and '.join(PREDICTION_TYPES)}, which --predicts chooses"
            )
    for field in FLAGS:
        if _plain(metadata.get(field)) in ("true", "1", "yes"):
            return "v_prediction"
    if any(key.rpartition(".")[2] == "v_pred" for key in keys):
        return "v_prediction"
    for field in ARCHITECTURES:
        value = _plain(metadata.get(field))
        if re.search(r"v2.*_v$", value):
            return "v_prediction"
        if re.search(r"v2.*_512$", value):
            return "epsilon"
    if any(_plain(metadata.get(field)) in ("false", "0", "no") for field in FLAGS):
        return "epsilon"
    return None


def declares_zero_snr(metadata: Mapping[str, str], keys: Collection[str], prediction_type: str) -> bool:
    """Whether a model's last timestep is pure noise (zero terminal SNR), which only v-prediction can start from."""
    if "ztsnr" in keys:
        return True
    stated = any(_plain(metadata.get(field)) in ("true", "1", "yes") for field in ZERO_SNR_FLAGS)
    return stated and prediction_type == "v_prediction"


def measured_prediction(model: UNet2DConditionModel) -> str | None:
    """What a UNet predicts, by its outputs for noise and for a constant at the last timestep; None if unclear."""
    config = model.config
    width = config.cross_attention_dim if isinstance(config.cross_attention_dim, int) else config.cross_attention_dim[0]
    states = mx.full((1, 2, width), 0.5)
    noise = mx.random.normal((1, 16, 16, config.in_channels), key=mx.random.key(0))
    constant = mx.full((1, 8, 8, config.in_channels), 0.5)
    outputs = [
        np.array(model(sample, mx.array([999.0]), states, {}).astype(mx.float32)) for sample in (noise, constant)
    ]
    if float(np.mean(outputs[1] - 0.5)) < MEAN_OF_V:
        return "v_prediction"
    with np.errstate(invalid="ignore"):
        correlation = float(np.corrcoef(outputs[0].ravel(), np.array(noise).ravel())[0, 1])
    return "epsilon" if correlation > CORRELATION else None


def check_formulation(keys: Collection[str]) -> None:
    """Raise UserError, which continues "FILE ...", for a model with another formulation of noise: EDM."""
    if any(key.startswith("edm_vpred.") for key in keys):
        raise UserError("is a CosXL model, which needs the EDM formulation of noise: it is not supported")
    if "edm_mean" in keys or "edm_std" in keys:
        raise UserError("is a Playground v2.5 model, which needs the EDM formulation of noise: it is not supported")


def _plain(value: object) -> str:
    """A value of the metadata in lower case with "_" for "-", without the quotes that JSON adds."""
    return str(value or "").strip().strip("\"'").lower().replace("-", "_").replace(" ", "_")
