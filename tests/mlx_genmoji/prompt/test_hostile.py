"""Prompts that are made to take long are read in a time that is linear in their length."""

import time

import pytest

from mlx_genmoji import UserError
from mlx_genmoji.combinations.reading import read
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.prompt import compose, parse
from mlx_genmoji.prompt.words import Words

LENGTH = 20_000
MAX_SECONDS = 6.0
"""Some tenths of a second on an idle core; a pattern that is quadratic takes many times this long."""

WORDS = Words.load(BUILTIN)

REPEATED = (
    *("very ", "and ", "no the ", "dark skin ", "lark skin and ", "red-", "naked ", "pig-and-", "pig,and,", "please,"),
    *("child", "babbab", "1", "é", "🐷", "1\ufe0f\u20e3", ",", "-", "a-", "a b ", "._", "____a", "<|"),
)


def repeated(piece: str, before: str = "", after: str = "") -> str:
    count = (LENGTH - len(before) - len(after)) // len(piece)
    return before + piece * count + after


PROMPTS = [
    *map(repeated, REPEATED),
    repeated("red ", "man "),
    repeated("very ", after="skin"),
    repeated("red ", "man ", "hai"),
    repeated("child", after=" nake"),
    repeated("_", after="ab"),
    repeated("____a", after="ab"),
    "<|" * (LENGTH // 4) + "|>" * (LENGTH // 4),
]


@pytest.fixture(scope="module", autouse=True)
def _tables() -> None:
    """Read the tables of the vocabulary before the clock runs."""
    compose("zebra 🐷 with drak skin", "{prompt}, 3d")
    read("flying pig", WORDS, "noto")


@pytest.mark.parametrize(
    "prompt",
    PROMPTS,
    ids=[f"{prompt[:6]}...{prompt[-4:]}".encode("ascii", "backslashreplace").decode() for prompt in PROMPTS],
)
def test_a_prompt_of_20000_characters_is_read_in_bounded_time(prompt: str) -> None:
    assert len(prompt) > 0.99 * LENGTH
    start = time.thread_time()
    try:
        compose(prompt, "{prompt}, 3d", "dark", "woman")
        parse(prompt)
    except UserError:
        pass
    read(prompt, WORDS, "noto")
    WORDS.own(prompt)
    assert time.thread_time() - start < MAX_SECONDS
