"""The wheel, installed where there is nothing but what it declares, and run where a user's own modules lie about."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from zipfile import Path as ZipPath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "scrape", "train", "quantize", "mlx_genmoji")
GENMOJI = Path(sys.executable).with_name("genmoji")
ALIEN = "raise RuntimeError('this module is the user\\'s own')\n"


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=base | environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment: the wheel and, as links, the distributions it declares to need."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check")
    installed = run(*pip, "install", "--no-index", "--no-deps", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr

    (site_packages,) = folder.glob("lib/python*/site-packages")
    (metadata,) = (path for path in ZipPath(wheel).iterdir() if path.name.endswith(".dist-info"))
    for name in needed_by(PathDistribution(metadata).requires or []):
        link(name, site_packages)
    return folder / "bin"


def needed_by(requirements: Iterable[str]) -> set[str]:
    """The names of the distributions that `requirements` stand for, and of all that those need."""
    todo = [(Requirement(text), frozenset[str]()) for text in requirements]
    seen = set()
    while todo:
        requirement, extras = todo.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = (requirement.name, frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            todo += [(Requirement(text), key[1]) for text in distribution(requirement.name).requires or []]
    return {name for name, _ in seen}


def link(name: str, site_packages: Path) -> None:
    """Make an installed distribution importable from `site_packages` too."""
    installed = distribution(name)
    for top in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
        if not (site_packages / top).exists():
            (site_packages / top).symlink_to(Path(str(installed.locate_file(top))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with modules of the user's own under our packages' names."""
    for name in PACKAGES[:-1]:
        (tmp_path / f"{name}.py").write_text(ALIEN)
    return tmp_path


def test_the_wheel_holds_five_typed_packages_and_the_built_in_model(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    builtin = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "mlx_genmoji/builtin").rglob("*") if path.is_file()
    }
    assert "mlx_genmoji/builtin/model_index.json" in builtin
    assert builtin <= set(names)
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize("command", [["genmoji"], ["python", "-m", "mlx_genmoji"]], ids=["genmoji", "python -m"])
def test_the_installed_command_draws_in_a_folder_with_the_users_own_modules(
    command: list[str], clean: Path, folder: Path
) -> None:
    arguments = ("generate", "flying pig", "--seed", "7", "--steps", "2", "-o", "pig.png")
    done = run(clean / command[0], *command[1:], *arguments, cwd=folder, HOME=str(folder), HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (0, "pig.png\n"), done.stderr
    with Image.open(folder / "pig.png") as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "RGB")


def test_the_installed_library_imports_from_another_folder(clean: Path, tmp_path: Path) -> None:
    code = "from mlx_genmoji import Genmoji, Sticker; print(Genmoji.__name__, Sticker.__name__)"
    done = run(clean / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "Genmoji Sticker\n", done.stderr


def test_the_version_is_that_of_the_wheel(wheel: Path, clean: Path, folder: Path) -> None:
    expected = wheel.name.split("-")[1]
    command = run(clean / "genmoji", "--version", cwd=folder)
    library = run(clean / "python", "-I", "-c", "import mlx_genmoji; print(mlx_genmoji.__version__)", cwd=folder)
    assert (command.stdout, library.stdout) == (f"genmoji {expected}\n", f"{expected}\n")


def test_a_strangers_packages_on_the_path_are_named_in_one_sentence(folder: Path) -> None:
    done = run(GENMOJI, "--help", cwd=folder, PYTHONPATH=str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("genmoji: ")
    assert done.stderr.count("\n") == 1
    assert str(folder / "train.py") in done.stderr
    assert "mlx_genmoji (" not in done.stderr


def test_every_dependency_is_pinned_without_naming_a_host() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if "==" not in line or "/" in line or "@" in line or "+" in line] == []
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    requires = [Requirement(text) for text in [*project["dependencies"], *extras]]
    assert {requirement.name.lower().replace("_", "-") for requirement in requires} <= pinned
