"""Textual inversion: each kind of file draws as diffusers does with the same vectors, alone or with an adapter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mlx_genmoji import Genmoji, UserError

Base = Callable[[str], Path]
Theirs = Callable[[str], Any]
Noise = np.ndarray[Any, Any]

WIDTHS = {"text_encoder": 32, "text_encoder_2": 40}
LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def vectors(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed + width))


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(1 / max(np.mean((a - b) ** 2), 1e-12)))


def drawn_here(genmoji: Genmoji, prompt: str, noise: Noise, negative: str = "") -> np.ndarray[Any, Any]:
    options: dict[str, Any] = {"steps": 2, "guidance": 4.0, "latents": mx.array(noise), "template": "{prompt}"}
    return np.asarray(genmoji.generate(prompt, negative_prompt=negative, **options)[0].image) / 255


def drawn_there(pipeline: Any, prompt: str, noise: Noise, negative: str = "") -> np.ndarray[Any, Any]:
    latents = torch.from_numpy(noise).permute(0, 3, 1, 2).contiguous()
    options = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np", "height": 16, "width": 16}
    images = pipeline(prompt, negative_prompt=negative or None, latents=latents, **options).images
    return np.round(images[0] * 255) / 255


def learn_there(pipeline: Any, tokens: dict[str, dict[str, torch.Tensor]]) -> None:
    """Teach diffusers' pipeline tokens, each with its vectors by text encoder."""
    for token, parts in tokens.items():
        for encoder, rows in parts.items():
            suffix = encoder.removeprefix("text_encoder")
            tokenizer = getattr(pipeline, f"tokenizer{suffix}")
            pipeline.load_textual_inversion(
                {token: rows}, token=token, text_encoder=getattr(pipeline, encoder), tokenizer=tokenizer
            )


L2, L3, G2, G3 = vectors(2, 32), vectors(3, 32), vectors(2, 40), vectors(3, 40)

BOTH = {"text_encoder": L3, "text_encoder_2": G3}

