"""What is imported when: prompts are read without the code that draws, and the library of reading knows no layouts."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlx_genmoji
from mlx_genmoji.combinations import colours, relations

PACKAGE = Path(mlx_genmoji.__file__).parent
DRAWING = "layers layouts rasterize scenes sprites assemble face_features colours".split()


def imported_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_reading_a_combination_imports_nothing_that_draws() -> None:
    names = imported_by(
        "from mlx_genmoji.combinations.reading import read; from mlx_genmoji.prompt.words import Words;"
        " assert read('flying pig', Words({}), 'noto')"
    )
    assert "mlx_genmoji.combinations.reading" in names
    assert not names & {"PIL", "mlx.core", *(f"mlx_genmoji.combinations.{name}" for name in DRAWING)}


def test_prompts_are_read_without_language_models_and_combinations() -> None:
    names = imported_by("from mlx_genmoji.prompt import compose; assert compose('pig', '{prompt}')")
    assert not [name for name in names if name.startswith(("mlx_genmoji.prompt.llm", "mlx_genmoji.combinations"))]


def test_a_sticker_is_made_without_the_code_for_exports() -> None:
    names = imported_by("from mlx_genmoji.sticker import Sticker")
    assert not names & {f"mlx_genmoji.sticker.{name}" for name in ("cutout", "glyph", "targets")}


@pytest.mark.parametrize("file", sorted((PACKAGE / "prompt").rglob("*.py")), ids=lambda file: file.stem)
def test_prompts_do_not_import_combinations(file: Path) -> None:
    if file.name == "combinations.py":  # the alias for callers of version 0.1
        return
    imports = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert not [node.lineno for node in imports if "combinations" in (node.module or "").split(".")]


def test_reading_knows_the_colours_that_are_drawn() -> None:
    assert tuple(colours.TARGETS) == relations.COLOURS


def test_the_name_of_version_0_1_still_reads() -> None:
    from mlx_genmoji.combinations import reading
    from mlx_genmoji.prompt import combinations

    assert combinations.read is reading.read and combinations.Combination is reading.Combination
