"""The model that is exported: a folder whose components are opened one by one, their weights read when needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_genmoji.checkpoint import Defaults
from mlx_genmoji.checkpoint.components import Model, open_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.families import pipeline_of
from mlx_genmoji.files import read_json
from mlx_genmoji.hub import locate
from mlx_genmoji.lora import Adapter, load_adapter, use
from mlx_genmoji.lora.layer_tree import Models
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL
from mlx_genmoji.tokenizer import CLIPTokenizer

from ..model_folder import TEXT_ENCODERS
from .text_encoder import Padding

Weighted = tuple[Adapter, float]


@contextmanager
def computing_on_cpu() -> Iterator[None]:
    """Compute on the CPU within, where models are loaded in float32: an export is the same on every machine."""
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    try:
        yield
    finally:
        mx.set_default_device(device)


def _loaded(path: Path, weight: float | None, models: Models) -> Weighted:
    """An adapter for `models`, with the weight that its card recommends, or 1, where none is given."""
    adapter = load_adapter(path).resolve(models)
    if adapter.learned.tokens:
        raise UserError(
            f"{adapter.name} brings tokens of its own: make a model of both with genmoji fuse, then export it."
        )
    return adapter, (adapter.card.weight or 1.0) if weight is None else weight


class Source:
    """The diffusers folder of a model, and adapters. Raises UserError where something is missing or does not fit."""

    @computing_on_cpu()
    def __init__(self, model: str | Path | None, adapters: Sequence[tuple[Path, float | None]] = ()):
        """model: a folder, an id of the hub, or None for the built-in model. adapters: files and their weights."""
        self.folder, self.name, _ = locate(model)
        pipeline, _ = pipeline_of(self.folder)
        self.scheduler: dict[str, Any] = read_json(self.folder / "scheduler" / "scheduler_config.json")
        self.scheduler |= dict(pipeline.scheduler)
        self.defaults = Defaults.load(self.folder, pipeline.defaults)
        self.text_encoders = TEXT_ENCODERS[: pipeline.text_encoders]
        self._check()
        models = {name: self.open(name) for name in ("unet", *self.text_encoders)}
        self.adapters: list[Weighted] = [_loaded(path, weight, models) for path, weight in adapters]

    @computing_on_cpu()
    def open(self, component: str, adapters: Sequence[Weighted] = ()) -> Any:
        """A component with its weights unread. Layers that adapters change are LoRALayers or changed copies."""
        model = open_model(self.folder / component)
        local: list[Weighted] = []
        for adapter, weight in adapters:
            layers = {path: layer for path, layer in adapter.layers.items() if _is_of(path, component)}
            whole = {path: change for path, change in adapter.whole.items() if _is_of(path, component)}
            if layers or whole:
                local.append((replace(adapter, layers=layers, whole=whole), weight))
        if local:
            use({component: model}, local, mx.float32)
        return model

    def changes(self, component: str) -> bool:
        """Whether any adapter changes a component."""
        paths = (path for adapter, _ in self.adapters for path in (*adapter.layers, *adapter.whole))
        return any(_is_of(path, component) for path in paths)

    def padding(self, component: str) -> Padding:
        """The end and padding tokens of a text encoder's tokenizer."""
        tokenizer = CLIPTokenizer.load(self.folder / component.replace("text_encoder", "tokenizer"))
        return Padding(tokenizer.eos_token_id, tokenizer.pad_token_id)

    @property
    def function_names(self) -> list[str]:
        """The names of the adapters' functions: their files' names, with characters that Core ML allows."""
        names: list[str] = []
        for adapter, _ in self.adapters:
            name = re.sub(r"\W", "_", adapter.name.removesuffix(".safetensors"), flags=re.ASCII)
            name = name if re.match(r"[A-Za-z]", name) and name != "main" else f"adapter_{name}"
            if name in names:
                raise UserError(f"Two adapters would be functions of one name, {name}: rename a file.")
            names.append(name)
        return names

    @cached_property
    def latents(self) -> tuple[int, int]:
        """Height and width of the latents that the model was made for."""
        size = self.unet.raw_config.get("sample_size") or 64
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return int(height), int(width)

    @cached_property
    def unet(self) -> UNet2DConditionModel:
        return self.open("unet")

    @cached_property
    def vae(self) -> AutoencoderKL:
        return self.open("vae")

    def _check(self) -> None:
        kinds: list[tuple[str, type[Model]]] = [("unet", UNet2DConditionModel), ("vae", AutoencoderKL)]
        for component, kind in (*kinds, *((name, CLIPTextModel) for name in self.text_encoders)):
            model = self.open(component)
            if not isinstance(model, kind):
                raise UserError(f"{self.folder / component} is {type(model).__name__}, which has no export to Core ML.")
        if str(self.scheduler.get("_class_name")).startswith("EDM"):
            raise UserError(f"{self.folder} was trained on sigmas (EDM), which the exported formats cannot draw with.")
        widths = self.unet.config.cross_attention_dim
        width = widths[0] if isinstance(widths, tuple) else widths
        text_width = sum(self.open(name).config.hidden_size for name in self.text_encoders)
        if text_width != width or self.vae.config.latent_channels != self.unet.config.out_channels:
            raise UserError(
                "The model's components do not fit together: the UNet's channels are not those of its text encoders or"
                " of its autoencoder."
            )


def _is_of(path: str, component: str) -> bool:
    return path.startswith(f"{component}.")
