"""Emits the text encoder of CLIP as a Core ML function: token ids to hidden states and a pooled one."""

from __future__ import annotations

from typing import NamedTuple

import mlx.nn as nn
import numpy as np

from mlx_genmoji.models.clip import CLIPAttention, CLIPTextModel, CLIPTextModelWithProjection
from mlx_genmoji.models.ops import gelu, quick_gelu

from .graph import Graph, Var, op_name

# Added to the scores of tokens that come later, which get no weight then. Half precision has the number.
MASKED = -1e4


class Padding(NamedTuple):
    """The ids of a tokenizer's end-of-text and padding tokens."""

    end: int
    pad: int

    def applied(self, ids: np.ndarray) -> np.ndarray:
        """Ids (B, L) as the model was trained with: every text has an end, and padding behind it."""
        places = np.arange(ids.shape[1])
        ends = np.append(ids[:, :-1] == self.end, np.ones((len(ids), 1), bool), axis=1).argmax(1)[:, None]
        return np.where(places > ends, self.pad, np.where(places == ends, self.end, ids))


def hidden_states_names(xl: bool) -> list[str]:
    """The names of the output with the hidden states. XL has it twice, under both names that apps read."""
    return ["hidden_embeds", "last_hidden_state"] if xl else ["last_hidden_state"]


def emit_text_encoder(model: CLIPTextModel, padding: Padding, xl: bool, g: Graph, inputs: dict[str, Var]) -> list[Var]:
    """`input_ids` (1, L), float32 -> `last_hidden_state` (1, L, C), `pooled_outputs` (1, C or the projection's width).

    For XL the states are those before the last layer, and also called `hidden_embeds`, which Apple's package reads;
    Guernika reads `last_hidden_state`.
    """
    ids = g.cast(inputs["input_ids"], "int32")
    length = ids.shape[1]
    end_place = _place_of(g, ids, padding.end, length - 1, "end")
    ids = _padded(g, ids, end_place, padding)
    path = "text_model.embeddings"
    embeddings = model.text_model.embeddings
    table = g.weight(f"{path}.token_embedding", embeddings.token_embedding)
    x = g.mb.gather(x=table, indices=ids, axis=0, name=op_name(f"{path}.token_embedding"))
    places = g.vector(embeddings.position_embedding.weight[None, :length], f"{path}.position_embedding.weight")
    x = g.mb.add(x=x, y=places)
    mask = g.constant(np.triu(np.full((1, 1, length, length), MASKED, g.dtype), 1), "mask")
    before = x
    for i, layer in enumerate(model.text_model.encoder.layers):
        before, path = x, f"text_model.encoder.layers.{i}"
        attended = _attention(
            g, f"{path}.self_attn", layer.self_attn, _norm(g, f"{path}.layer_norm1", layer.layer_norm1, x), mask
        )
        x = g.mb.add(x=x, y=attended)
        h = g.linear(f"{path}.mlp.fc1", layer.mlp.fc1, _norm(g, f"{path}.layer_norm2", layer.layer_norm2, x))
        h = g.linear(f"{path}.mlp.fc2", layer.mlp.fc2, _activation(g, layer.mlp.activation, h))
        x = g.mb.add(x=x, y=h, name=op_name(path))
    last = _norm(g, "text_model.final_layer_norm", model.text_model.final_layer_norm, x)
    if (end := model.config.eos_token_id) not in (None, 2, padding.end):
        # The model pools at this token, not at its tokenizer's end token; without one, at the start of the text.
        end_place = _place_of(g, ids, end, 0, "pooled")
    pooled = _at(g, last, end_place)
    if isinstance(model, CLIPTextModelWithProjection):
        pooled = g.linear("text_projection", model.text_projection, pooled)
    states = [g.cast(before if xl else last, "fp32", name) for name in hidden_states_names(xl)]
    return [*states, g.cast(pooled, "fp32", "pooled_outputs")]


def _norm(g: Graph, path: str, layer: nn.LayerNorm, x: Var) -> Var:
    gamma, beta = g.vector(layer.weight, f"{path}.weight"), g.vector(layer.bias, f"{path}.bias")
    return g.mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=g.dtype.type(layer.eps), name=op_name(path))


def _attention(g: Graph, path: str, layer: CLIPAttention, x: Var, mask: Var) -> Var:
    B, L, C = x.shape

    def heads(name: str) -> Var:
        y = g.mb.reshape(x=g.linear(f"{path}.{name}", layer[name], x), shape=[B, L, layer.heads, C // layer.heads])
        return g.mb.transpose(x=y, perm=[0, 2, 1, 3])

    q, k, v = heads("q_proj"), heads("k_proj"), heads("v_proj")
    q = g.times(q, layer.scale)
    scores = g.mb.add(x=g.mb.matmul(x=q, y=k, transpose_y=True), y=mask)
    attended = g.mb.matmul(x=g.mb.softmax(x=scores, axis=-1), y=v)
    flat = g.mb.reshape(x=g.mb.transpose(x=attended, perm=[0, 2, 1, 3]), shape=[B, L, C])
    return g.linear(f"{path}.out_proj", layer.out_proj, flat)


def _activation(g: Graph, activation: object, x: Var) -> Var:
    if activation is gelu:
        return g.mb.gelu(x=x, mode="EXACT")
    if activation is quick_gelu:
        return g.mb.mul(x=x, y=g.mb.sigmoid(x=g.times(x, 1.702)))
    return g.silu(x)


def _place_of(g: Graph, ids: Var, token: int, default: int, name: str) -> Var:
    """The place (1,) of the first of the ids (1, L) that is `token`; `default` where there is none."""
    length = ids.shape[1]
    # Numbers that fall from the first place on: Core ML does not document which place argmax returns for equal ones.
    order = g.constant(np.arange(length + 1, 1, -1, dtype=np.int32)[None], f"{name}.order")
    least = g.constant(np.eye(1, length, default, dtype=np.int32), f"{name}.otherwise")
    matches = g.mb.mul(x=g.cast(g.mb.equal(x=ids, y=np.int32(token)), "int32"), y=order)
    return g.mb.reduce_argmax(x=g.mb.maximum(x=matches, y=least), axis=1, keep_dims=False)


def _padded(g: Graph, ids: Var, place: Var, padding: Padding) -> Var:
    """Emits `Padding.applied` for a text that ends at `place`.

    Apps pad with the end token or with "!", whatever the model's tokenizer pads with, and cut long texts off without an
    end token.
    """
    places = g.constant(np.arange(ids.shape[1], dtype=np.int32)[None], "places")
    ids = g.mb.select(cond=g.mb.equal(x=places, y=place), a=np.int32(padding.end), b=ids)
    return g.mb.select(cond=g.mb.greater(x=places, y=place), a=np.int32(padding.pad), b=ids)


def _at(g: Graph, states: Var, place: Var) -> Var:
    """The state (1, C) at a place (1,) of states (1, L, C)."""
    return g.mb.squeeze(x=g.mb.gather(x=states, indices=place, axis=1), axes=[1])
