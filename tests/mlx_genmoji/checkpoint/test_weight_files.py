"""Files of weights: half or full precision, one or several, under every name that diffusers and transformers use."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import mlx.core as mx
import numpy as np
import pytest
import torch
import transformers
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_genmoji.checkpoint import components, weight_files
from mlx_genmoji.checkpoint.components import load_model
from mlx_genmoji.checkpoint.weight_files import Weights, find_weights
from mlx_genmoji.errors import UserError

pytestmark = pytest.mark.usefixtures("cpu")

STEMS = {"vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture(scope="module")
def oracles(save) -> dict[str, Callable[..., None]]:
    """What saves each component: the models' own `save_pretrained`."""
    vae = diffusers.AutoencoderKL(block_out_channels=[8], norm_num_groups=4)
    text_encoder = transformers.CLIPTextModelWithProjection(
        transformers.CLIPTextConfig(
            vocab_size=20,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=6,
        )
    )
    for oracle in (vae, text_encoder):
        save(oracle)
    return {"vae": vae.save_pretrained, "text_encoder": text_encoder.save_pretrained}


def parameters(folder: Path, **options: str) -> dict[str, mx.array]:
    return dict(tree_flatten(load_model(folder, **options).parameters()))


def equal(left: dict[str, mx.array], right: dict[str, mx.array]) -> bool:
    return left.keys() == right.keys() and all(mx.array_equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("component", STEMS)
def test_shards_are_one_model(component, variant, oracles, tmp_path):
    oracles[component](tmp_path / "whole")
    oracles[component](tmp_path / "shards", max_shard_size="2KB", variant=variant)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert equal(parameters(tmp_path / "shards"), parameters(tmp_path / "whole"))


@pytest.mark.parametrize("component", STEMS)
def test_a_variant_alone_is_read(component, oracles, tmp_path):
    oracles[component](tmp_path / "whole")
    oracles[component](tmp_path / "variant", variant="fp16")
    assert [p.name for p in (tmp_path / "variant").glob("*.safetensors")] == [f"{STEMS[component]}.fp16.safetensors"]
    assert equal(parameters(tmp_path / "variant"), parameters(tmp_path / "whole"))


def test_the_older_names_of_an_index_are_known(oracles, tmp_path):
    oracles["vae"](tmp_path / "shards", max_shard_size="2KB", variant="fp16")
    expected = parameters(tmp_path / "shards")
    index = tmp_path / "shards" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    for older in ("safetensors.fp16.index.json", "fp16.safetensors.index.json"):
        index = index.rename(index.with_name(f"diffusion_pytorch_model.{older}"))
        assert equal(parameters(tmp_path / "shards"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_becomes_single_precision_on_a_cpu(dtype, oracles, tmp_path):
    oracles["vae"](tmp_path / "whole")
    vae = diffusers.AutoencoderKL.from_pretrained(tmp_path / "whole", torch_dtype=dtype)
    vae.save_pretrained(tmp_path / "half")
    loaded = parameters(tmp_path / "half")["encoder.conv_in.weight"]
    expected = vae.encoder.conv_in.weight.detach().float().permute(0, 2, 3, 1).numpy()
    assert loaded.dtype == mx.float32
    assert np.array_equal(loaded, expected)


@pytest.fixture
def both(oracles, tmp_path) -> Path:
    """A text encoder whose biases are 0 in full precision, and 1 in half."""
    for variant, value in ((None, 0), ("fp16", 1)):
        oracles["text_encoder"](tmp_path, variant=variant)
        path = tmp_path / f"model{'.fp16' if variant else ''}.safetensors"
        tensors = load_file(path)
        tensors |= {key: np.full_like(array, value) for key, array in tensors.items() if key.endswith("bias")}
        save_file(tensors, path)
    return tmp_path


@pytest.mark.parametrize(
    ("cpu_only", "variant", "bias"),
    [(True, None, 0), (False, None, 1), (True, "fp16", 1), (False, "", 0)],
)
def test_of_both_precisions_the_device_s_own_is_read_unless_one_is_named(cpu_only, variant, bias, both, monkeypatch):
    monkeypatch.setattr(components, "on_cpu", lambda: cpu_only)
    loaded = parameters(both, variant=variant)["text_model.final_layer_norm.bias"]
    assert loaded.dtype == (mx.float32 if cpu_only else mx.float16)
    assert (loaded == bias).all().item()


@pytest.mark.parametrize(("upcast", "dtype"), [(True, mx.float32), (False, mx.float16)])
def test_a_gpu_keeps_an_autoencoder_in_the_precision_that_its_config_asks_for(
    upcast, dtype, oracles, tmp_path, monkeypatch
):
    monkeypatch.setattr(components, "on_cpu", lambda: False)
    oracles["vae"](tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"force_upcast": upcast}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert {array.dtype for array in parameters(tmp_path).values()} == {dtype}


def refused(folder: Path, message: str, **options: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder, **options)
    assert "\n" not in str(caught.value)


def test_a_variant_that_is_not_there_is_named(both):
    refused(both, "holds no weights.*model.ema.safetensors is missing", variant="ema")


@pytest.fixture
def shards(oracles, tmp_path) -> Path:
    oracles["vae"](tmp_path, max_shard_size="2KB")
    return tmp_path


def test_a_missing_shard_is_named(shards):
    lost = max(shards.glob("*.safetensors"))
    lost.unlink()
    refused(shards, f"{lost.name}, which .*index.json lists, is missing")


def test_a_damaged_shard_is_named(shards):
    damaged = max(shards.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    refused(shards, f"{damaged.name} is damaged")


def test_a_tensor_in_two_shards_is_one_too_many(shards):
    first, last = min(shards.glob("*.safetensors")), max(shards.glob("*.safetensors"))
    shutil.copy(first, last)
    refused(shards, f"unexpected: {min(load_file(first))}.*")


INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "lists no files"),
        ('{"weight_map": []}', "lists no files"),
        ('{"weight_map": {}}', "lists no files"),
        ('{"weight_map": {"a": 3}}', "lists 3"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "lists '../secret.safetensors'"),
        ('{"weight_map": {"a": "/secret.safetensors"}}', "lists '/secret.safetensors'"),
        ('{"weight_map": {"a": "model.bin"}}', "lists 'model.bin'"),
        ('{"weight_map": {"a": ""}}', "lists ''"),
        ('{"weight_map": {"a": "a\\nb\\u0000.safetensors"}}', "lists 'a.nb.x00.safetensors'"),
    ],
)
def test_an_index_that_makes_no_sense_is_named(index, message, shards):
    (shards / INDEX).write_text(index)
    refused(shards, message)


def test_a_whole_file_is_preferred_to_an_index(shards, oracles):
    oracles["vae"](shards)
    (shards / INDEX).write_text("{")
    assert find_weights(shards) == [shards / "diffusion_pytorch_model.safetensors"]


def test_the_hash_of_a_large_file_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weight_files, "LARGE", 1000)
    computed = []
    compute = weight_files._computed_sha256

    def counted(path: Path) -> bytes:
        computed.append(path.name)
        return compute(path)

    monkeypatch.setattr(weight_files, "_computed_sha256", counted)
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    small.write_bytes(b"a" * 999)
    large.write_bytes(b"b" * 1000)
    first = Weights([small, large]).sha256
    assert Weights([small, large]).sha256 == first
    assert computed.count("large.safetensors") == 1
    expected = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in (small, large)))
    assert first == expected.hexdigest()
    # Another content is another file, whatever its name and size.
    large.unlink()
    large.write_bytes(b"c" * 1000)
    os.utime(large, ns=(1, 1))
    assert Weights([large]).sha256 == hashlib.sha256(hashlib.sha256(b"c" * 1000).digest()).hexdigest()
    # A cache that is damaged, or cannot be written, is none.
    (tmp_path / "cache" / "mlx-genmoji" / "hashes.json").write_text('{"x": 1')
    assert Weights([small, large]).sha256 != first
    monkeypatch.setenv("XDG_CACHE_HOME", str(small))
    assert Weights([large]).sha256 == hashlib.sha256(hashlib.sha256(b"c" * 1000).digest()).hexdigest()
