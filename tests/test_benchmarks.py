"""The benchmarks fit the code that they measure, and one that fails takes no figures with it."""

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import bench_export
import pytest
import run
from row import Row

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "benchmarks"
FILES = sorted(FOLDER.glob("*.py"))
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_benchmark_imports_and_has_the_function_that_starts_it(path: Path) -> None:
    module = import_module(path.stem)
    assert module.__file__ == str(path)
    if path.stem.startswith("bench_"):
        assert callable(module.rows)
    elif path.stem.startswith("draw_") or path.stem in ("golden", "part_recogniser", "recogniser", "run"):
        assert callable(module.main)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_name_that_a_benchmark_imports_exists(path: Path) -> None:
    """Also the names that a function imports when it runs, and those in code that it hands to another Python."""
    missing = [
        f"{module}.{name}" for module, name in imported(ast.parse(path.read_text("utf-8"))) if not exists(module, name)
    ]
    assert missing == []


def test_imports_within_functions_and_within_code_that_is_text_are_looked_up() -> None:
    code = (
        'def f():\n    from scrape import a\n    run("import sys; from mlx_genmoji.hub import b")\n    import train.c\n'
    )
    assert set(imported(ast.parse(code))) == {("scrape", "a"), ("mlx_genmoji.hub", "b"), ("train.c", "")}
    assert not exists("scrape", "a")
    assert not exists("train.c", "")
    assert exists("mlx_genmoji.pictures", "fit_picture")


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import of the project's packages; name is "" for a plain `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            try:
                inner = ast.parse(node.value)
            except SyntaxError:
                continue  # Prose.
            yield from imported(inner)


def exists(module: str, name: str) -> bool:
    """Whether `module` can be imported and has `name`, as an attribute or a module within it; any module has ""."""
    try:
        if not hasattr(import_module(module), name or "__name__"):
            import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of results with a row of each of two benchmarks, `sound` and `faulty`."""
    path = tmp_path / "RESULTS.md"
    monkeypatch.setattr(run, "RESULTS", path)
    run.write({name: [run.as_line(name, Row("speed", "<= 2 s", "1 s", True))] for name in ("faulty", "sound")})
    return path


def benchmark(monkeypatch: pytest.MonkeyPatch, name: str, *rows: Row, error: BaseException | None = None) -> None:
    """Make a benchmark `name` that yields `rows` and then raises `error`."""

    def yielded() -> Iterator[Row]:
        yield from rows
        if error:
            raise error

    module = ModuleType(f"bench_{name}")
    monkeypatch.setattr(module, "rows", yielded, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("error", [ImportError("cannot import name"), SystemExit("not the wheel"), None])
def test_a_benchmark_that_fails_keeps_its_rows_is_named_and_lets_the_others_run(
    error: BaseException | None, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(monkeypatch, "faulty", error=error)
    benchmark(monkeypatch, "sound", Row("speed", "<= 2 s", "1.5 s", True))
    assert run.run({"faulty": [], "sound": []}, ["faulty", "sound"]) == 1
    table = results.read_text("utf-8")
    assert "| faulty | speed | <= 2 s | 1 s | yes |" in table
    assert "| sound | speed | <= 2 s | 1.5 s | yes |" in table
    assert "Failed, with their other rows left as they were: faulty." in capsys.readouterr().err


def test_rows_that_came_before_the_failure_are_written(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark(monkeypatch, "faulty", Row("memory", "<= 2 GB", "1 GB", True), error=ValueError())
    assert run.run({"faulty": []}, ["faulty", "sound"]) == 1
    table = results.read_text("utf-8")
    assert "| faulty | speed |" in table and "| faulty | memory |" in table and "| sound | speed |" in table


def test_a_benchmark_that_ends_replaces_all_its_rows(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark(monkeypatch, "sound", Row("memory", "<= 2 GB", "1 GB", True))
    assert run.run({"sound": []}, ["faulty", "sound"]) == 0
    table = results.read_text("utf-8")
    assert "| sound | speed |" not in table and "| sound | memory |" in table and "| faulty | speed |" in table


def test_a_goal_that_is_not_met_is_exit_code_1(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark(monkeypatch, "sound", Row("speed", "<= 2 s", "3 s", False))
    assert run.run({"sound": []}, ["faulty", "sound"]) == 1
    assert "| sound | speed | <= 2 s | 3 s | **no** |" in results.read_text("utf-8")


def test_a_part_of_the_export_that_fails_does_not_stop_the_next_and_is_raised_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(folder: Path) -> Iterator[Row]:
        yield Row("first", "", "1", None)
        raise OSError("no space")

    def sound(folder: Path) -> Iterator[Row]:
        yield Row("second", "", "2", None)

    monkeypatch.setattr(bench_export, "PARTS", {"faulty": faulty, "sound": sound})
    measured = []
    with pytest.raises(ExceptionGroup) as raised:
        for row in bench_export.rows():
            measured.append(row.what)
    assert measured == ["first", "second"]
    assert [str(error) for error in raised.value.exceptions] == ["no space"]
    rows = bench_export.rows(["sound"])
    assert [row.what for row in rows] == ["second"]
