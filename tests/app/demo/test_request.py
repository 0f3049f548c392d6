"""What the demo reads of a request before anything is drawn."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import cli
from app.demo.request import Request, combined
from app.demo.server import model_choices, serve
from mlx_genmoji.errors import UserError
from mlx_genmoji.extras import install_command


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("🐷 + 🦋", "pig face with butterfly"),
        ("🐱👑", "cat face wearing a crown"),
        ("👑 + 🐱", "cat face wearing a crown"),
        ("🐻 🍕", "bear holding a pizza"),
        ("🐱⌛", "cat face holding an hourglass done"),
        ("🦊🍙", "fox holding a rice ball"),
        ("🐱👓", "cat face wearing glasses"),
        ("🐷", "🐷"),
        ("🐷 + 🦋 + 🍕", "🐷 + 🦋 + 🍕"),
        ("🐷 flying", "🐷 flying"),
        ("pig + butterfly", "pig + butterfly"),
    ],
)
def test_two_emojis_are_put_together_and_nothing_else_is(prompt: str, words: str) -> None:
    assert combined(prompt) == words


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (["--adapters", "no-such-folder"], "There is no folder no-such-folder"),
        (["--model", "no-such-model/x/y"], "no-such-model"),
        (["--port", "70000"], "65535"),
    ],
)
def test_a_mistake_of_the_command_is_one_line(
    arguments: list[str], clue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["app", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and clue in err


def test_variety_is_a_number_from_0_to_1_or_left_to_the_app() -> None:
    assert [Request.read({"prompt": "pig", "variety": value}).variety for value in (0, 0.25, None)] == [0.0, 0.25, None]
    with pytest.raises(UserError, match="variety must be from 0 to 1"):
        Request.read({"prompt": "pig", "variety": 1.5})


def test_models_are_shown_by_name_and_the_default_is_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert model_choices([]) == {"builtin": "builtin"}
    assert model_choices(["builtin", "owner/name", str(tmp_path / "mine")]) == {
        "builtin": "builtin",
        "owner/name": "owner/name",
        "mine": str(tmp_path / "mine"),
    }
    with pytest.raises(UserError, match="Two models are called builtin"):
        model_choices(["builtin", "builtin"])


def test_sigterm_closes_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    @contextmanager
    def running_server(*_: object, **__: object) -> Iterator[str]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            yield "http://demo"
        finally:
            closed.append(True)

    monkeypatch.setattr("app.demo.server.running_server", running_server)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            serve([], None, None, None, 0, False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert closed and caught.value.code == 128 + signal.SIGTERM


def test_without_gradio_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli.main(["app"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and install_command("app") in err
