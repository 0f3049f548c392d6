"""The structure of the code: which room may import which, how long files and functions may be.

    python tests/test_house.py            # print the house: each room and what it is for
    python tests/test_house.py --files    # and each file in it

A room is a Python package, one of the five top-level ones or a folder within one. An import is counted wherever it
stands: at the top of a file, within a function, or under TYPE_CHECKING.

A function's length is its lines from `def` to its end, with signature and docstring. Its branches are the number of
`if`, `elif`, `for`, `while`, `except`, `case`, conditional expressions and comprehensions' `if`s within it; those of a
function within it count too.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

LEVELS = {"app": 0, "scrape": 1, "train": 1, "quantize": 1, "mlx_genmoji": 2}
"""A file imports its own package and packages of a higher level; so the three workshops do not import each other."""

UPWARD_IMPORTS = {
    # The command checks that the five packages are its own before it hands over to the command line.
    ("mlx_genmoji.__main__", "app.cli"),
}

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_BRANCHES = 15

MAX_FILES_OF_A_DRAWING = 45
MAX_FRAMES_OF_A_DRAWING = 15
"""Of `genmoji generate "red apple"` on a CPU: files of code with a Python frame, that of their import too, and how many
frames of ours are on the stack at once."""

TABLES: dict[str, str] = {}
"""Files that may be longer, and the reason: they hold data."""

LONG_SIGNATURES = {
    "app/commands/generate.py:generate": "typer reads the command's options from the signature",
    "app/commands/export.py:export": "typer reads the command's options from the signature",
    "mlx_genmoji/pipeline.py:Genmoji.generate": "its arguments and what they mean are the library's interface",
    "app/commands/pack.py:pack": "typer reads the command's options from the signature",
}
"""Functions whose length is that of their body alone, without signature and docstring, and the reason."""

BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.IfExp)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def files() -> dict[str, Path]:
    """Every file of code by its module's name; a package's `__init__.py` by the package's."""
    named = {}
    for package in LEVELS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(module: str) -> Iterator[tuple[str, int]]:
    """The modules of ours that `module` imports, and the line of each import."""
    path = files()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import name`: the name is a module of the package, or something in its __init__.py.
            targets = [name if (name := f"{base}.{alias.name}") in files() else base for alias in node.names]
        else:
            continue
        yield from ((target, node.lineno) for target in dict.fromkeys(targets) if target in files())


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (Tarjan, 1972), each in the order of its names."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1 or node in graph[node]:
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """Every function of a file by its qualified name, methods and functions within functions too."""

    def within(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef):
                name = f"{prefix}{child.name}"
                if isinstance(child, Function):
                    yield name, child
                yield from within(child, f"{name}.")
            else:
                yield from within(child, prefix)

    return within(tree(path), "")


def length(function: Function, body_only: bool = False) -> int:
    """The lines of a function, or of its body without the docstring."""
    assert function.end_lineno is not None
    if not body_only:
        return function.end_lineno - function.lineno + 1
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def branches(function: Function) -> int:
    """How often a function branches, as this module's docstring defines it."""
    nodes = list(ast.walk(function))
    conditions = sum(len(node.ifs) for node in nodes if isinstance(node, ast.comprehension))
    return conditions + sum(isinstance(node, BRANCHES) for node in nodes)


def rooms() -> dict[str, str]:
    """Every room by its package's name, and the first line of its docstring."""
    return {name: summary(path) for name, path in files().items() if path.name == "__init__.py"}


def summary(path: Path) -> str:
    return (ast.get_docstring(tree(path)) or "").partition("\n")[0]


def test_imports_go_only_down() -> None:
    upward = []
    for module in files():
        source = module.partition(".")[0]
        for target, line in imported(module):
            package = target.partition(".")[0]
            if package != source and LEVELS[package] <= LEVELS[source] and (module, target) not in UPWARD_IMPORTS:
                upward.append(f"{place(files()[module])}:{line} imports {target}")
    assert upward == []


def test_every_declared_exception_to_the_direction_is_used() -> None:
    assert all(target in dict(imported(module)) for module, target in UPWARD_IMPORTS)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module: {target for target, _ in imported(module)} for module in files()}
    assert circles(graph) == []


def test_a_circle_of_files_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [["a", "b", "c"]]


def test_no_file_of_code_is_longer_than_the_limit() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files().values()}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES and name not in TABLES} == {}


def test_no_function_is_longer_than_the_limit() -> None:
    lengths = {
        (name := f"{place(path)}:{function_name}"): length(function, body_only=name in LONG_SIGNATURES)
        for path in files().values()
        for function_name, function in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def test_no_function_has_more_branches_than_the_limit() -> None:
    counts = {f"{place(path)}:{name}": branches(f) for path in files().values() for name, f in functions(path)}
    assert {name: n for name, n in counts.items() if n > MAX_BRANCHES} == {}


def test_branches_are_counted_as_defined() -> None:
    code = """
def f(x):
    if x:
        pass
    elif x > 1:
        pass
    for i in x:
        while i:
            i = 1 if x else 2
    try:
        match x:
            case 1: pass
            case _: pass
    except ValueError:
        pass
    return [i for i in x if i if i > 1]
"""
    (function,) = ast.parse(code).body
    assert isinstance(function, ast.FunctionDef)
    assert branches(function) == 10


def test_every_exemption_is_needed() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files().values()}
    assert [name for name in TABLES if lengths.get(name, 0) <= MAX_FILE_LINES] == []
    long = {
        f"{place(path)}:{name}"
        for path in files().values()
        for name, function in functions(path)
        if length(function) > MAX_FUNCTION_LINES
    }
    assert [name for name in LONG_SIGNATURES if name not in long] == []


def test_every_room_and_file_says_what_it_is_for() -> None:
    assert [place(path) for path in files().values() if not summary(path)] == []


TRACE = """
import json, sys, threading
root, output = sys.argv[1:]
files, deepest = set(), 0

def is_ours(frame):
    return frame.f_code.co_filename.startswith(root) and "/.venv/" not in frame.f_code.co_filename

def enter(frame, event, argument):
    global deepest
    if event != "call" or not is_ours(frame):
        return
    files.add(frame.f_code.co_filename.removeprefix(root))
    if frame.f_code.co_name == "<module>":
        return
    depth = 0
    while frame is not None:
        depth += is_ours(frame)
        frame = frame.f_back
    deepest = max(deepest, depth)

if sys.platform == "darwin":
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
sys.argv = ["genmoji", "generate", "red apple", "--steps", "1", "--output", output]
sys.setprofile(enter)
threading.setprofile(enter)
from mlx_genmoji.__main__ import main
code = main()
sys.setprofile(None)
print(json.dumps({"code": code, "files": sorted(files), "frames": deepest}))
"""


def test_drawing_a_label_enters_few_files_and_few_frames(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRACE, f"{ROOT}/", str(tmp_path / "apple.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    trace = json.loads(run.stdout.splitlines()[-1])
    assert trace["code"] == 0 and (tmp_path / "apple.png").exists()
    assert "mlx_genmoji/pipeline.py" in trace["files"]
    assert len(trace["files"]) <= MAX_FILES_OF_A_DRAWING, trace["files"]
    assert trace["frames"] <= MAX_FRAMES_OF_A_DRAWING


def print_house(with_files: bool) -> None:
    """Print each room on a line, those within others indented; with `with_files` each file too."""
    entries = {name: summary(path) for name, path in files().items()} if with_files else rooms()
    for name, text in sorted(entries.items()):
        *parents, last = name.split(".")
        print(f"{'    ' * len(parents) + last + ('/' if name in rooms() else '.py'):36} {text}")


if __name__ == "__main__":
    print_house(with_files="--files" in sys.argv[1:])
