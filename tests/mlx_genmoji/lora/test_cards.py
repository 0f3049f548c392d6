"""What an adapter's folder says of it is used and said: trigger, weight, base, licence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from app.commands import parse_adapter
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora.card import Card, read_card

Base = Callable[[str], Path]
Noise = np.ndarray[Any, Any]

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
FRONT = """---
license: creativeml-openrail-m
base_model: stabilityai/stable-diffusion-xl-base-1.0
instance_prompt: a zebra emoji
tags: [lora]
---
# Zebra
pipe(prompt, cross_attention_kwargs={"scale": 0.6})
"""


def folder(path: Path, readme: str = FRONT, width: int = 32, **metadata: str) -> Path:
    path.mkdir()
    pair = {"down": np.full((2, width), 0.5, np.float32), "up": np.full((64, 2), 0.1, np.float32)}
    save_file({f"{LAYER}.lora_{name}.weight": array for name, array in pair.items()}, path / "a.safetensors", metadata)
    if readme:
        (path / "README.md").write_text(readme)
    return path


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        (FRONT, Card("a zebra emoji", {}, 0.6, "stabilityai/stable-diffusion-xl-base-1.0", "creativeml-openrail-m")),
        ("You should use `flat, high contrast` to trigger the image generation.", Card("flat, high contrast")),
        ("---\nlicense: mit\nbase_model: [a/b, c/d]\n---\nTrigger word: `TOK`", Card("TOK", {}, None, "a/b", "mit")),
        ("Recommended weight: 0.7-0.9", Card(weight=0.8)),
        ("The best LoRA strength is 1", Card(weight=1.0)),
        ("A scale of pigs. Weight 80 kg. Recommended weight: 80", Card()),
        ("---\nlicense: other\nlicense_name: bespoke\n---", Card(license="bespoke")),
        ("---\n: [damaged\n---\nnothing", Card()),
        ("---\ninstance_prompt: null\nlicense: 3\n---", Card()),
        ("Recommended weight: 10", Card()),
        ("", Card()),
    ],
)
def test_a_card_is_read(tmp_path: Path, readme: str, expected: Card) -> None:
    (tmp_path / "README.md").write_text(readme)
    assert read_card(tmp_path, {}) == expected


def test_a_files_header_says_the_same(tmp_path: Path) -> None:
    header = {"modelspec.trigger_phrase": "zork", "modelspec.license": "mit", "modelspec.usage_hint": "best weight 0.7"}
    assert read_card(None, header) == Card("zork", {}, 0.7, None, "mit")


def test_special_params_must_be_words(tmp_path: Path) -> None:
    (tmp_path / "special_params.json").write_text(json.dumps({"TOK": 3}))
    with pytest.raises(UserError, match="special_params"):
        read_card(tmp_path, {})


def draw(genmoji: Genmoji, prompt: str, **options: Any) -> Any:
    return genmoji.generate(prompt, seed=1, steps=1, guidance=1.0, **options)[0]


def test_a_trigger_that_the_prompt_lacks_is_added_through_the_template_and_said(base: Base, tmp_path: Path) -> None:
    genmoji = Genmoji.load(base("sd"), adapters=[folder(tmp_path / "zebra")])
    sticker = draw(genmoji, "a pig")
    assert sticker.recipe["final_prompt"] == "a zebra emoji of a pig"
    assert sticker.recipe["template"] == "a zebra emoji of {prompt}"
    assert any('trigger "a zebra emoji" of zebra was added' in note for note in sticker.notes)
    assert any(
        "licence creativeml-openrail-m" in note and "weight 0.6 as recommended" in note for note in sticker.notes
    )
    replayed = genmoji.replay(sticker.recipe)
    assert np.array_equal(np.asarray(replayed.image), np.asarray(sticker.image))

    for prompt, options in (
        ("A Zebra emoji, blue", {}),
        ("a pig", {"trigger": False}),
        ("a pig", {"template": "{prompt}"}),
    ):
        sticker = draw(genmoji, prompt, **options)
        assert sticker.recipe["final_prompt"] == prompt
        assert any("lacks" in note for note in sticker.notes) == (prompt == "a pig")


@pytest.mark.parametrize(
    ("trigger", "final"),
    [
        ("stickers, sticker", "stickers, sticker, a pig"),
        ("in the style of zork", "a pig, in the style of zork"),
        ("an emoji", "an emoji of a pig"),
        ("{prompt} zork", "prompt zork, a pig"),
    ],
)
def test_each_kind_of_trigger_has_its_place(base: Base, tmp_path: Path, trigger: str, final: str) -> None:
    readme = f"---\ninstance_prompt: {json.dumps(trigger)}\n---\n"
    genmoji = Genmoji.load(base("sd"), adapters=[folder(tmp_path / "a", readme)])
    assert draw(genmoji, "a pig").recipe["final_prompt"] == final


def test_a_recommended_weight_is_used_unless_another_is_given(base: Base, tmp_path: Path) -> None:
    path = folder(tmp_path / "zebra")
    genmoji = Genmoji.load(base("sd"), adapters=[path])
    assert genmoji.adapters.recipe[0]["weight"] == 0.6
    for spec, weight in (((path, 1.0), 1.0), ((path, None), 0.6), (path / "a.safetensors", 1.0)):
        genmoji.set_adapters([spec])
        assert genmoji.adapters.recipe[0]["weight"] == weight
    assert parse_adapter("a/b@v1/c.safetensors:0.8") == (Path("a/b@v1/c.safetensors"), 0.8)
    assert parse_adapter("a/b:-2") == (Path("a/b"), -2.0) and parse_adapter("a/b") == (Path("a/b"), None)


def test_the_base_that_a_card_names_is_said_where_the_model_is_another(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"another model.*It is for stabilityai/stable-diffusion-xl-base-1\.0"):
        Genmoji.load(base("sd"), adapters=[folder(tmp_path / "zebra", width=40)])


def test_a_trigger_that_is_refused_is_not_drawn(base: Base, tmp_path: Path) -> None:
    genmoji = Genmoji.load(base("sd"), adapters=[folder(tmp_path / "a", "---\ninstance_prompt: a nude emoji\n---\n")])
    with pytest.raises(UserError, match="not drawn"):
        draw(genmoji, "a pig")


def test_several_adapters_in_a_folder_are_listed(base: Base, tmp_path: Path) -> None:
    path = folder(tmp_path / "both")
    (path / "b.safetensors").write_bytes((path / "a.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"several adapters, a\.safetensors, b\.safetensors: choose one.*both/a\.safet"):
        Genmoji.load(base("sd"), adapters=[path])
    (path / "pytorch_lora_weights.safetensors").write_bytes((path / "a.safetensors").read_bytes())
    assert len(Genmoji.load(base("sd"), adapters=[path]).adapters.active) == 1
