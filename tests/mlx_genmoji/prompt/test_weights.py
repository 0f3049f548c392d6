"""Weights in prompts and long prompts: A1111's rules, computed here once more with PyTorch and transformers' CLIP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from mlx_genmoji import Genmoji
from mlx_genmoji.families.base import Settings
from mlx_genmoji.prompt.weights import Piece, notes_on_marks, parse_weights, without_adapter_tags

pytestmark = pytest.mark.usefixtures("cpu")

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LONG = ", ".join(["a flying pig"] * 30)
Row = list[tuple[int, float]]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("un)balanced]", [("un)balanced]", 1.0)]),
        ("\\(literal\\]", [("(literal]", 1.0)]),
        ("a \\\\ b", [("a \\ b", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("((word))", [("word", 1.21)]),
        ("[word]", [("word", 1 / 1.1)]),
        ("(word:0)", [("word", 0.0)]),
        ("(word: -.5 )", [("word", -0.5)]),
        ("time: 12:30)", [("time: 12:30)", 1.0)]),
        ("(word:1.2.3)", [("word:1.2.3)", 1.1)]),
        ("", [("", 1.0)]),
        ("one BREAK two", [("one", 1.0), (None, 1.0), ("two", 1.0)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
    ],
)
def test_brackets_are_read_as_in_a1111(prompt: str, expected: list[tuple[str | None, float]]) -> None:
    """Most are the examples in A1111's own source."""
    pieces = parse_weights(prompt)
    assert [piece.text for piece in pieces] == [text for text, _ in expected]
    assert [piece.weight for piece in pieces] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize(
    "prompt", ["(" * 500, "[" * 200 + "x" + ")" * 200, ":" * 300, "\\" * 99, "(a:" + "9" * 400 + ")"]
)
def test_odd_prompts_are_read_without_an_error(prompt: str) -> None:
    assert all(isinstance(piece, Piece) for piece in parse_weights(prompt))


def test_marks_that_are_not_read_are_noted() -> None:
    (note,) = notes_on_marks("a (flying:1.4) pig, ((big)) [small] BREAK blue", weighted=False)
    assert note.startswith("(flying:1.4), ((big)), [small], BREAK in the prompt are read letter by letter")
    assert "--prompt-weights" in note
    assert notes_on_marks("a (flying:1.4) pig, ((big)) [small]", weighted=True) == []
    for plain in ("a pig (in a hat)", "a pig at 12:30", "\\(a:1.2\\)", "a pig :)", "[", "f(x)"):
        assert notes_on_marks(plain, weighted=False) == []


@pytest.mark.parametrize("weighted", [False, True])
def test_an_adapter_s_tag_is_named_with_the_option_that_loads_it(weighted: bool) -> None:
    (note,) = notes_on_marks("a pig <lora:emoji_v2:0.8>", weighted)
    assert note.startswith("<lora:emoji_v2:0.8> in the prompt ")
    assert ("was left out" in note) == weighted
    assert "--adapter emoji_v2.safetensors:0.8" in note
    assert without_adapter_tags("a pig <lora:emoji_v2:0.8>, red <lyco:x>") == "a pig , red "