# By the name of a case: the family, the file's name and tensors, the tokens that diffusers gets, the prompt.
FILES: dict[str, tuple[str, str, dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]], str]] = {
    "A1111": ("sd", "zork.safetensors", {"emb_params": L3}, {"zork": {"text_encoder": L3}}, "a zork of a pig, flat"),
    "diffusers, a vector": ("sd", "x.safetensors", {"<ox>": L2[0]}, {"<ox>": {"text_encoder": L2[0]}}, "a <ox> pig"),
    "diffusers, vectors": ("sd", "x.safetensors", {"<cat>": L3}, {"<cat>": {"text_encoder": L3}}, "a <cat>, flying"),
    "XL": ("xl", "zork.safetensors", {"clip_l": L3, "clip_g": G3}, {"zork": BOTH}, "a zork pig"),
    "Replicate": (
        "xl",
        "embeddings.pti",
        {"text_encoders_0": L2.half(), "text_encoders_1": G2.half()},
        {f"<s{i}>": {"text_encoder": L2[i].half().float(), "text_encoder_2": G2[i].half().float()} for i in (0, 1)},
        "a <s0><s1> emoji of a pig",
    ),
    "OneTrainer's bundle": (
        "xl",
        "bundle.safetensors",
        {"bundle_emb.zork.clip_l": L3, "bundle_emb.zork.clip_g": G3},
        {"zork": BOTH},
        "a zork pig",
    ),
    "a bundle of A1111's": (
        "sd", "b.safetensors", {"bundle_emb.zork.string_to_param.*": L2}, {"zork": {"text_encoder": L2}}, "a zork pig"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_embeddings_draws_as_in_diffusers(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path, case: str
) -> None:
    family, name, tensors, tokens, prompt = FILES[case]
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / name)
    pipeline = theirs(family)
    learn_there(pipeline, tokens)
    genmoji = Genmoji.load(base(family))
    plain = drawn_here(genmoji, prompt, noise)
    genmoji.set_adapters([tmp_path / name])
    ours = drawn_here(genmoji, prompt, noise)
    assert psnr(ours, plain) <= 30 and psnr(ours, drawn_there(pipeline, prompt, noise)) >= 50
    assert psnr(drawn_here(genmoji, "a pig", noise, prompt), drawn_there(pipeline, "a pig", noise, prompt)) >= 50
    genmoji.set_adapters([])
    assert np.array_equal(drawn_here(genmoji, prompt, noise), plain)


@pytest.mark.parametrize("form", ["A1111", "diffusers"])
def test_a_pickle_is_read_where_it_is_allowed(base: Base, noise: Noise, tmp_path: Path, form: str) -> None:
    content = {"<cat>": L3}
    if form == "A1111":
        content = {"string_to_token": {"*": 265}, "string_to_param": {"*": L3}, "name": "other", "step": 9}  # type: ignore[dict-item]
    torch.save(content, tmp_path / "zork.pt")
    save_file({"emb_params": L3} if form == "A1111" else {"<cat>": L3}, tmp_path / "zork.safetensors")
    prompt = "a zork pig" if form == "A1111" else "a <cat> pig"
    with pytest.raises(UserError, match=r"pickle.*--allow-pickle"):
        Genmoji.load(base("sd"), adapters=[tmp_path / "zork.pt"])
    pictures = [
        drawn_here(Genmoji.load(base("sd"), adapters=[tmp_path / f"zork.{end}"], allow_pickle=True), prompt, noise)
        for end in ("pt", "safetensors")
    ]
    assert np.array_equal(*pictures)


def test_two_files_of_diffusers_are_the_two_encoders_of_one_token(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path
) -> None:
    save_file({"<cat>": L2.clone()}, tmp_path / "learned_embeds.safetensors")
    save_file({"<cat>": G2.clone()}, tmp_path / "learned_embeds_2.safetensors")
    pipeline = theirs("xl")
    learn_there(pipeline, {"<cat>": {"text_encoder": L2, "text_encoder_2": G2}})
    ours = drawn_here(Genmoji.load(base("xl"), adapters=[tmp_path]), "a <cat> pig", noise)
    assert psnr(ours, drawn_there(pipeline, "a <cat> pig", noise)) >= 50


def replicate_folder(folder: Path) -> Path:
    """What Replicate's trainer leaves, after the layout of fofr/sdxl-emoji."""
    folder.mkdir()
    path = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora"
    pair = {f"{path}.down.weight": vectors(2, 72) / 8, f"{path}.up.weight": vectors(64, 2)}
    save_file(pair, folder / "lora.safetensors")
    save_file({"text_encoders_0": L2.clone(), "text_encoders_1": G2.clone()}, folder / "embeddings.pti")
    (folder / "special_params.json").write_text(json.dumps({"TOK": "<s0><s1>"}))
    return folder


def test_a_folder_of_replicates_trainer_draws_tok_as_diffusers_draws_its_tokens(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path
) -> None:
    folder = replicate_folder(tmp_path / "emoji")
    pipeline = theirs("xl")
    # diffusers reads these keys only with the component's name.
    pipeline.load_lora_weights({f"unet.{key}": t for key, t in load_file(folder / "lora.safetensors").items()})
    learn_there(pipeline, {f"<s{i}>": {"text_encoder": L2[i], "text_encoder_2": G2[i]} for i in (0, 1)})
    genmoji = Genmoji.load(base("xl"), adapters=[folder])
    expected = drawn_there(pipeline, "a <s0><s1> emoji of a pig", noise)
    for prompt in ("a TOK emoji of a pig", "a <s0><s1> emoji of a pig", "a <S0><s1> emoji of a pig"):
        assert psnr(drawn_here(genmoji, prompt, noise), expected) >= 50
    genmoji.set_adapters([folder / "lora.safetensors"])
    assert psnr(drawn_here(genmoji, "a TOK emoji of a pig", noise), expected) <= 30


def test_embeddings_of_diffusers_trainer_beside_an_adapter_are_a_token_a_row(
    base: Base, noise: Noise, tmp_path: Path
) -> None:
    folder = replicate_folder(tmp_path / "emoji")
    expected = drawn_here(Genmoji.load(base("xl"), adapters=[folder]), "a TOK pig", noise)
    (folder / "embeddings.pti").unlink()
    (folder / "special_params.json").unlink()
    save_file({"clip_l": L2.clone(), "clip_g": G2.clone()}, folder / "lora_emb.safetensors")
    genmoji = Genmoji.load(base("xl"), adapters=[folder])
    assert np.array_equal(drawn_here(genmoji, "a <s0><s1> pig", noise), expected)
    assert np.array_equal(drawn_here(genmoji, "a TOK pig", noise), expected)


def test_a_saved_folder_has_its_tokens_and_their_vectors(
    base: Base, theirs: Theirs, noise: Noise, tmp_path: Path
) -> None:
    pipeline = theirs("sd")
    learn_there(pipeline, {"<cat>": {"text_encoder": L3}})
    pipeline.save_pretrained(tmp_path / "saved")
    ours = drawn_here(Genmoji.load(tmp_path / "saved"), "a <cat> pig", noise)
    assert psnr(ours, drawn_there(pipeline, "a <cat> pig", noise)) >= 50
    assert psnr(ours, drawn_here(Genmoji.load(base("sd")), "a <cat> pig", noise)) <= 30


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"emb_params": vectors(2, 64)}, "textual inversion for another model.*64 numbers.* take 32 and 40"),
        ({"<cat>": L2[0]}, "textual inversion for another model"),
        ({"clip_l": L2, "clip_g": G3}, "damaged textual inversion"),
    ],
)
def test_vectors_of_another_model_are_refused_and_nothing_changes(
    base: Base, noise: Noise, tmp_path: Path, tensors: dict[str, torch.Tensor], named: str
) -> None:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "a.safetensors")
    genmoji = Genmoji.load(base("xl"))
    before = drawn_here(genmoji, "a pig", noise)
    with pytest.raises(UserError, match=named):
        genmoji.set_adapters([tmp_path / "a.safetensors"])
    assert np.array_equal(drawn_here(genmoji, "a pig", noise), before)


def test_a_text_that_is_too_long_counts_the_vectors(base: Base, tmp_path: Path) -> None:
    save_file({"emb_params": vectors(70, 32)}, tmp_path / "zork.safetensors")
    genmoji = Genmoji.load(base("sd"))
    assert genmoji.family.fits("a zork pig on a plate")
    genmoji.set_adapters([tmp_path / "zork.safetensors"])
    assert genmoji.family.fits("a zork pig") and not genmoji.family.fits("zork " + "pig " * 20)
