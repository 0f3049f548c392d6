"""CLIPTextModel, with projection or without: what transformers' module says, from the folder that it saved."""

import json
import shutil
from collections.abc import Callable
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
import transformers
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.clip import CLIPMLP, CLIPTextModel
from mlx_genmoji.models.ops import gelu

pytestmark = pytest.mark.usefixtures("cpu")

TOLERANCE = 1e-5
Config = dict[str, Any]

CONFIGS: dict[str, Config] = {
    # As Stable Diffusion 1.x says it: the end of the text is the largest id, whatever `eos_token_id` says.
    "stable-diffusion-1": {
        "vocab_size": 100,
        "hidden_size": 48,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "quick_gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    # As Stable Diffusion 2 says it, with an end that is not the largest id.
    "gelu": {
        "vocab_size": 80,
        "hidden_size": 40,
        "intermediate_size": 100,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-3,
        "eos_token_id": 7,
        "projection_dim": 16,
    },
    "short": {
        "vocab_size": 60,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "max_position_embeddings": 20,
        "hidden_act": "quick_gelu",
        "eos_token_id": 59,
    },
    # The second encoder of Stable Diffusion XL, whose config is old; and a new one.
    "projection": {
        "vocab_size": 80,
        "hidden_size": 40,
        "intermediate_size": 100,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "projection_dim": 24,
    },
    "projection-to-the-same-size": {
        "vocab_size": 90,
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "hidden_act": "quick_gelu",
        "eos_token_id": 11,
        "projection_dim": 24,
    },
}


class Case:
    """A random oracle, its folder, token ids, and what the oracle makes of them."""

    def __init__(self, config: Config, save: Callable[..., Path], quiet: bool = False, projects: bool = False):
        kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
        self.oracle = kind(transformers.CLIPTextConfig(**config))
        self.folder = save(self.oracle, quiet)
        length = config.get("max_position_embeddings", 77)
        ids = np.random.default_rng(1).integers(8, config["vocab_size"] - 1, (5, length))
        end = config["vocab_size"] - 1 if config["eos_token_id"] == 2 else config["eos_token_id"]
        ids[0, 9:] = end
        ids[1, [4, 11]] = end
        ids[2, -1] = end
        ids[3, 0] = end
        self.input_ids = ids
        self.expected = self.theirs(self.oracle)

    def theirs(self, oracle: transformers.CLIPPreTrainedModel) -> list[np.ndarray]:
        with torch.no_grad():
            output = oracle(torch.from_numpy(self.input_ids), output_hidden_states=True)
        pooled = output.text_embeds if "text_embeds" in output else output.pooler_output
        return [output.last_hidden_state.numpy(), pooled.numpy(), *(h.numpy() for h in output.hidden_states)]

    def ours(self, model: CLIPTextModel) -> list[mx.array]:
        output = model(mx.array(self.input_ids))
        return [output.last_hidden_state, output.pooled, *output.hidden_states]


@pytest.fixture(scope="module")
def make_case(save):
    return cache(lambda name, **others: Case(CONFIGS[name], save, projects=name.startswith("projection"), **others))


@pytest.fixture
def errors(error):
    return lambda ours, theirs: [error(a, b) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("name", CONFIGS)
def test_says_what_transformers_says(name, make_case, errors, form):
    case = make_case(name)
    assert max(errors(case.ours(load_model(case.folder)), case.expected)) <= TOLERANCE


def test_a_text_may_be_shorter_than_the_positions(make_case, errors):
    case = copy(make_case("stable-diffusion-1"))
    case.input_ids = case.input_ids[:2, :10]
    assert max(errors(case.ours(load_model(case.folder)), case.theirs(case.oracle))) <= TOLERANCE


@pytest.mark.parametrize("name", ["stable-diffusion-1", "projection"])
def test_the_prefix_of_the_keys_may_be_missing(name, make_case, errors, tmp_path):
    case = make_case(name)
    folder = shutil.copytree(case.folder, tmp_path / "text_encoder")
    tensors = load_file(folder / "model.safetensors")
    bare = {key.removeprefix("text_model."): array for key, array in tensors.items()}
    prefixed = {key if "projection" in key else f"text_model.{key}": array for key, array in bare.items()}
    for spelling in (bare, prefixed):
        save_file(spelling, folder / "model.safetensors")
        assert max(errors(case.ours(load_model(folder)), case.expected)) <= TOLERANCE


def test_what_the_pooled_state_is_projected_from_is_left_out_by_the_model_without_projection(make_case, tmp_path):
    case = make_case("projection")
    folder = shutil.copytree(case.folder, tmp_path / "text_encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["CLIPTextModel"]}))
    with pytest.warns(UserWarning, match=r"passed over tensors that drawing does not need: text_projection\.weight"):
        model = load_model(folder)
    assert not [name for name, _ in tree_flatten(model.parameters()) if "projection" in name]


def test_an_end_that_the_config_leaves_out_is_the_published_one(make_case):
    model = create_model({"architectures": ["CLIPTextModel"], **CONFIGS["short"], "eos_token_id": 49407})
    bare = {name: value for name, value in CONFIGS["short"].items() if name != "eos_token_id"}
    assert create_model({"architectures": ["CLIPTextModel"], **bare}).config == model.config


def test_a_token_says_nothing_about_those_before_it(make_case):
    case = make_case("stable-diffusion-1")
    model = load_model(case.folder)
    changed = case.input_ids.copy()
    changed[:, 12:] = 1
    before, after = model(mx.array(case.input_ids)), model(mx.array(changed))
    assert mx.array_equal(before.last_hidden_state[:, :12], after.last_hidden_state[:, :12])
    assert not mx.allclose(before.last_hidden_state[:, 12:], after.last_hidden_state[:, 12:])


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_reads_what_we_save(name, dtype, make_case, errors, tmp_path):
    case = make_case(name)
    model = load_model(case.folder)
    save_model(model, tmp_path / "ours", dtype)
    theirs = case.theirs(type(case.oracle).from_pretrained(tmp_path / "ours", dtype=torch.float32))
    again = load_model(tmp_path / "ours")
    assert max(errors(case.ours(again), theirs)) <= TOLERANCE
    if dtype == mx.float32:
        assert all(np.array_equal(a, b) for a, b in zip(theirs, case.expected, strict=True))
        assert again.raw_config == model.raw_config


@pytest.mark.parametrize("name", CONFIGS)
def test_quiet_activations_say_the_same(name, make_case, errors, form):
    case = make_case(name, quiet=True)
    assert max(errors(case.ours(load_model(case.folder)), case.expected)) <= TOLERANCE


@pytest.mark.parametrize("norm", ["layer_norm1", "layer_norm2", "final_layer_norm"])
def test_a_wrong_eps_in_one_norm_is_noticed(norm, make_case, errors):
    case = make_case("stable-diffusion-1", quiet=True)
    model = load_model(case.folder)
    owner = next(module for _, module in model.named_modules() if norm in module)
    owner[norm].eps = 1e-6
    assert errors(case.ours(model), case.expected)[0] > TOLERANCE


def test_gelu_for_quick_gelu_in_one_layer_is_noticed(make_case, errors):
    case = make_case("stable-diffusion-1")
    model = load_model(case.folder)
    mlp = next(module for _, module in model.named_modules() if isinstance(module, CLIPMLP))
    mlp.activation = gelu
    assert errors(case.ours(model), case.expected)[0] > TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_keys_and_values_swapped_in_one_layer_are_noticed(name, make_case, errors):
    case = make_case(name)
    model = load_model(case.folder)
    attention = model.text_model.encoder.layers[0].self_attn
    attention.k_proj, attention.v_proj = attention.v_proj, attention.k_proj
    assert errors(case.ours(model), case.expected)[0] > TOLERANCE


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_act", "relu", "hidden_act.*relu.*quick_gelu"),
        ("num_attention_heads", 5, "num_attention_heads.*5.*48"),
        ("num_attention_heads", 0, "num_attention_heads.*0"),
        ("hidden_size", "768", "hidden_size.*768"),
        ("num_hidden_layers", [12], "num_hidden_layers.*12"),
        ("eos_token_id", [1, 2], "eos_token_id"),
        ("num_hidden_layers", 5000, "num_hidden_layers.*5000 layers"),
        ("projection_dim", 0, "projection_dim.*0"),
        ("layer_norm_eps", None, "layer_norm_eps.*None"),
        ("position_embedding_type", "rotary", "position_embedding_type.*rotary"),
    ],
)
def test_a_config_that_cannot_be_built_is_one_sentence(field, value, message):
    config = {"architectures": ["CLIPTextModel"], **CONFIGS["stable-diffusion-1"], field: value}
    with pytest.raises(UserError, match=message) as caught:
        create_model(config)
    assert "\n" not in str(caught.value)
