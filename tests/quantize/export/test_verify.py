"""Packages with planted faults: the export notices each and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import export

from app import cli
from mlx_genmoji.errors import UserError
from quantize.export import text_encoder, unet
from quantize.export.apple_schedule import AppleSchedule
from quantize.export.graph import Graph

pytestmark = pytest.mark.usefixtures("cpu")

Small = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


def swap_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    emit = unet.emit_attention

    def swapped(g: Graph, path: str, layer: Any, x: Any, context: Any) -> Any:
        if path == "mid_block.attentions.0.transformer_blocks.0.attn1":
            layer.to_k, layer.to_v = layer.to_v, layer.to_k
        return emit(g, path, layer, x, context)

    monkeypatch.setattr(unet, "emit_attention", swapped)


def cross_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = Graph.attention

    def crossed(g: Graph, q: Any, k: Any, v: Any, heads: int, scale: float) -> Any:
        return attention(g, q, v, k, heads, scale)

    monkeypatch.setattr(Graph, "attention", crossed)


def bend_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = Graph.vector

    def bent(g: Graph, values: Any, key: str, shape: Any = None) -> Any:
        return vector(g, values * 1.02 if key == "up_blocks.0.resnets.1.conv1.bias" else values, key, shape)

    monkeypatch.setattr(Graph, "vector", bent)


def embed_the_time_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(g: Graph, numbers: Any, channels: int, flip: bool, shift: float, name: str) -> Any:
        half = channels // 2
        frequencies = np.exp(np.arange(half) * (-np.log(10000) / (half - shift))).astype(np.float16)[None]
        numbers = g.mb.expand_dims(x=g.cast(numbers, "fp16"), axes=[1])
        angles = g.mb.mul(x=numbers, y=g.constant(frequencies, f"{name}.frequencies"))
        return g.mb.concat(values=[g.mb.cos(x=angles), g.mb.sin(x=angles)], axis=1, name=name)

    monkeypatch.setattr(unet, "_waves", halved)


def bend_sigmas(monkeypatch: pytest.MonkeyPatch) -> None:
    end = unet._end

    def bent(model: Any, schedule: AppleSchedule, *others: Any) -> Any:
        return end(model, replace(schedule, sigmas=schedule.sigmas * np.float32(1.02)), *others)

    monkeypatch.setattr(unet, "_end", bent)


def swap_signal_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    end = unet._end

    def swapped(model: Any, schedule: AppleSchedule, *others: Any) -> Any:
        return end(model, replace(schedule, alphas=schedule.sigmas, sigmas=schedule.alphas), *others)

    monkeypatch.setattr(unet, "_end", swapped)


def pool_the_wrong_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(g: Graph, states: Any, place: Any) -> Any:
        third = g.mb.gather(x=states, indices=np.array([3], np.int32), axis=1)
        return g.mb.squeeze(x=third, axes=[1])

    monkeypatch.setattr(text_encoder, "_at", wrong)


@pytest.mark.parametrize(
    ("fault", "family", "clue"),
    [
        (
            bend_sigmas,
            "SD 2.1",
            r"Unet: .*: its layers are the same, but its output noise_pred is 2\.\d\d% off\. Nothing",
        ),
        (
            swap_signal_and_noise,
            "SD 2.1",
            r"Unet: .*: its layers are the same, but its output noise_pred is .* off\. Nothing",
        ),
        (
            pool_the_wrong_token,
            "SD 1.5",
            r"TextEncoder: .*: its layers are the same, but its output pooled_outputs is .* off",
        ),
    ],
)
def test_an_output_that_differs_while_all_layers_agree_is_noticed(
    fault: Callable[[pytest.MonkeyPatch], None],
    family: str,
    clue: str,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)
    with pytest.raises(UserError, match=clue):
        export(small(family), tmp_path / "export", bits=16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fault", "bits", "layer"),
    [
        (swap_keys_and_values, "4", r"mid_block\.attentions\.0\.transformer_blocks\.0\.attn1\.to_k"),
        (cross_keys_and_values, "16", r"down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn1\.to_out\.0"),
        (bend_a_bias, "16", r"up_blocks\.0\.resnets\.1\.conv1"),
        (bend_a_bias, "4", r"up_blocks\.0\.resnets\.1\.conv1"),
        (embed_the_time_in_half_precision, "16", r"time_embedding"),
    ],
)
def test_a_package_that_is_not_the_model_is_not_exported(
    fault: Callable[[pytest.MonkeyPatch], None],
    bits: str,
    layer: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault(monkeypatch)
    output = tmp_path / "export"
    assert cli.main(["export", str(tiny), "-o", str(output), "--bits", bits]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.match(
        rf"genmoji: Unet: the package differs from the model: the first layer to differ is {layer}\b", message
    )
    assert not list(tmp_path.iterdir())
