"""Recipes: what is stored of a sticker, and what becomes of one that somebody changed."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from diffusers import DDIMScheduler, StableDiffusionPipeline

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.generation.recipe import Recipe

pytestmark = pytest.mark.usefixtures("cpu")

OTHERS: list[Any] = [
    None,
    "x",
    "",
    -1,
    0,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    [],
    {},
    [{}],
    {"a": [1]},
    2**70,
]


@pytest.fixture(scope="module")
def genmoji(tmp_path_factory: pytest.TempPathFactory, write_pipeline: Any) -> Genmoji:
    mx.set_default_device(mx.cpu)
    folder = write_pipeline(tmp_path_factory.mktemp("model") / "sd", StableDiffusionPipeline, DDIMScheduler())
    (folder / "genmoji.json").write_text(
        json.dumps({"template": "{prompt}, 3d", "steps": 1, "guidance": 1.5, "parts": {"3d": "fluent"}})
    )
    return Genmoji.load(folder)


def changed(value: Any) -> Iterator[Any]:
    """`value` with each of its parts, at any depth, replaced by something else, or left out."""
    yield from OTHERS
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        for other in changed(item):
            copied = copy.copy(value)
            copied[key] = other
            yield copied
        copied = copy.copy(value)
        del copied[key]
        yield copied


def test_whatever_is_changed_in_a_recipe_ends_in_a_sticker_or_in_one_sentence(genmoji: Genmoji) -> None:
    plan = {"subject": "a pig", "skin_tone": "dark", "source": "template", "dropped": {}}
    recipe = json.loads(json.dumps(genmoji.generate("pig with wings", seed=3)[0].recipe)) | {"plan": plan}
    assert recipe["combination"]
    recipe["adapters"] = []
    outcomes = {"sticker": 0, "sentence": 0}
    for damaged in changed(recipe):
        try:
            # Steps by the thousand would be drawn, and are no damage.
            if isinstance(damaged, dict) and damaged.get("steps") not in (None, 1) and type(damaged["steps"]) is int:
                damaged["steps"] = min(damaged["steps"], 2)
            genmoji.replay(damaged)
            outcomes["sticker"] += 1
        except UserError as error:
            assert str(error) and "\n" not in str(error)
            outcomes["sentence"] += 1
    assert outcomes["sticker"] > 20 and outcomes["sentence"] > 300


def test_a_recipe_survives_its_dictionary(genmoji: Genmoji) -> None:
    for prompt in ("pig", "two dogs"):
        stored = genmoji.generate(prompt, seed=3)[0].recipe
        assert Recipe.from_dict(json.loads(json.dumps(stored))).to_dict() == stored


def test_fields_of_a_later_version_are_passed_over(genmoji: Genmoji) -> None:
    stored = genmoji.generate("pig", seed=3)[0]
    again = genmoji.replay(stored.recipe | {"notes": ["of a later version"]})
    assert again.image.tobytes() == stored.image.tobytes()


def test_a_snapshot_of_the_hub_s_cache_is_named_by_its_id_and_commit(genmoji: Genmoji, tmp_path: Path) -> None:
    commit = "5" * 40
    assert genmoji.folder is not None
    real = tmp_path / "other" / "models--someone--pigs" / "snapshots" / commit
    real.parent.mkdir(parents=True)
    shutil.copytree(genmoji.folder, real)
    model = Genmoji.load(real).generate("pig", seed=1)[0].recipe["model"]
    assert (model["name"], model["revision"]) == ("someone/pigs", commit)
    elsewhere = tmp_path / commit
    shutil.copytree(genmoji.folder, elsewhere)
    model = Genmoji.load(elsewhere).generate("pig", seed=1)[0].recipe["model"]
    assert (model["name"], model["revision"]) == (commit, None)
