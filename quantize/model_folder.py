"""What the writers of model folders share: quantized, fused and exported ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from mlx_genmoji.checkpoint import DEFAULTS_FILE
from mlx_genmoji.checkpoint.components import Model, create_model, packed_parts
from mlx_genmoji.checkpoint.weight_files import PICKLES
from mlx_genmoji.errors import UserError
from mlx_genmoji.prompt.words import FILE as WORDS_FILE
from mlx_genmoji.quantization import CONFIG_KEY, DENSE_KEY, QuantizedLayer
from mlx_genmoji.reader.vocabulary import FILE as VOCABULARY_FILE
from mlx_genmoji.sticker import OUTLINES_FILE

# The files of a model that are read besides its components' folders.
MODEL_FILES = ("model_index.json", DEFAULTS_FILE, WORDS_FILE, VOCABULARY_FILE, OUTLINES_FILE)

TOKEN_TABLE = "text_model.embeddings.token_embedding.weight"
"""The path of the embeddings of tokens in a text encoder."""

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


def check_unused(output: Path, purpose: str) -> None:
    """Raise UserError if there is anything at `output` but an empty folder. purpose: such as "the fused model"."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: name a new folder for {purpose}.")


def copy_model_files(source: Path, target: Path) -> None:
    """Copy those of MODEL_FILES that the model in the folder `source` has."""
    for name in MODEL_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def copy_component(source: Path, target: Path) -> None:
    """Copy a component's folder without pickles."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*(f"*{suffix}" for suffix in PICKLES)))


def dense_copy(model: nn.Module, changed: Mapping[str, mx.array]) -> Model:
    """A model of the same architecture whose layers are all dense, its weights not evaluated yet.

    changed: new parameters by their paths ("conv_in.weight"); all others are those of `model`, dequantized.
    """
    packed = packed_parts(model)
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    weights = {key: weight for key, weight in parameters.items() if key not in packed}
    for path, layer in model.named_modules():
        if isinstance(layer, QuantizedLayer):
            weights[f"{path}.weight"] = layer.dequantized()
    weights |= changed
    config = {key: value for key, value in model.raw_config.items() if key not in (CONFIG_KEY, DENSE_KEY)}
    if TOKEN_TABLE in changed:
        config["vocab_size"] = len(changed[TOKEN_TABLE])
    dense = create_model(config)
    dense.update(tree_unflatten(list(weights.items())))
    return dense
