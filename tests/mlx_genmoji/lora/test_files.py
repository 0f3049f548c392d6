"""Adapter files: each format, headers, and files that are refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora import Adapter, Format, LoRAConfig, adapter_of, attach, attached, load_adapter, save_adapter

Base = Callable[[str], Path]
Tensors = dict[str, np.ndarray[Any, Any]]

TARGETS = ("attention", "feed-forward", "conv", "text-encoder", "conv_in", "*.time_emb_proj")


@pytest.fixture(scope="module")
def models(base: Base) -> dict[str, Any]:
    return Genmoji.load(base("xl")).models


@pytest.fixture(scope="module")
def adapter(models: dict[str, Any]) -> Adapter:
    """A DoRA of XL, random in every part."""
    attach(models, LoRAConfig(rank=3, alpha=2.0, targets=TARGETS, dora=True), seed=1)
    for layer in attached(models).values():
        layer.lora_b = mx.random.normal(layer.lora_b.shape, key=mx.random.key(layer.lora_b.size))
    return adapter_of(models)


def same(a: Adapter, b: Adapter, exact: bool = True) -> bool:
    """Whether both change the same layers in the same way."""
    if a.layers.keys() != b.layers.keys():
        return False
    for path, layer in a.layers.items():
        other = b.layers[path]
        if layer.down.shape != other.down.shape or layer.rank != other.rank or (exact and layer.alpha != other.alpha):
            return False
        ups = (layer.up, other.up) if exact else (layer.up * layer.scale, other.up * other.scale)
        for mine, yours in ((layer.down, other.down), ups, (layer.dora_scale, other.dora_scale)):
            if (mine is None) != (yours is None) or (mine is not None and not mx.allclose(mine, yours, atol=1e-6)):
                return False
    return True


@pytest.mark.parametrize("format", ["kohya", "diffusers", "peft"])
def test_what_was_saved_is_loaded_and_saved_again_alike(
    models: dict[str, Any], adapter: Adapter, tmp_path: Path, format: Format
) -> None:
    first, second = (tmp_path / (name if format == "peft" else f"{name}.safetensors") for name in "ab")
    save_adapter(adapter, first, format, mx.float32)
    loaded = load_adapter(first)
    assert same(loaded.resolve(models), adapter, exact=format != "diffusers")
    save_adapter(loaded, second, format, mx.float32)
    files = ["unet", "text_encoder", "text_encoder_2"] if format == "peft" else [""]
    for file in files:
        name = f"{file}/adapter_model.safetensors" if file else ""
        a, b = load_file(first / name), load_file(second / name)
        assert a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    assert not list(tmp_path.glob(".*partial*"))


def test_every_format_can_be_converted_to_every_other(models: dict[str, Any], adapter: Adapter, tmp_path: Path) -> None:
    current = adapter
    for number, format in enumerate(("kohya", "peft", "diffusers", "peft", "kohya")):
        path = tmp_path / (str(number) if format == "peft" else f"{number}.safetensors")
        save_adapter(current, path, format, mx.float32)  # type: ignore[arg-type]
        current = load_adapter(path).resolve(models)
    assert same(current, adapter, exact=False)


def test_kohyas_underscores_are_known_beside_a_model_only(adapter: Adapter, tmp_path: Path) -> None:
    save_adapter(adapter, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="needs the model"):
        save_adapter(load_adapter(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", "diffusers")


def test_the_default_is_half_precision_in_kohyas_spelling(adapter: Adapter, tmp_path: Path) -> None:
    save_adapter(adapter, tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    assert all(tensor.dtype == np.float16 for key, tensor in tensors.items() if not key.endswith(".alpha"))
    name = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
    assert tensors[f"{name}.lora_down.weight"].shape == (3, 32) and tensors[f"{name}.alpha"].shape == ()
    assert tensors[f"{name}.dora_scale"].shape == (32, 1)
    assert tensors["lora_unet_conv_in.lora_down.weight"].shape == (3, 4, 3, 3)
    assert tensors["lora_unet_conv_in.lora_up.weight"].shape == (32, 3, 1, 1)
    shortcut = next(key for key in tensors if key.endswith("conv_shortcut.lora_down.weight"))
    assert tensors[shortcut].shape[2:] == (1, 1)


def test_a_header_holds_the_ranks_our_own_facts_and_those_of_others(adapter: Adapter, tmp_path: Path) -> None:
    facts = {
        "base_model": "builtin",
        "base_sha256": "ab12",
        "skin_tone": "dark",
        "template": "{prompt}, 3d",
        "step": "9",
    }
    save_adapter(replace(adapter, metadata=facts | {"ss_tag": "x"}), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "numpy") as file:
        header = file.metadata()
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("3", "2.0")
    assert header["ss_network_module"] == "networks.lora" and header["genmoji.skin_tone"] == "dark"
    loaded = load_adapter(tmp_path / "a.safetensors")
    assert facts.items() <= loaded.metadata.items() and loaded.metadata["ss_tag"] == "x"
    assert loaded.name == "a.safetensors" and len(loaded.sha256 or "") == 64


def test_the_names_of_xl_that_sd_scripts_write_are_known(
    base: Base, models: dict[str, Any], adapter: Adapter, tmp_path: Path, original_layout: Callable[..., Any]
) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(base("xl"), subfolder="unet")
    original = original_layout(unet, AutoencoderKL.from_pretrained(base("xl"), subfolder="vae"), {})
    names = (key.removeprefix("model.diffusion_model.") for key in original if key.startswith("model."))
    pairs = zip(unet.state_dict(), names, strict=True)
    theirs = {ours.removesuffix(".weight").replace(".", "_"): name.removesuffix(".weight") for ours, name in pairs}
    save_adapter(adapter, tmp_path / "a.safetensors", "kohya", mx.float32)
    renamed = {}
    for key, tensor in load_file(tmp_path / "a.safetensors").items():
        module, _, part = key.partition(".")
        if key.startswith("lora_unet_"):
            module = "lora_unet_" + theirs[module.removeprefix("lora_unet_")].replace(".", "_")
        renamed[f"{module}.{part}"] = tensor
    assert any("_input_blocks_2_0_op." in key for key in renamed)
    assert any(re.search(r"_output_blocks_1_[12]_conv\.", key) for key in renamed)
    save_file(renamed, tmp_path / "b.safetensors")
    assert same(load_adapter(tmp_path / "b.safetensors").resolve(models), adapter)


# How each of the oldest files names what is "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0" and
# "text_model.encoder.layers.0.self_attn.q_proj".
OLD = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.{}.weight": "unet",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.{}.weight": "unet",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.{}.weight": "unet",
    "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.{}.weight": "text",
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.{}.weight": "text",
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_{}.weight": "text",
    "lora_te1_encoder_layers_0_self_attn_q_proj.lora_{}.weight": "text",
}


@pytest.mark.parametrize("key", OLD)
def test_the_oldest_spellings_are_known(base: Base, tmp_path: Path, key: str) -> None:
    down, up = np.full((2, 32), 0.5, np.float32), np.ones((32, 2), np.float32)
    save_file({key.format("down"): down, key.format("up"): up}, tmp_path / "a.safetensors")
    (path,) = load_adapter(tmp_path / "a.safetensors").resolve(Genmoji.load(base("sd")).models).layers
    assert (
        path
        == {
            "unet": "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "text": "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        }[OLD[key]]
    )


LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PEFT_LAYER = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def ones(*shape: int, dtype: type = np.float32) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def halves(down: tuple[int, ...] = (2, 32), up: tuple[int, ...] = (32, 2), layer: str = LAYER) -> Tensors:
    names = ("lora_A", "lora_B") if layer == PEFT_LAYER else ("lora_down", "lora_up")
    return {f"{layer}.{names[0]}.weight": ones(*down), f"{layer}.{names[1]}.weight": ones(*up)}


@pytest.mark.parametrize(
    ("alpha", "expected"), [(None, 2.0), (np.float32(0), 2.0), (np.float32(1), 1.0), (np.int64(5), 5.0)]
)
def test_without_an_alpha_it_is_the_rank(tmp_path: Path, alpha: Any, expected: float) -> None:
    stored = {} if alpha is None else {f"{LAYER}.alpha": np.array(alpha)}
    save_file(halves() | stored, tmp_path / "a.safetensors")
    assert load_adapter(tmp_path / "a.safetensors").layers[LAYER].alpha == expected


MISTAKES: dict[str, tuple[Tensors, str]] = {
    "LoHa": ({f"{LAYER}.hada_w1_a": ones(2, 2)}, "not whole.* has no hada_w1"),
    "LoKr": ({f"{LAYER}.lokr_w1": ones(2, 2)}, "not whole.* has no lokr_w2"),
    "Tucker": (halves() | {f"{LAYER}.lora_mid.weight": ones(2, 2)}, "the middle of"),
    "whole": (halves() | {f"{LAYER}.diff_b": ones(2)}, r"a bias of \(2,\) instead of None"),
    "OFT": ({f"{LAYER}.oft_blocks": ones(2, 2)}, "OFT .*oft_blocks.* not supported"),
    "empty": (
        {f"{LAYER}.lokr_w1": ones(2, 2), f"{LAYER}.lokr_w2_a": ones(2, 0), f"{LAYER}.lokr_w2_b": ones(0, 2)},
        "no matrix",
    ),
    "LoHa's ranks": (
        {f"{LAYER}.hada_w{i}_{half}": ones(32, 2) if half == "a" else ones(3, 32) for i in (1, 2) for half in "ab"},
        "its layers have other shapes",
    ),
    "nothing but an alpha": ({f"{LAYER}.alpha": ones(1)}, "has alpha and nothing else"),
    "empty vectors": ({"emb_params": ones(0, 32)}, "emb_params"),
    "LoKr of another model": (
        {f"{LAYER}.lokr_w1": ones(2, 2), f"{LAYER}.lokr_w2": ones(2, 2)},
        r"another model.*\(4, 4\) instead of \(32, 32\)",
    ),
    "FLUX": ({"transformer.blocks.0.to_q.lora_A.weight": ones(2, 2)}, r"transformer\.blocks\.0\.to_q"),
    "a model": ({f"model.{i}.weight": ones(2, 2) for i in range(9)}, "and 6 more"),
    "half": ({f"{LAYER}.lora_down.weight": ones(2, 32)}, "has no up matrix"),
    "ranks": (halves(up=(32, 3)), "do not fit each other"),
    "integers": (halves() | {f"{LAYER}.lora_up.weight": ones(32, 2, dtype=np.int32)}, "lora_up"),
    "alpha": (halves() | {f"{LAYER}.alpha": np.array(np.nan, np.float32)}, "alpha"),
    "alphas": (halves() | {f"{LAYER}.alpha": ones(2)}, "alpha"),
    "inputs": (halves() | {f"{LAYER}.dora_scale": ones(1, 31)}, "31 magnitudes for 32 inputs"),
    "nothing": ({}, "no adapter"),
    "unknown layer": (halves(layer=f"{LAYER}_x"), "changes layers that the model lacks: lora_unet_.*to_q_x"),
    "another model": (halves((2, 64), (64, 2)), r"another model.*\(64, 64\) instead of \(32, 32\)"),
    "kernel": (halves((2, 32, 3, 3), (32, 2, 1, 1)), "instead of"),
    "twice": (halves() | halves(layer=PEFT_LAYER), "layers twice"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_faulty_file_is_refused_in_one_line(base: Base, tmp_path: Path, case: str) -> None:
    tensors, named = MISTAKES[case]
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=named) as error:
        Genmoji.load(base("sd"), adapters=[tmp_path / "a.safetensors"])
    assert "\n" not in str(error.value) and "a.safetensors" in str(error.value) and len(str(error.value)) < 800


def test_a_file_that_is_damaged_missing_or_a_pickle_is_refused(tmp_path: Path) -> None:
    save_file(halves(), tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "adapter.ckpt").write_bytes(b"\x80\x02")
    (tmp_path / "folder").mkdir()
    for name, named in (
        ("cut.safetensors", "damaged or was not downloaded whole"),
        ("text.safetensors", "damaged"),
        ("adapter.ckpt", "pickle"),
        ("folder", "adapter_config.json"),
        ("nothing.safetensors", "There is no adapter"),
    ):
        with pytest.raises(UserError, match=named) as error:
            load_adapter(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"bias": "all"}, "bias"),
        ({"lora_alpha": "much"}, "alpha"),
        ({"alpha_pattern": {"(": 3}}, "alpha_pattern"),
        ({"alpha_pattern": [3]}, "alpha_pattern"),
    ],
)
def test_a_configuration_of_peft_that_makes_no_sense_is_refused(
    tmp_path: Path, config: dict[str, Any], named: str
) -> None:
    halves = {f"{PEFT_LAYER}.lora_A.weight": (2, 32), f"{PEFT_LAYER}.lora_B.weight": (32, 2)}
    save_file(
        {key: np.ones(shape, np.float32) for key, shape in halves.items()}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2} | config))
    with pytest.raises(UserError, match=named) as error:
        load_adapter(tmp_path)
    assert "\n" not in str(error.value)


def test_numbers_that_do_not_fit_half_precision_are_not_saved(adapter: Adapter, tmp_path: Path) -> None:
    path, layer = next(iter(adapter.layers.items()))
    for value in (np.inf, 1e6):
        broken = Adapter({path: replace(layer, up=mx.full(layer.up.shape, value))})
        with pytest.raises(UserError, match="finite"):
            save_adapter(broken, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_saving_over_a_file_leaves_the_old_one_where_it_fails(
    adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_adapter(adapter, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_adapter(replace(adapter, metadata={"step": "2"}), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
