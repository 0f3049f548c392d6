"""One adapter for each skin tone and person type: which are made, from what, and how the work goes on."""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import train
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.lora import Entry, load_adapter, read_index
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.vae import AutoencoderKL
from train.adapter import personas
from train.adapter.objective import LoRAObjective
from train.batch import Sample
from train.data.dataset import Dataset
from train.fit.distributed import World
from train.recipe import build, read_recipe

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.fixture
def personas_recipe(lora_recipe: Path, dataset: Path) -> Path:
    import yaml

    rows = [json.loads(line) for line in (dataset / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"skin_tone": [["dark"], ["light"], []][number % 3], "person_type": ["woman", "man"][number % 2]}
    (dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = read_recipe(lora_recipe, []) | {"objective": "personas", "sample_prompts": []}
    raw["output"] = raw["output"].replace("lora", "personas")
    raw["loop"]["steps"] = 2
    raw["personas"] = {
        "skin_tones": ["dark", "light", "medium"],
        "person_types": ["woman"],
        "combinations": True,
        "least": 2,
        "loop": raw["loop"] | {"steps": 4},
    }
    path = lora_recipe.with_name("personas.yaml")
    path.write_text(yaml.safe_dump(raw))
    return path


def arrays(path: Path) -> dict[str, mx.array]:
    loaded: Any = mx.load(str(path))
    return loaded


def test_an_adapter_is_made_for_each_of_which_there_are_enough_pictures(personas_recipe: Path, base: Path) -> None:
    with pytest.warns(UserWarning, match="no adapter for light-woman: 1 pictures, 2 are needed"):
        folder = train.run(personas_recipe)
    made = {(e.skin_tone, e.person_type): (e.file, e.examples) for e in read_index(folder).entries}
    assert made == {
        (None, None): ("style.safetensors", 8),
        ("dark", None): ("dark.safetensors", 3),
        ("light", None): ("light.safetensors", 3),
        ("medium", None): (None, 0),
        (None, "woman"): ("woman.safetensors", 4),
        ("dark", "woman"): ("dark-woman.safetensors", 2),
        ("light", "woman"): (None, 1),
        ("medium", "woman"): (None, 0),
    }
    assert read_index(folder).base_sha256 == Genmoji.load(base).sha256
    said = load_adapter(folder / "dark-woman.safetensors").metadata
    assert (said["skin_tone"], said["person_type"], said["step"]) == ("dark", "woman", "4")

    genmoji = Genmoji.load(base, adapters=folder)
    genmoji.generate("thing", seed=0, skin_tone="dark")
    assert [adapter.name for adapter, _ in genmoji.adapters.active] == ["dark.safetensors"]
    with pytest.warns(UserWarning, match="medium"):
        genmoji.generate("thing", seed=0, skin_tone="medium")
    assert [adapter.name for adapter, _ in genmoji.adapters.active] == ["style.safetensors"]


def test_a_persona_starts_from_the_style(personas_recipe: Path) -> None:
    folder = train.run(personas_recipe, overrides=["personas.loop.learning_rate=0", "personas.combinations=false"])
    style, dark = arrays(folder / "style.safetensors"), arrays(folder / "dark.safetensors")
    assert all(mx.array_equal(dark[name], style[name]) for name in style)
    assert any(np.asarray(array).any() for name, array in style.items() if "lora_up" in name)


def test_work_that_was_stopped_between_two_adapters_or_within_one_goes_on(
    personas_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train.run(personas_recipe, overrides=[f"output={tmp_path}/runs/undisturbed"])
    one = personas.train_lora

    def stop(recipe: Any, options: Any, whole: Any) -> Path:
        if recipe.skin_tone == "light":
            one(replace(recipe, loop=replace(recipe.loop, steps=2)), options, whole)
            raise KeyboardInterrupt
        return one(recipe, options, whole)

    monkeypatch.setattr(personas, "train_lora", stop)
    with pytest.raises(KeyboardInterrupt):
        train.run(personas_recipe)
    folder = tmp_path / "runs" / "personas" / "adapters"
    made = {entry.file for entry in read_index(folder).entries if entry.file}
    assert made == {"style.safetensors", "dark.safetensors"}
    monkeypatch.undo()
    mx.set_default_device(mx.cpu)
    with pytest.raises(UserError, match="--resume"):
        train.run(personas_recipe)
    train.run(personas_recipe, resume=True)
    assert read_index(folder) == read_index(undisturbed)
    for path in undisturbed.glob("*.safetensors"):
        ours, theirs = arrays(folder / path.name), arrays(path)
        assert all(mx.array_equal(ours[name], theirs[name]) for name in theirs)


def test_pictures_of_people_with_two_tones_belong_to_no_persona(personas_recipe: Path, dataset: Path) -> None:
    rows = [json.loads(line) for line in (dataset / "metadata.jsonl").read_text().splitlines()]
    rows[0]["skin_tone"] = ["dark", "light"]
    (dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = build(personas.PersonasRecipe, read_recipe(personas_recipe, []))
    examples = {personas.name_of(entry): entry.examples for entry in personas.counted(recipe)}
    # Three pictures of each, of which one has both now.
    assert (examples["dark"], examples["light"], examples["style"]) == (2, 3, 8)


def test_a_persona_that_nobody_can_ask_for_is_refused(personas_recipe: Path) -> None:
    with pytest.raises(UserError, match="purple"):
        train.run(personas_recipe, overrides=["personas.skin_tones=[purple]"])


def test_one_base_is_in_memory_however_many_adapters_are_trained(
    personas_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, active = personas.train_lora, []

    def measured(recipe: Any, options: Any, whole: Any) -> Path:
        path = one(recipe, options, whole)
        active.append(mx.get_active_memory())
        return path

    monkeypatch.setattr(personas, "train_lora", measured)
    quick = ["validation.pictures=0", "personas.loop.steps=1", "loop.steps=1", "lora.targets=[attention]"]
    gc.collect()
    gc.disable()
    try:
        train.run(personas_recipe, overrides=[*quick, "personas.skin_tones=[dark]", "personas.person_types=[]"])
    finally:
        gc.enable()
    style, dark = active
    assert dark < 1.1 * style


def test_a_model_that_nobody_holds_is_freed_at_once(base: Path) -> None:
    genmoji = Genmoji.load(base)
    assert genmoji.sha256 == Genmoji.load(base).sha256
    held = weakref.ref(genmoji.unet)
    gc.disable()
    try:
        del genmoji
        assert held() is None
    finally:
        gc.enable()


def test_rows_that_do_not_say_whom_they_show_are_refused_before_the_style_is_trained(
    personas_recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (dataset / "metadata.jsonl").read_text().splitlines()]
    rows[5].pop("person_type")
    (dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"'person_type'.*images/5\.png"):
        train.run(personas_recipe)
    assert not (tmp_path / "runs" / "personas").exists()


def test_the_index_lists_all_that_is_there_when_finished_work_is_gone_through_again(
    personas_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without training anything."""
    runs: list[str] = []

    def finished(recipe: Any, options: Any, whole: Any) -> Path:
        runs.append(recipe.output.name)
        if len(runs) == 7:
            raise KeyboardInterrupt
        path: Path = recipe.output / "adapter.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(
            str(path), {"lora_unet_x.lora_down.weight": mx.ones((1, 4)), "lora_unet_x.lora_up.weight": mx.ones((4, 1))}
        )
        return path

    monkeypatch.setattr(personas, "train_lora", finished)
    folder = train.run(personas_recipe)
    assert runs == ["style", "dark", "light", "woman", "dark-woman"]
    whole = read_index(folder)
    assert len(whole.entries) == 8
    with pytest.raises(KeyboardInterrupt):
        train.run(personas_recipe, resume=True)
    assert read_index(folder) == whole
    train.run(personas_recipe, overrides=["personas.skin_tones=[]", "personas.person_types=[]"])
    assert [entry.file for entry in read_index(folder).entries] == ["style.safetensors"]


def test_personas_are_for_one_machine(personas_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "__init__", lambda self, alone=False: vars(self).update(rank=1, size=2))
    with pytest.raises(UserError, match="one machine"):
        train.run(personas_recipe)


def test_what_is_computed_of_the_style_s_dataset_is_computed_once(
    personas_recipe: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["data.caption='{text}, flat'", "sample_prompts=[thing 1]"]
    recipe = personas.recipe_of_style(build(personas.PersonasRecipe, read_recipe(personas_recipe, overrides)))
    whole = Dataset(recipe.data, recipe.cache_folder)
    style = LoRAObjective(recipe, Genmoji.load(base), whole)

    def never(*_: Any) -> None:
        raise AssertionError("it is in the cache")

    monkeypatch.setattr(AutoencoderKL, "encode", never)
    monkeypatch.setattr(CLIPTextModel, "__call__", never)
    own = replace(recipe, data=replace(recipe.data, where={"skin_tone": [["light"]]}), sample_prompts=())
    light = LoRAObjective(own, Genmoji.load(base), Dataset(own.data, own.cache_folder, whole))
    assert light.dataset.places.tolist() == [1, 4, 7]
    for ours, theirs in ((0, 1), (2, 7)):
        noise = np.zeros(style.latents.shape[1:], np.float32)
        small, large = (
            run.arrays([Sample(row, run.dataset.captions[row], 0, noise)])
            for run, row in ((light, ours), (style, theirs))
        )
        assert all(mx.array_equal(a, b) for a, b in zip(small, large, strict=True))
        assert (light.dataset.pictures[ours] == whole.pictures[theirs]).all()


def test_a_persona_draws_samples_of_itself(personas_recipe: Path) -> None:
    recipe = build(personas.PersonasRecipe, read_recipe(personas_recipe, []))
    asked = {
        ("dark", "man"): "man astronaut, dark skin tone, flat",
        ("dark", None): "woman astronaut, dark skin tone, flat",
        (None, "man"): "man astronaut, medium skin tone, flat",
    }
    for persona, expected in asked.items():
        drawn = personas.prompt_of(recipe, Entry(None, *persona), "woman astronaut, medium skin tone, flat")
        assert drawn == expected
    assert personas.prompt_of(recipe, Entry(None, "dark", "man"), "pizza") == "man pizza, dark skin tone, flat"


def test_a_dry_run_counts_the_personas(personas_recipe: Path, tmp_path: Path) -> None:
    told = " ".join(train.dry_run(personas_recipe).split())
    assert "7 of 16 pixels, and 1 held out" in told
    assert "dark 3 pictures, 4 steps" in told and "light-woman 1 pictures, none: 2 are needed" in told
    assert not (tmp_path / "runs" / "personas").exists()
