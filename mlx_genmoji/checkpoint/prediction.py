"""What a checkpoint in one file predicts: epsilon or v, in whichever of the ways in use the file states it.

In this order: the metadata, a tensor named `v_pred`, the YAML beside the file, and for Stable Diffusion 2, whose
versions differ in nothing else, one evaluation of the UNet. With the wrong one pictures are noise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

MAX_SIDECAR_BYTES = 1 << 20

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
    for name in DECLARATIONS:
        value = _plain(metadata.get(name))
        if value in SPELLINGS:
            return SPELLINGS[value]
        if value:
            raise UserError(
                f"says in {name} that it predicts {quoted(repr(value), 40)}; supported are"
                f" {' and '.join(PREDICTION_TYPES)}, which --predicts chooses"
            )
    for name in FLAGS:
        if _plain(metadata.get(name)) in ("true", "1", "yes"):
            return "v_prediction"
    if any(key.rpartition(".")[2] == "v_pred" for key in keys):
        return "v_prediction"
    for name in ARCHITECTURES:
        value = _plain(metadata.get(name))
        if re.search(r"v2.*_v$", value):
            return "v_prediction"
        if re.search(r"v2.*_512$", value):
            return "epsilon"
    if any(_plain(metadata.get(name)) in ("false", "0", "no") for name in FLAGS):
        return "epsilon"
    return None


def sidecar_prediction(file: Path) -> str | None:
    """The prediction type in the configuration beside a checkpoint, `NAME.yaml`, as Stable Diffusion's own code has it.

    None if there is no such file, or it is another. Only its line `parameterization` is read.
    """
    try:
        text = file.with_suffix(".yaml").read_bytes()[:MAX_SIDECAR_BYTES].decode("utf-8", "replace")
    except OSError:
        return None
    if "LatentDiffusion" not in text:
        return None
    stated = re.search(r"""^\s*parameterization:\s*["']?(\w+)""", text, re.MULTILINE)
    return SPELLINGS.get(stated[1]) if stated else "epsilon"


def declares_zero_snr(metadata: Mapping[str, str], keys: Collection[str], prediction_type: str) -> bool:
    """Whether a model's last timestep is pure noise (zero terminal SNR), which only v-prediction can start from."""
    if "ztsnr" in keys:
        return True
    stated = any(_plain(metadata.get(name)) in ("true", "1", "yes") for name in ZERO_SNR_FLAGS)
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


@dataclass(frozen=True)
class EDM:
    """The settings of a model in the form of Karras et al. 2022 (EDM), which is trained on sigmas, not on timesteps."""

    scheduler: dict[str, Any]
    prediction_type: str
    vae: dict[str, Any] = field(default_factory=dict)
    """Fields of the autoencoder's config."""


def edm_of(tensors: Mapping[str, mx.array]) -> EDM | None:
    """The settings of Playground v2.5 and CosXL, which have marks in their files; None for any other model.

    Raises UserError, which continues "FILE ...", if a mark is not valid.
    """
    if "edm_mean" in tensors or "edm_std" in tensors:
        vae: dict[str, Any] = {"scaling_factor": 0.5}
        for key, name in (("edm_mean", "latents_mean"), ("edm_std", "latents_std")):
            if key not in tensors or tensors[key].size == 0:
                raise UserError(f"is a Playground v2.5 model (EDM) that lacks {key}")
            vae[name] = np.array(tensors[key].astype(mx.float32)).ravel().tolist()
        return EDM({"_class_name": "EDMDPMSolverMultistepScheduler", **_EDM_SCHEDULER}, "epsilon", vae)
    if any(key.startswith("edm_vpred.") for key in tensors):
        scheduler = {"_class_name": "EDMEulerScheduler", "sigma_data": 1.0, "sigma_schedule": "exponential"}
        limits = {}
        for name, usual in (("sigma_min", 0.002), ("sigma_max", 120.0)):
            mark = tensors.get(f"edm_vpred.{name}")
            # Rounded to the digits that float32 has.
            limits[name] = usual if mark is None or mark.size != 1 else float(f"{mark.item():.7g}")
        return EDM(scheduler | limits, "v_prediction")
    return None


_EDM_SCHEDULER = {
    "algorithm_type": "dpmsolver++",
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "rho": 7.0,
    "sigma_data": 0.5,
    "sigma_max": 80.0,
    "sigma_min": 0.002,
    "solver_order": 2,
    "solver_type": "midpoint",
    "thresholding": False,
}
"""Playground v2.5's, as in its own folder."""


def _plain(value: object) -> str:
    """A value of the metadata in lower case with "_" for "-", without the quotes that JSON adds."""
    return str(value or "").strip().strip("\"'").lower().replace("-", "_").replace(" ", "_")
