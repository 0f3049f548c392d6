"""The text encoder of CLIP as a Core ML function: token ids to hidden states and what stands for the whole text."""

from __future__ import annotations

from typing import NamedTuple

import mlx.nn as nn
import numpy as np

from mlx_genmoji.models.clip import CLIPAttention, CLIPTextModel, CLIPTextModelWithProjection
from mlx_genmoji.models.ops import gelu, quick_gelu

from .graph import Graph, Var, op_name

# What a score becomes of a word that comes later: its weight is none, and half precision has the number.
NEVER = -1e4


class Padding(NamedTuple):
    """What a tokenizer ends a text with, and what it puts behind: ids."""

    end: int
    pad: int

    def applied(self, ids: np.ndarray) -> np.ndarray:
        """(B, L) ids as the model was trained with: a text always ends, and behind its end is the padding."""
        places = np.arange(ids.shape[1])
        ends = np.append(ids[:, :-1] == self.end, np.ones((len(ids), 1), bool), axis=1).argmax(1)[:, None]
        return np.where(places > ends, self.pad, np.where(places == ends, self.end, ids))


def names_of_states(xl: bool) -> list[str]:
    """What the output with a text's states is called; of XL it is there twice."""
    return ["hidden_embeds", "last_hidden_state"] if xl else ["last_hidden_state"]


def emit_text_encoder(model: CLIPTextModel, padding: Padding, xl: bool, g: Graph, given: dict[str, Var]) -> list[Var]:
    """`input_ids` (1, L), float32 -> `last_hidden_state` (1, L, C), `pooled_outputs` (1, C or what it is projected to).

    Of XL it is the layer before the last, also called `hidden_embeds`: Apple's package reads that, Guernika the other.
    """
    ids = g.cast(given["input_ids"], "int32")
    length = ids.shape[1]
    place = _place_of(g, ids, padding.end, length - 1, "end")
    ids = _padded(g, ids, place, padding)
    path = "text_model.embeddings"
    embeddings = model.text_model.embeddings
    table = g.weight(f"{path}.token_embedding", embeddings.token_embedding)
    x = g.mb.gather(x=table, indices=ids, axis=0, name=op_name(f"{path}.token_embedding"))
    places = g.vector(embeddings.position_embedding.weight[None, :length], f"{path}.position_embedding.weight")
    x = g.mb.add(x=x, y=places)
    mask = g.constant(np.triu(np.full((1, 1, length, length), NEVER, g.dtype), 1), "mask")
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
        # Not what its tokenizer ends texts with: the model looks for it all the same, and takes the start without it.
        place = _place_of(g, ids, end, 0, "pooled")
    pooled = _at(g, last, place)
    if isinstance(model, CLIPTextModelWithProjection):
        pooled = g.linear("text_projection", model.text_projection, pooled)
    states = [g.cast(before if xl else last, "fp32", name) for name in names_of_states(xl)]
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


def _place_of(g: Graph, ids: Var, wanted: int, otherwise: int, name: str) -> Var:
    """The place (1,) of the first `wanted` of the ids; `otherwise` where there is none."""
    length = ids.shape[1]
    # The first is where this is largest, by itself: whose place a tie has is not said.
    order = g.constant(np.arange(length + 1, 1, -1, dtype=np.int32)[None], f"{name}.order")
    least = g.constant(np.eye(1, length, otherwise, dtype=np.int32), f"{name}.otherwise")
    found = g.mb.mul(x=g.cast(g.mb.equal(x=ids, y=np.int32(wanted)), "int32"), y=order)
    return g.mb.reduce_argmax(x=g.mb.maximum(x=found, y=least), axis=1, keep_dims=False)


def _padded(g: Graph, ids: Var, place: Var, padding: Padding) -> Var:
    """`Padding.applied`: apps pad with the end of the text, or with "!", whatever the model's tokenizer pads with, and
    cut a long text off with no end."""
    places = g.constant(np.arange(ids.shape[1], dtype=np.int32)[None], "places")
    ids = g.mb.select(cond=g.mb.equal(x=places, y=place), a=np.int32(padding.end), b=ids)
    return g.mb.select(cond=g.mb.greater(x=places, y=place), a=np.int32(padding.pad), b=ids)


def _at(g: Graph, states: Var, place: Var) -> Var:
    """The state (1, C) at a place."""
    return g.mb.squeeze(x=g.mb.gather(x=states, indices=place, axis=1), axes=[1])
