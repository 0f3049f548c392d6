"""The oracles: diffusers' and transformers' own modules with random weights, saved as a user's folder would be."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from mlx_genmoji.models import functions

# The models here are so small that threads cost more than they save.
torch.set_num_threads(1)


def _randomise(model: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.2 * noise)


# The layers that write what a norm reads, and those that only add a bias to it.
_WRITERS = re.compile(
    r"(conv_in|conv1|conv2|time_emb_proj|proj_in|proj_out|to_out\.0|ff\.net\.2|add_embedding\.proj|post_quant_conv"
    r"|token_embedding|position_embedding|out_proj|fc2)\.(weight|bias)$"
)
_BIASES = re.compile(r"(conv_shortcut|samplers\.0\.conv)\.bias$")


def _quieten(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if _WRITERS.search(name) or _BIASES.search(name):
                parameter.mul_(1e-3)


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`save(model, quiet=False)`: give the oracle random weights, norms and biases included, and save it; its folder.

    `quiet` makes every activation that a norm sees about a thousandth, where a norm's eps counts.
    """

    def save(model: Any, quiet: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("oracle")
        _randomise(model)
        if quiet:
            _quieten(model)
        model.eval()
        model.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def error() -> Callable[[ArrayLike, ArrayLike], float]:
    """`error(a, b)`: ||a - b|| / ||b||, a being ours. Arrays of different shapes are infinitely far apart."""

    def error(a: ArrayLike, b: ArrayLike) -> float:
        ours, theirs = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if ours.shape != theirs.shape or not np.isfinite(ours).all():
            return float("inf")
        return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))

    return error


@pytest.fixture(params=["cpu", "gpu"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the arithmetic, the CPU's and the GPU's, whatever this machine has."""
    monkeypatch.setattr(functions, "on_cpu", lambda: request.param == "cpu")
    return request.param
