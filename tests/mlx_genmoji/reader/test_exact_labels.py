"""A prompt that is exactly a label is read in a short way, with the same result as the way of all other prompts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.prompt import safety
from mlx_genmoji.reader import Options
from mlx_genmoji.reader.closed_form import ClosedReader

OPTIONS = (
    Options(),
    Options(skin_tone="dark", person_type="woman", negative_prompt="a <b> c"),
    Options(template="{prompt}, flat", skin_tone="light"),
    Options(template="{prompt} of clay", combine=False, person_type="man"),
)


@pytest.fixture(scope="module")
def reader() -> Iterator[ClosedReader]:
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    genmoji = Genmoji.load()
    made = genmoji._reader
    assert isinstance(made, ClosedReader)
    yield made
    mx.set_default_device(device)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_short_way_reads_every_label_as_the_long_way_does(reader: ClosedReader, options: Options) -> None:
    labels = list(reader.vocabulary.labels)
    assert len(labels) > 1000
    assert {label: reader.read(label, options) for label in labels} == {
        label: reader._read_text(label, options) for label in labels
    }


def test_most_labels_take_the_short_way(reader: ClosedReader, monkeypatch: pytest.MonkeyPatch) -> None:
    short = []
    monkeypatch.setattr(ClosedReader, "_read_text", lambda *arguments: None)
    for label in reader.vocabulary.labels:
        if reader.read(label, Options()) is not None:
            short.append(label)
    assert len(short) > len(reader.vocabulary.labels) / 2
    assert "red apple" in short and "woman" not in short


def test_a_label_is_checked_for_safety_once(reader: ClosedReader, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr("mlx_genmoji.reader.closed_form.check_safe", checked.append)
    reader.read("red apple", Options())
    assert checked == ["red apple"]
    monkeypatch.setattr("mlx_genmoji.reader.closed_form.check_safe", safety.check_safe)
    monkeypatch.setattr(safety, "unsafe", lambda text: text)
    with pytest.raises(safety.UnsafePrompt):
        reader.read("red apple", Options())


def test_an_unknown_skin_tone_is_refused_for_a_label_too(reader: ClosedReader) -> None:
    with pytest.raises(UserError, match="There is no skin tone 'green'"):
        reader.read("red apple", Options(skin_tone="green"))


def test_reading_a_label_loads_neither_languages_nor_grammar() -> None:
    code = """
import sys
from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.reader import Options
reader = Genmoji.load()._reader
assert reader.vary(reader.read("red apple", Options()), 0, Options())[0].label == "red apple"
names = ("reader.languages", "reader.word_order", "reader.grammar", "reader.scene", "prompt.parser", "prompt.nouns")
print([name for name in (*names, "combinations") if f"mlx_genmoji.{name}" in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
