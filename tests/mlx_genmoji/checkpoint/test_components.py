"""Checkpoint folders: every variant of a component is read, and a faulty one is refused in one sentence."""

import json
import re
import shutil
import struct
import subprocess
import sys
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

from mlx_genmoji.checkpoint import components
from mlx_genmoji.checkpoint.components import create_model, load_model, save_model
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.ops import cpu_eager
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL

Tensors = dict[str, np.ndarray]
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture(scope="module")
def oracles(save) -> dict[str, Path]:
    """One small folder of each component."""
    unet = diffusers.UNet2DConditionModel(
        down_block_types=["CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D"],
        block_out_channels=[8],
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=6,
        norm_num_groups=4,
    )
    vae = diffusers.AutoencoderKL(block_out_channels=[8], norm_num_groups=4)
    text_encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=20, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
        )
    )
    return {"unet": save(unet), "vae": save(vae), "text_encoder": save(text_encoder)}


@pytest.fixture
def folder(oracles: dict[str, Path], tmp_path: Path) -> Path:
    """A UNet's folder to damage."""
    return shutil.copytree(oracles["unet"], tmp_path / "unet")


@pytest.fixture
def rewritten(oracles: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """`rewritten(component, change)`: its folder after `change(tensors)`."""

    def rewritten(component: str, change: Callable[[Tensors], Tensors]) -> Path:
        folder = shutil.copytree(oracles[component], tmp_path / component)
        tensors = change(load_file(folder / WEIGHTS[component]))
        save_file({key: np.ascontiguousarray(array) for key, array in tensors.items()}, folder / WEIGHTS[component])
        return folder

    return rewritten


def renamed(*pairs: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    def rename(key: str) -> str:
        for pattern, replacement in pairs:
            key = re.sub(pattern, replacement, key)
        return key

    return lambda tensors: {rename(key): array for key, array in tensors.items()}


def same(a: Path, b: Path) -> bool:
    left, right = (dict(tree_flatten(load_model(folder).parameters())) for folder in (a, b))
    return left.keys() == right.keys() and all(mx.array_equal(left[key], right[key]) for key in left)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("component", "kind"),
    [("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)],
)
def test_a_parameter_path_is_the_checkpoint_s_key(component, kind, oracles):
    model = load_model(oracles[component])
    assert isinstance(model, kind)
    assert not model.training
    keys = load_file(oracles[component] / WEIGHTS[component]).keys()
    paths = {path for path, _ in tree_flatten(model.parameters())}
    # transformers writes the text encoder's keys without the prefix that every published checkpoint has.
    assert paths == {f"text_model.{key}" if component == "text_encoder" else key for key in keys}


# Stable Diffusion 1.5, then 2.1, XL and TAESD as published, and the parameters that their files hold.
PUBLISHED = {
    859_520_964: """{
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
        "cross_attention_dim": 768, "down_block_types":
        ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}""",
    83_653_863: """{
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512], "down_block_types":
        ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
        "sample_size": 512, "up_block_types":
        ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}""",
    123_060_480: """{
        "_name_or_path": "openai/clip-vit-large-patch14", "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu",
        "hidden_size": 768, "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 3072,
        "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1, "projection_dim": 768,
        "torch_dtype": "float32", "transformers_version": "4.22.0.dev0", "vocab_size": 49408}""",
    865_910_724: """{
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0.dev0", "act_fn": "silu",
        "attention_head_dim": [5, 10, 20, 20], "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": false, "cross_attention_dim": 1024, "down_block_types":
        ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "dual_cross_attention": false, "flip_sin_to_cos": true, "freq_shift": 0,
        "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
        "norm_num_groups": 32, "num_class_embeds": null, "only_cross_attention": false, "out_channels": 4,
        "sample_size": 96, "up_block_types":
        ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "use_linear_projection": true, "upcast_attention": true}""",
    340_387_840: """{
        "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0,
        "eos_token_id": 2, "hidden_act": "gelu", "hidden_size": 1024, "initializer_factor": 1.0,
        "initializer_range": 0.02, "intermediate_size": 4096, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
        "model_type": "clip_text_model", "num_attention_heads": 16, "num_hidden_layers": 23, "pad_token_id": 1,
        "projection_dim": 512, "torch_dtype": "float32", "transformers_version": "4.25.0.dev0",
        "vocab_size": 49408}""",
    2_567_463_684: """{
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.19.0.dev0", "act_fn": "silu",
        "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "center_input_sample": false,
        "class_embed_type": null, "class_embeddings_concat": false, "conv_in_kernel": 3, "conv_out_kernel": 3,
        "cross_attention_dim": 2048, "cross_attention_norm": null, "down_block_types":
        ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "downsample_padding": 1,
        "dual_cross_attention": false, "encoder_hid_dim": null, "encoder_hid_dim_type": null, "flip_sin_to_cos": true,
        "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_only_cross_attention": null,
        "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05,
        "norm_num_groups": 32, "num_attention_heads": null, "num_class_embeds": null, "only_cross_attention": false,
        "out_channels": 4, "projection_class_embeddings_input_dim": 2816, "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": false, "resnet_time_scale_shift": "default", "sample_size": 128,
        "time_cond_proj_dim": null, "time_embedding_act_fn": null, "time_embedding_dim": null,
        "time_embedding_type": "positional", "timestep_post_act": null, "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "upcast_attention": null,
        "use_linear_projection": true}""",
    694_659_840: """{
        "architectures": ["CLIPTextModelWithProjection"], "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0,
        "eos_token_id": 2, "hidden_act": "gelu", "hidden_size": 1280, "initializer_factor": 1.0,
        "initializer_range": 0.02, "intermediate_size": 5120, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
        "model_type": "clip_text_model", "num_attention_heads": 20, "num_hidden_layers": 32, "pad_token_id": 1,
        "projection_dim": 1280, "torch_dtype": "float16", "transformers_version": "4.32.0.dev0",
        "vocab_size": 49408}""",
    2_445_063: """{
        "_class_name": "AutoencoderTiny", "_diffusers_version": "0.20.0.dev0", "act_fn": "relu",
        "block_out_channels": [64, 64, 64, 64], "decoder_block_out_channels": [64, 64, 64, 64],
        "encoder_block_out_channels": [64, 64, 64, 64], "force_upcast": false, "in_channels": 3, "latent_channels": 4,
        "latent_magnitude": 3, "latent_shift": 0.5, "num_decoder_blocks": [3, 3, 3, 1],
        "num_encoder_blocks": [1, 3, 3, 3], "out_channels": 3, "scaling_factor": 1.0,
        "upsampling_scaling_factor": 2}""",
}


@pytest.mark.parametrize("parameters", PUBLISHED)
def test_published_configs_are_understood(parameters):
    model = create_model(json.loads(PUBLISHED[parameters]))
    assert sum(array.size for _, array in tree_flatten(model.parameters())) == parameters


def test_a_text_encoder_as_published_has_a_prefix_and_position_ids(rewritten, oracles):
    def publish(tensors: Tensors) -> Tensors:
        published = {f"text_model.{key}": array for key, array in tensors.items()}
        return published | {"text_model.embeddings.position_ids": np.arange(77)[None]}

    assert same(rewritten("text_encoder", publish), oracles["text_encoder"])


def test_position_ids_may_lack_the_prefix_too(rewritten, oracles):
    folder = rewritten("text_encoder", lambda tensors: tensors | {"embeddings.position_ids": np.arange(77)[None]})
    assert same(folder, oracles["text_encoder"])


LEGACY_VAE = renamed(
    (r"attentions\.0\.to_q", "attentions.0.query"),
    (r"attentions\.0\.to_k", "attentions.0.key"),
    (r"attentions\.0\.to_v", "attentions.0.value"),
    (r"attentions\.0\.to_out\.0", "attentions.0.proj_attn"),
)


@pytest.mark.parametrize("convolutions", [False, True], ids=["linear", "1x1 convolutions"])
def test_an_old_autoencoder_spells_its_attention_otherwise(convolutions, rewritten, oracles):
    def age(tensors: Tensors) -> Tensors:
        aged = LEGACY_VAE(tensors)
        assert len(aged.keys() - tensors.keys()) == 16
        for key in aged.keys() - tensors.keys():
            if convolutions and aged[key].ndim == 2:
                aged[key] = aged[key][:, :, None, None]
        return aged

    assert same(rewritten("vae", age), oracles["vae"])


def test_a_tensor_in_two_spellings_is_one_too_many(rewritten):
    refused(
        rewritten("vae", lambda tensors: tensors | LEGACY_VAE(tensors)),
        "unexpected: decoder.mid_block.attentions.0.to_k.bias",
    )


def test_a_missing_folder_is_named(tmp_path):
    refused(tmp_path / "nowhere", "nowhere.*config.json is missing")


def test_a_missing_config_is_named(folder):
    (folder / "config.json").unlink()
    refused(folder, "config.json is missing")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "7", '"UNet2DConditionModel"', "[" * 100_000])
def test_a_config_that_is_no_json_object_is_named(text, folder):
    (folder / "config.json").write_text(text)
    refused(folder, "config.json is not")


def test_a_config_that_is_no_text_is_named(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\xfa")
    refused(folder, "config.json is not")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"_class_name": "FluxTransformer2DModel"},
        {"_class_name": ["AutoencoderKL", {}], "architectures": 3},
        {"_class_name": {}, "architectures": 3},
        {"architectures": []},
        {"architectures": ["T5EncoderModel"]},
        {"architectures": "CLIPTextModel"},
    ],
)
def test_a_component_that_is_not_supported_is_named(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "CLIPTextModel|config.json lacks")


