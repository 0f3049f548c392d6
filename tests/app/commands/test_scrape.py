"""`genmoji scrape`: what it lists, what its options reach, and what is said of a source that does not exist."""

from pathlib import Path
from typing import Any

import pytest

import scrape
from app import cli
from app.commands.scrape import SETS

COMMON = {"size": 64, "margin": 0.1, "keep_originals": True}
OPTIONS = "--size 64 --margin 0.1 --keep-originals"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The calls that reach the package, as name, arguments and options."""
    recorded: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def record(name: str) -> None:
        monkeypatch.setattr(scrape, name, lambda *arguments, **options: recorded.append((name, arguments, options)))

    for name in ("collect", "collect_font", "collect_folder", "merge", "summarize"):
        record(name)
    return recorded


@pytest.mark.parametrize(
    ("command", "name", "arguments", "options"),
    [
        (
            f"twemoji -o out {OPTIONS} --from a.tgz --emojibase b.tgz",
            "collect",
            ("twemoji", Path("out")),
            {**COMMON, "package": Path("a.tgz"), "emojibase": Path("b.tgz")},
        ),
        (
            f"font -o out {OPTIONS} --emojibase b.tgz",
            "collect_font",
            (Path("out"), None),
            {**COMMON, "emojibase": Path("b.tgz")},
        ),
        ("font a.ttf -o out", "collect_font", (Path("out"), Path("a.ttf")), {"emojibase": None}),
        (
            f"folder mine -o out {OPTIONS} --license CC0-1.0",
            "collect_folder",
            (Path("mine"), Path("out")),
            {**COMMON, "license": "CC0-1.0"},
        ),
        ("merge a b c -o out", "merge", ([Path("a"), Path("b"), Path("c")], Path("out")), {}),
        ("report a -o sheet.png", "summarize", (Path("a"), Path("sheet.png")), {}),
    ],
)
def test_every_option_reaches_the_package(
    command: str,
    name: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]],
) -> None:
    assert cli.main(["scrape", *command.split()]) == 0
    ((called, given, keywords),) = calls
    assert (called, given) == (name, arguments)
    assert options.items() <= keywords.items()


def test_what_is_not_asked_for_is_as_the_package_has_it() -> None:
    import inspect

    from app.commands import scrape as scraping
    from scrape import collect, collect_folder, collect_font

    for command, function in (
        (scraping.collector("noto"), collect),
        (scraping.font, collect_font),
        (scraping.folder, collect_folder),
    ):
        theirs = inspect.signature(function).parameters
        for name, parameter in inspect.signature(command).parameters.items():
            assert parameter.default == theirs[name].default, name


def test_a_source_that_does_not_exist_is_told_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scrape", "myspace", "-o", "data"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("genmoji: There is no genmoji scrape myspace; there are ") and message.count("\n") == 1
    assert {*scrape.SOURCES, "font", "folder", "merge", "report"} <= set(message.rstrip(".\n").replace(",", "").split())


def test_each_set_is_described_with_its_licence() -> None:
    assert set(SETS) == set(scrape.SOURCES)
    for name, source in scrape.SOURCES.items():
        assert source.license in SETS[name]


@pytest.mark.parametrize(
    ("command", "clue"),
    [
        ("", "Missing command"),
        ("noto", "--output"),
        ("noto -o out --margin 0.5", "margin of 0.5"),
        ("noto -o out --margin wide", "--margin"),
        ("noto -o out --size 8", "8 px"),
        ("folder nowhere -o out", "no folder nowhere"),
        ("font nowhere.ttf -o out", "no font nowhere.ttf"),
        ("merge -o out", "DATASETS"),
        ("merge nowhere -o out", "nowhere is not a dataset"),
        ("report nowhere", "nowhere is not a dataset"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing_behind(
    command: str, clue: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["scrape", *command.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and clue in err
    assert list(tmp_path.iterdir()) == []
