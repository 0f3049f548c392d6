"""The rows that the rewriter's language model is tuned on."""

import json
import re
from pathlib import Path

import pytest
import yaml

import train
from mlx_genmoji import UserError
from mlx_genmoji.prompt.lexicon import moods
from mlx_genmoji.prompt.llm.protocol import PATTERNS, fault, read_answer
from mlx_genmoji.prompt.parser import parse
from train.recipe import build, read_recipe
from train.rewriter.rows import check, evaluation_prompts, rows, words_of, write_rows
from train.rewriter.tuning import resumed

ROOT = Path(__file__).parents[2]
RECIPE = yaml.safe_load((ROOT / "train/recipes/rewriter.yaml").read_text(encoding="utf-8"))
TABLES = yaml.safe_load((ROOT / RECIPE["rows"]).read_text(encoding="utf-8"))
EXCLUDED = evaluation_prompts(ROOT / RECIPE["excluded"])


@pytest.fixture(scope="module")
def made() -> list[dict[str, list[dict[str, str]]]]:
    return list(rows(TABLES, {"pig": "pink"}, EXCLUDED))


def test_no_row_holds_a_prompt_of_the_evaluation(made: list[dict[str, list[dict[str, str]]]]) -> None:
    subjects = {row["messages"][0]["content"].splitlines()[0].removeprefix("Subject: ") for row in made}
    assert len(subjects) > 1500
    assert not [subject for subject in subjects if words_of(subject) in EXCLUDED]
    assert words_of("the pig, flying!") in EXCLUDED and words_of("woman astronaut with dark skin") in EXCLUDED


def test_every_answer_is_one_that_the_grammar_allows_and_no_check_drops(
    made: list[dict[str, list[dict[str, str]]]],
) -> None:
    for row in made[::7]:
        question, said = (message["content"] for message in row["messages"])
        subject, _, asked = (line.partition(": ")[2] for line in question.splitlines())
        names = asked.split(", ")
        values = read_answer(said, names)
        assert list(values) == names and len(said.splitlines()) == len(names)
        for place, name in enumerate(names):
            before = {other: values[other] for other in names[:place]}
            assert fault(name, values[name], parse(subject), before) is None


def test_the_tables_hold_nothing_that_the_lexicon_lacks() -> None:
    for group in TABLES["groups"]:
        for name in set(PATTERNS) & group.keys():
            assert all(re.fullmatch(PATTERNS[name], value) for value in group[name]), group["subjects"]
    assert set(TABLES["moods"]) <= moods().keys()
    assert all(re.fullmatch(PATTERNS["pose"], pose) for poses in TABLES["poses_of_moods"].values() for pose in poses)


def test_a_word_that_the_grammar_lacks_is_named() -> None:
    with pytest.raises(UserError, match="warbling"):
        check({"pose": "warbling"}, parse("pig"))


def test_the_rows_are_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.rewriter.rows.picture_colours", lambda folder: {})
    tables, excluded = (ROOT / RECIPE[key] for key in ("rows", "excluded"))
    texts = []
    for name in ("one", "two"):
        count = write_rows(tables, tmp_path, excluded, 0, tmp_path / name)
        training, valid = ((tmp_path / name / f"{part}.jsonl").read_text() for part in ("train", "valid"))
        assert training.count("\n") + valid.count("\n") == count and json.loads(valid.splitlines()[0])["messages"]
        texts.append(training + valid)
    assert texts[0] == texts[1]


def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    schedule = {"name": "cosine_decay", "warmup": 2, "arguments": [0.5, 40, 0.1]}
    options = {"adapter_path": str(folder), "iters": 40, "seed": 3, "lr_schedule": schedule}
    assert resumed(options) == options
    for steps in (5, 10):
        folder.mkdir(exist_ok=True)
        (folder / f"{steps:07}_adapters.safetensors").touch()
    again = resumed(options)
    assert again["iters"] == 30 and again["resume_adapter_file"].endswith("trained/0000010_adapters.safetensors")
    first, steps, last = again["lr_schedule"]["arguments"]
    assert 0.1 == last < first < 0.5 and steps == 30
    Path(again["adapter_path"]).mkdir()
    (Path(again["adapter_path"]) / "0000010_adapters.safetensors").touch()
    later = resumed(options)
    assert later["iters"] == 20 and later["lr_schedule"]["arguments"][0] == pytest.approx(0.3)


def test_the_recipe_is_one_of_genmoji_train_s_and_a_begun_run_is_not_overwritten(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    path = ROOT / "train/recipes/rewriter.yaml"
    recipe = build(train.OBJECTIVES["rewriter"].recipe, read_recipe(path, []))
    assert recipe.mlx_lm["iters"] == 80 and recipe.output == Path("runs/rewriter")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "0000005_adapters.safetensors").touch()
    with pytest.raises(UserError, match="--resume"):
        train.run(path, overrides=[f"output={tmp_path}"])
    with pytest.raises(UserError, match="unknown key 'iters'"):
        train.run(path, overrides=["iters=3"])