@pytest.fixture(params=["sd1", "xl"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, write_pipeline: Callable[..., Path]) -> Path:
    kind = StableDiffusionXLPipeline if request.param == "xl" else StableDiffusionPipeline
    return write_pipeline(tmp_path / request.param, kind, DDIMScheduler(**NOISE, clip_sample=False, steps_offset=1))


def a1111_chunks(tokenizer: Any, pieces: list[tuple[str, float]]) -> list[Row]:
    """`tokenize_line` of A1111's `modules/sd_hijack_clip.py`, with its setting of 20 for commas."""
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    chunks: list[Row] = []
    chunk: Row = []
    last_comma = -1
    for text, weight in pieces:
        if text == "BREAK":
            chunks.append(chunk)
            chunk, last_comma = [], -1
            continue
        for token in tokenizer(text, add_special_tokens=False).input_ids:
            if token == comma:
                last_comma = len(chunk)
            elif len(chunk) == 75 and last_comma != -1 and len(chunk) - last_comma <= 20:
                moved = chunk[last_comma + 1 :]
                chunks.append(chunk[: last_comma + 1])
                chunk, last_comma = moved, -1
            if len(chunk) == 75:
                chunks.append(chunk)
                chunk, last_comma = [], -1
            chunk.append((token, weight))
    if chunk or not chunks:
        chunks.append(chunk)
    return chunks


def a1111_states(folder: Path, rows: list[list[tuple[str, float]]]) -> tuple[np.ndarray, np.ndarray | None]:
    towers, pooled = [], None
    xl = (folder / "text_encoder_2").is_dir()
    for suffix in ("", "_2") if xl else ("",):
        tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
        kind: Any = CLIPTextModelWithProjection if suffix else CLIPTextModel
        encoder = kind.from_pretrained(folder / f"text_encoder{suffix}").eval()
        chunked = [a1111_chunks(tokenizer, row) for row in rows]
        count = max(map(len, chunked))
        states = []
        for i in range(count):
            chunks = [row[i] if i < len(row) else [] for row in chunked]
            pad = tokenizer.pad_token_id
            ids, multipliers = [], []
            for chunk in chunks:
                framed = [tokenizer.bos_token_id, *(token for token, _ in chunk), tokenizer.eos_token_id]
                ids.append(framed + [pad] * (77 - len(framed)))
                multipliers.append(([1.0, *(weight for _, weight in chunk)] + [1.0] * 77)[:77])
            with torch.no_grad():
                output = encoder(torch.tensor(ids), output_hidden_states=True)
            z = output.hidden_states[-2] if xl else output.last_hidden_state
            if suffix and i == 0:
                pooled = output.text_embeds.numpy()
            # One text at a time, as A1111 encodes the prompt and the negative prompt apart.
            for row in range(len(z)):
                mean = z[row].mean()
                z[row] = z[row] * torch.tensor(multipliers[row])[:, None]
                z[row] = z[row] * (mean / z[row].mean())
            states.append(z.numpy())
        towers.append(np.concatenate(states, 1))
    return np.concatenate(towers, -1), pooled


CASES: list[tuple[str, list[tuple[str, float]], str, list[tuple[str, float]]]] = [
    (
        "a (flying:1.4) pig, [two] ((cats))",
        [("a ", 1), ("flying", 1.4), (" pig, ", 1), ("two", 1 / 1.1), (" ", 1), ("cats", 1.21)],
        "",
        [("", 1)],
    ),
    ("a pig", [("a pig", 1)], "(two cats:0.5)", [("two cats", 0.5)]),
    (LONG, [(LONG, 1)], "a red apple", [("a red apple", 1)]),
    (f"({LONG}:1.2) apple", [(LONG, 1.2), (" apple", 1)], LONG, [(LONG, 1)]),
    ("a pig BREAK two cats", [("a pig", 1), ("BREAK", -1), ("two cats", 1)], "x", [("x", 1)]),
    ("pig " * 100, [("pig " * 100, 1)], "", [("", 1)]),
]


@pytest.mark.parametrize(("prompt", "pieces", "negative", "negative_pieces"), CASES, ids=[f"case{i}" for i in range(6)])
def test_weighted_and_long_prompts_have_the_states_of_a1111(
    folder: Path,
    prompt: str,
    pieces: list[tuple[str, float]],
    negative: str,
    negative_pieces: list[tuple[str, float]],
    error: Callable[..., float],
) -> None:
    genmoji = Genmoji.load(folder)
    genmoji.text.zeros_for_empty = False
    settings = Settings(prompt_weights=True, long_prompts=True)
    conditions = genmoji.text(prompt, negative, (16, 16), settings)
    states, pooled = a1111_states(folder, [negative_pieces, pieces])
    assert error(conditions.states, states) <= 1e-5
    if pooled is not None:
        assert error(conditions.added["text_embeds"], pooled) <= 1e-5
    plain = genmoji.text(prompt, negative, (16, 16))
    assert plain.states.shape != states.shape or error(plain.states, states) > 1e-3


def test_a_short_prompt_without_weights_is_drawn_as_before(folder: Path) -> None:
    genmoji = Genmoji.load(folder)
    plain = genmoji.text("a flying pig", "two cats", (16, 16))
    for settings in (Settings(prompt_weights=True), Settings(long_prompts=True)):
        other = genmoji.text("a flying pig", "two cats", (16, 16), settings)
        assert mx.allclose(other.states, plain.states, rtol=1e-5, atol=1e-5)


def test_a_prompt_that_is_cut_is_noted_and_one_in_chunks_is_not(folder: Path) -> None:
    genmoji = Genmoji.load(folder)
    with pytest.warns(UserWarning, match="too long") as warned:
        (note,) = genmoji.generate(LONG, seed=1, steps=1)[0].notes
    assert [str(warning.message) for warning in warned] == [note]
    assert note.startswith("The text is too long; the model does not see the end of it: '")
    whole = genmoji.generate(LONG, seed=1, steps=1, long_prompts=True)[0]
    assert whole.notes == ()
    with pytest.warns(UserWarning, match="too long") as warned:
        weighted = genmoji.generate(f"({LONG}:1.1)", seed=1, steps=1, prompt_weights=True)[0]
    assert weighted.notes == (note,) and [str(warning.message) for warning in warned] == [note]


def test_a_plain_folder_reads_marks_letter_by_letter_and_says_so(folder: Path) -> None:
    genmoji = Genmoji.load(folder)
    plain = genmoji.generate("a (flying:1.4) pig", seed=1, steps=2)[0]
    assert "(flying:1.4) in the prompt is read letter by letter" in plain.notes[0]
    assert plain.recipe["notes"] == list(plain.notes)
    weighted = genmoji.generate("a (flying:1.4) pig <lora:x:1>", seed=1, steps=2, prompt_weights=True)[0]
    assert weighted.notes == (
        "<lora:x:1> in the prompt was left out and loads nothing: give an adapter with --adapter x.safetensors:1.",
    )
    assert not np.array_equal(np.asarray(plain.image), np.asarray(weighted.image))
