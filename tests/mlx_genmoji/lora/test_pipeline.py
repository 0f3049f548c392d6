"""Adapters in a pipeline: folders that route requests, recipes that are replayed, and fusing."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora import (
    Entry,
    Index,
    LoRAConfig,
    adapter_of,
    attach,
    attached,
    detach,
    read_index,
    save_adapter,
    write_index,
)
from mlx_genmoji.quantization import Quantization
from mlx_genmoji.sticker import Sticker, read_recipe
from quantize import quantize_folder
from quantize.fuse import fuse

Base = Callable[[str], Path]

TARGETS = ("attention", "conv", "text-encoder")


@pytest.fixture(scope="module")
def genmoji(base: Base) -> Genmoji:
    return Genmoji.load(base("sd"))


@pytest.fixture
def make(genmoji: Genmoji, tmp_path: Path) -> Callable[..., Path]:
    """`make("dark", template="{prompt}, 3d")`: the file of an adapter, another one for each name."""

    def make(name: str, dora: bool = False, **metadata: str) -> Path:
        seed = sum(name.encode())
        attach(genmoji.models, LoRAConfig(rank=2, targets=TARGETS, dora=dora), seed)
        for number, layer in enumerate(attached(genmoji.models).values()):
            layer.lora_b = 0.3 * mx.random.normal(layer.lora_b.shape, key=mx.random.key(seed + number))
        adapter = replace(adapter_of(genmoji.models), metadata=metadata)
        detach(genmoji.models)
        save_adapter(adapter, tmp_path / f"{name}.safetensors", dtype=mx.float32)
        return tmp_path / f"{name}.safetensors"

    return make


@pytest.fixture
def folder(make: Callable[..., Path], tmp_path: Path) -> Path:
    """Adapters for a style, dark skin, women and dark-skinned women; too few pictures of light skin."""
    for name in ("style", "dark", "woman"):
        make(name, template=f"{{prompt}}, {name}")
    make("dark-woman")
    entries = (
        Entry("style.safetensors", examples=100),
        Entry("dark.safetensors", "dark", examples=20),
        Entry("woman.safetensors", None, "woman", examples=30),
        Entry("dark-woman.safetensors", "dark", "woman", examples=9),
        Entry(None, "light", None, examples=3),
    )
    write_index(tmp_path, Index(entries, "tiny", "ab12"))
    return tmp_path


def pixels(sticker: Sticker) -> list[int]:
    return np.asarray(sticker.image).ravel().tolist()


def used(sticker: Sticker) -> list[str]:
    return [entry["name"].removesuffix(".safetensors") for entry in sticker.recipe["adapters"]]


def test_an_index_is_read_as_it_was_written(folder: Path) -> None:
    index = read_index(folder)
    assert index.base_name == "tiny" and index.base_sha256 == "ab12"
    assert index.entries[3] == Entry("dark-woman.safetensors", "dark", "woman", 9)
    assert json.loads((folder / "index.json").read_text())["adapters"][4] == {
        "file": None,
        "skin_tone": "light",
        "person_type": None,
        "examples": 3,
    }


@pytest.mark.parametrize(
    ("skin_tone", "person_type", "expected", "note"),
    [
        (None, None, "style", None),
        ("dark", None, "dark", None),
        ("dark", "woman", "dark-woman", None),
        (None, "woman", "woman", None),
        ("dark", "man", "dark", "no adapter for dark skin and man: dark.safetensors is used"),
        ("light", "woman", "woman", "no adapter for light skin (the training data had 3 pictures): woman"),
        ("light", None, "style", "no adapter for light skin (the training data had 3 pictures): style"),
        ("medium", None, "style", "no adapter for medium skin: style"),
    ],
)
def test_a_request_is_drawn_by_the_most_specific_adapter(
    genmoji: Genmoji, folder: Path, skin_tone: Any, person_type: Any, expected: str, note: str | None
) -> None:
    genmoji.set_adapters(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        routed = genmoji.generate("pig", seed=1, steps=1, skin_tone=skin_tone, person_type=person_type)[0]
    assert used(routed) == [expected]
    messages = [str(warning.message) for warning in caught]
    assert (note is None and not messages) or (note is not None and any(note in message for message in messages))
    genmoji.set_adapters([folder / f"{expected}.safetensors"])
    alone = genmoji.generate("pig", seed=1, steps=1, skin_tone=skin_tone, person_type=person_type)[0]
    assert pixels(routed) == pixels(alone) and routed.recipe == alone.recipe
    template = "{prompt}" if expected == "dark-woman" else f"{{prompt}}, {expected}"
    assert routed.recipe["template"] == template


@pytest.mark.parametrize("prompt", ["woman astronaut with dark skin", "👩🏿‍🚀"])
def test_what_a_prompt_says_chooses_the_adapter(genmoji: Genmoji, folder: Path, prompt: str) -> None:
    genmoji.set_adapters(folder)
    drawn = genmoji.generate(prompt, steps=1)[0]
    assert used(drawn) == ["dark-woman"]
    assert (drawn.recipe["skin_tone"], drawn.recipe["person_type"]) == ("dark", "woman")


def test_routes_are_exchanged_without_a_trace(genmoji: Genmoji, folder: Path) -> None:
    genmoji.set_adapters([])
    before = pixels(genmoji.generate("pig", seed=1, steps=1)[0])
    genmoji.set_adapters(folder)
    first = pixels(genmoji.generate("pig", seed=1, steps=1, skin_tone="dark")[0])
    genmoji.generate("pig", seed=1, steps=1, person_type="woman")
    assert pixels(genmoji.generate("pig", seed=1, steps=1, skin_tone="dark")[0]) == first
    genmoji.set_adapters([])
    assert pixels(genmoji.generate("pig", seed=1, steps=1)[0]) == before


def test_a_template_of_the_users_is_preferred_to_an_adapters(genmoji: Genmoji, make: Callable[..., Path]) -> None:
    genmoji.set_adapters([make("style", template="{prompt}, 3d")])
    assert genmoji.generate("pig", seed=1, steps=1)[0].recipe["final_prompt"] == "pig, 3d"
    assert genmoji.generate("pig", seed=1, steps=1, template="{prompt}")[0].recipe["final_prompt"] == "pig"


@pytest.mark.parametrize("routed", [False, True])
def test_a_recipe_replays_to_the_bit_with_its_adapters_only(genmoji: Genmoji, folder: Path, routed: bool) -> None:
    some = [(folder / "style.safetensors", 0.5), folder / "dark.safetensors"]
    genmoji.set_adapters(folder if routed else some)
    genmoji.generate("pig", seed=3, steps=2, skin_tone="dark")[0].save(folder / "pig.png")
    recipe = read_recipe(folder / "pig.png")
    assert recipe is not None and str(folder.parent) not in json.dumps(recipe)
    assert [adapter["weight"] for adapter in recipe["adapters"]] == ([1.0] if routed else [0.5, 1.0])
    if routed:
        genmoji.generate("pig", seed=3, steps=1)
    drawn = genmoji.replay(recipe)
    assert pixels(drawn) == pixels(genmoji.generate("pig", seed=3, steps=2, skin_tone="dark")[0])
    assert drawn.recipe == recipe
    for others in ([], [folder / "woman.safetensors"], [(folder / "dark.safetensors", 0.9)], some[::-1]):
        genmoji.set_adapters(others)
        with pytest.raises(UserError, match=r"drawn with .*dark\.safetensors with a weight of 1\.0; give the same"):
            genmoji.replay(recipe)
    genmoji.set_adapters(folder)
    with pytest.raises(UserError, match="drawn with no adapters"):
        genmoji.replay(recipe | {"adapters": []})
    with pytest.raises(UserError, match="'adapters' must be a list"):
        genmoji.replay(recipe | {"adapters": 3})


def test_an_adapter_for_other_weights_warns(genmoji: Genmoji, make: Callable[..., Path]) -> None:
    with pytest.warns(
        UserWarning, match=r"other\.safetensors was trained for the weights of someone/else, which are not these"
    ):
        genmoji.set_adapters([make("other", base_model="someone/else", base_sha256="ab12")])
    with pytest.warns(UserWarning, match=r"repair\.safetensors corrects the rounding of a quantized model"):
        genmoji.set_adapters([make("repair", init="loftq")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        genmoji.set_adapters([make("own", base_model="tiny", base_sha256=str(genmoji.sha256))])


def test_an_adapter_of_the_dense_model_is_one_of_its_packed_folder(
    base: Base, genmoji: Genmoji, make: Callable[..., Path], tmp_path: Path
) -> None:
    quantize_folder(base("sd"), tmp_path / "packed", Quantization(8, 32))
    packed = Genmoji.load(tmp_path / "packed")
    assert packed.dense_sha256 == genmoji.sha256 != packed.sha256 and genmoji.dense_sha256 is None
    path = make("own", base_model="tiny", base_sha256=str(genmoji.sha256))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packed.set_adapters([path])
    fuse(tmp_path / "packed", [path], tmp_path / "fused")
    assert Genmoji.load(tmp_path / "fused").dense_sha256 is None


def test_a_folder_of_adapters_is_given_alone_in_a_list_too(genmoji: Genmoji, folder: Path) -> None:
    genmoji.set_adapters([folder])
    assert [adapter.name for adapter, _ in genmoji.adapters.active] == ["style.safetensors"]
    with pytest.raises(UserError, match="give it alone"):
        genmoji.set_adapters([folder, folder / "dark.safetensors"])
    with pytest.raises(UserError, match="without a weight"):
        genmoji.set_adapters([(folder, 0.5)])


def test_a_set_that_cannot_be_had_leaves_the_one_before(genmoji: Genmoji, make: Callable[..., Path]) -> None:
    path = make("style")
    genmoji.set_adapters([path])
    before = pixels(genmoji.generate("pig", seed=1, steps=1)[0])
    for wrong in (
        [path, path.with_name("none.safetensors")],
        [(path, float("nan"))],
        [(path, "0.5")],
        [(path, 0.5, 1)],
    ):
        with pytest.raises(UserError):
            genmoji.set_adapters(wrong)
        assert pixels(genmoji.generate("pig", seed=1, steps=1)[0]) == before


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
        ("{}", "not a valid index of adapters"),
        (
            '{"adapters": [{"file": "dark.safetensors", "skin_tone": "dark"}]}',
            "style's adapter, without a skin tone and person type, is missing",
        ),
        ('{"adapters": [{"file": null}]}', "style's adapter, without a skin tone and person type, is missing"),
        ('{"adapters": [{"file": "../style.safetensors"}]}', "not the name of a file in the folder"),
        ('{"adapters": [{"file": "style.safetensors", "colour": "red"}]}', "colour"),
        ('{"adapters": [{"file": "style.safetensors"}, {"file": "dark.safetensors"}]}', "two adapters"),
        ('{"adapters": [{"file": "none.safetensors"}]}', "none.safetensors, which is missing"),
        ('{"adapters": [{"file": "style.safetensors", "skin_tone": 3}]}', "skin_tone"),
        ('{"base": "x", "adapters": [{"file": "style.safetensors"}]}', "not a valid index of adapters"),
    ],
)
def test_an_index_that_makes_no_sense_is_named(folder: Path, index: str, named: str) -> None:
    (folder / "index.json").write_text(index)
    with pytest.raises(UserError, match=named) as error:
        read_index(folder)
    assert "\n" not in str(error.value) and "index.json" in str(error.value)
