"""How a prompt reaches the text encoder."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from diffusers import DDIMScheduler, StableDiffusionPipeline

from mlx_genmoji import Genmoji
from mlx_genmoji.reader import Options

pytestmark = pytest.mark.usefixtures("cpu")

AS_TYPED = [
    "portrait of a black woman",
    "a white cat, pale skin",
    "An astronaut -- 85mm, f/1.4 (best quality:1.2)",
    "🐷 with wings",
    "man with dark skin tone and a girl",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_pipeline: Any) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("model") / "sd", StableDiffusionPipeline, DDIMScheduler())


@pytest.mark.parametrize("prompt", AS_TYPED)
def test_a_model_without_a_template_gets_the_prompt_as_it_is(
    prompt: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genmoji = Genmoji.load(folder)
    texts: list[str] = []
    tokenize = genmoji.text.tokenize
    monkeypatch.setattr(
        genmoji.text, "tokenize", lambda given, **options: texts.extend(given) or tokenize(given, **options)
    )
    drawn = genmoji.generate(prompt, steps=1, seed=1, guidance=1.0)[0]
    assert texts == [prompt]
    assert drawn.recipe["final_prompt"] == prompt and drawn.recipe["skin_tone"] is None


def test_an_option_is_added_to_a_prompt_that_is_otherwise_as_it_is(folder: Path) -> None:
    drawn = Genmoji.load(folder).generate("an astronaut", steps=1, skin_tone="dark", person_type="woman")[0]
    assert drawn.recipe["final_prompt"] == "woman an astronaut, dark skin tone"


def test_the_built_in_model_is_called_builtin_or_nothing() -> None:
    mx.set_default_device(mx.cpu)
    assert Genmoji.load("builtin").name == Genmoji.load().name == "builtin"


def test_generate_takes_each_option_with_its_default() -> None:
    parameters = inspect.signature(Genmoji.generate).parameters
    for option in fields(Options):
        assert parameters[option.name].default == option.default
    assert parameters.keys() - {option.name for option in fields(Options)} == {"self", "prompt", "callback", "each"}