def test_a_folder_without_weights_is_named(folder):
    (folder / WEIGHTS["unet"]).unlink()
    refused(folder, "holds no weights.*diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "v1-5-pruned.ckpt", "model.pt"])
def test_a_pickle_is_refused_by_name(name, folder):
    (folder / WEIGHTS["unet"]).unlink()
    torch.save({}, folder / name)
    refused(folder, f"{name}.*safetensors")


def test_a_pickle_beside_the_weights_is_not_opened(folder, oracles):
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"not a pickle")
    assert same(folder, oracles["unet"])


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1, 0.5])
def test_a_truncated_file_is_named(kept, folder):
    path = folder / WEIGHTS["unet"]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refused(folder, "diffusion_pytorch_model.safetensors is damaged")


def with_header(header: object, data: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"\xff" * 64,
        with_header(b"{" * 16),
        with_header(b"[" * 100_000),
        with_header(b"\xff" * 16),
        with_header([]),
        with_header({"a": 1}),
        with_header({"a": {"dtype": "F32", "shape": [4]}}),
        with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16, 32]}}),
        with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": ["0", "16"]}}),
        with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}),
        with_header({"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 16]}}),
        with_header({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
        with_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(17)),
        with_header({"a": {"dtype": "Q4", "shape": [4], "data_offsets": [0, 16]}}),
    ],
)
def test_a_damaged_header_is_named(content, folder):
    (folder / WEIGHTS["unet"]).write_bytes(content)
    refused(folder, "diffusion_pytorch_model.safetensors is damaged")


def test_a_type_that_mlx_lacks_is_named(rewritten):
    folder = rewritten("unet", lambda tensors: tensors | {"conv_in.bias": tensors["conv_in.bias"].astype(np.float64)})
    refused(folder, "diffusion_pytorch_model.safetensors.*F64")


def test_a_missing_tensor_is_named(rewritten):
    folder = rewritten("unet", lambda tensors: {key: array for key, array in tensors.items() if key != "conv_in.bias"})
    refused(folder, "missing: conv_in.bias")


def test_many_missing_tensors_are_counted(rewritten):
    refused(rewritten("unet", lambda tensors: {"conv_in.bias": tensors["conv_in.bias"]}), r"missing: .* and \d+ more")


def test_an_unexpected_tensor_is_named(rewritten):
    folder = rewritten("unet", lambda tensors: tensors | {"conv_in.scale": tensors["conv_in.bias"]})
    refused(folder, "unexpected: conv_in.scale")


@pytest.mark.parametrize("shape", [(9,), (8, 1), (1, 8)])
def test_a_wrong_shape_is_named(shape, rewritten):
    folder = rewritten("unet", lambda tensors: tensors | {"conv_in.bias": np.zeros(shape, np.float32)})
    refused(folder, rf"misshaped: conv_in.bias {re.escape(str(shape))} instead of \(8,\)")


def test_a_convolution_of_another_size_is_named(rewritten):
    folder = rewritten("unet", lambda tensors: tensors | {"conv_in.weight": tensors["conv_in.weight"][:, :, :1, :1]})
    refused(folder, "misshaped: conv_in.weight")


def test_whole_numbers_for_weights_are_named(rewritten):
    """Eight-bit floats look like this to MLX, and mean something else."""
    folder = rewritten("unet", lambda tensors: tensors | {"conv_in.bias": np.ones(8, np.uint8)})
    refused(folder, "conv_in.bias.*uint8")


def test_a_refused_file_leaves_the_model_as_it_was(oracles, rewritten):
    model = load_model(oracles["unet"])
    folder = rewritten("unet", lambda tensors: {key: array + 1 for key, array in list(tensors.items())[:-1]})
    before = dict(tree_flatten(model.parameters()))
    with pytest.raises(UserError):
        components.load_weights(model, [folder / WEIGHTS["unet"]])
    assert all(mx.array_equal(array, before[path]) for path, array in tree_flatten(model.parameters()))


def test_a_stable_diffusion_model_imports_no_module_of_other_models():
    code = """import sys; from mlx_genmoji import Genmoji; Genmoji.load(); print(*sys.modules)"""
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "mlx_genmoji.models.vae" in modules and "mlx_genmoji.models.tiny_vae" not in modules


@pytest.mark.parametrize("large", [1, 100, 2**16])
@pytest.mark.parametrize("component", WEIGHTS)
def test_half_precision_is_widened_on_a_cpu(component, large, rewritten, oracles, monkeypatch):
    folder = rewritten(component, lambda tensors: {key: tensor.astype(np.float16) for key, tensor in tensors.items()})
    expected = {
        name: weight.astype(mx.float16).astype(mx.float32)
        for name, weight in tree_flatten(load_model(oracles[component]).parameters())
    }
    monkeypatch.setattr(cpu_eager, "LARGE", large)
    model = load_model(folder)
    weights = dict(tree_flatten(model.parameters()))
    assert list(weights) == list(expected)
    assert all(weights[name].dtype == mx.float32 for name in weights)
    assert all(mx.array_equal(weights[name], expected[name]).item() for name in weights)


@pytest.mark.parametrize("component", WEIGHTS)
def test_saving_keeps_the_config_and_leaves_no_other_file(component, oracles, tmp_path):
    model = load_model(oracles[component])
    save_model(model, tmp_path / "saved" / component)
    assert {path.name for path in (tmp_path / "saved" / component).iterdir()} == {"config.json", WEIGHTS[component]}
    saved, given = (
        json.loads((f / "config.json").read_text()) for f in (tmp_path / "saved" / component, oracles[component])
    )
    assert saved == given
    assert same(tmp_path / "saved" / component, oracles[component])


def test_a_save_that_fails_leaves_the_file_that_was_there(oracles, tmp_path, monkeypatch):
    model = load_model(oracles["unet"])
    save_model(model, tmp_path)
    before = (tmp_path / WEIGHTS["unet"]).read_bytes()

    def fail(path: str, *_: object) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    model.conv_in.bias = model.conv_in.bias + 1
    with pytest.raises(OSError, match="No space"):
        save_model(model, tmp_path)
    assert (tmp_path / WEIGHTS["unet"]).read_bytes() == before


def test_a_model_may_be_saved_over_itself(folder, oracles):
    save_model(load_model(folder), folder)
    assert same(folder, oracles["unet"])


def test_a_gpu_gets_half_precision_but_for_the_autoencoder(oracles, monkeypatch):
    monkeypatch.setattr(components, "on_cpu", lambda: False)
    dtypes = {c: {p.dtype for _, p in tree_flatten(load_model(f).parameters())} for c, f in oracles.items()}
    assert dtypes == {"unet": {mx.float16}, "vae": {mx.float32}, "text_encoder": {mx.float16}}


@pytest.mark.skipif(not mx.is_available(mx.gpu), reason="needs a GPU")
@pytest.mark.parametrize("component", WEIGHTS)
def test_a_gpu_says_nearly_what_the_cpu_says(component, oracles, error, cpu):
    def run() -> mx.array:
        model = load_model(oracles[component])
        if component == "unet":
            arrays = [mx.random.normal(shape, key=mx.random.key(0)) for shape in ((2, 8, 8, 4), (2, 5, 6))]
            return model(arrays[0], mx.array([1, 999]), arrays[1])
        if component == "vae":
            return model.decode(model.encode(mx.random.normal((2, 8, 8, 3), key=mx.random.key(0)))[0])
        return model(mx.arange(20)[None]).last_hidden_state

    expected = np.asarray(run())
    mx.set_default_device(mx.gpu)
    assert error(run().astype(mx.float32), expected) <= 1e-2


def test_loading_models_leaves_no_history_of_random_keys(oracles: dict[str, Path], tmp_path: Path) -> None:
    mx.random.normal((1,))
    load_model(oracles["unet"])
    mx.export_to_dot(str(tmp_path / "history.dot"), mx.random.state[0])
    assert "RandomBits" not in (tmp_path / "history.dot").read_text()


def test_convolutions_lie_in_memory_as_they_are_used(oracles):
    """A weight with other strides is the same to look at, and several times as slow to convolve with."""
    unet = load_model(oracles["unet"])
    for name, weight in tree_flatten(unet.parameters()):
        assert memoryview(weight).c_contiguous, name
