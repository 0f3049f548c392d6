"""Plurals, singulars, stems and articles."""

import pytest

from mlx_genmoji.english import plural, singular, stem, with_article
from mlx_genmoji.prompt.lexicon import emojis


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        *(("pig", "a pig"), ("apple", "an apple"), ("x-ray", "an x-ray"), ("hat", "a hat"), ("herb", "a herb")),
        *(("hourglass", "an hourglass"), ("hourglass done", "an hourglass done"), ("honest man", "an honest man")),
        *(("unicorn", "a unicorn"), ("ufo", "a ufo"), ("ukulele", "a ukulele")),
        *(("one", "a one"), ("onion", "an onion"), ("euro banknote", "a euro banknote")),
        *(("sunglasses", "sunglasses"), ("santa claus", "santa claus")),
    ],
)
def test_an_article_follows_the_sound(noun: str, phrase: str) -> None:
    assert with_article(noun) == phrase


@pytest.mark.parametrize(
    ("name", "several"),
    [("fox", "foxes"), ("cherry", "cherries"), ("cup of coffee", "cups of coffee"), ("mermaid", "mermaids")],
)
def test_a_plural_of_a_phrase_is_its_heads(name: str, several: str) -> None:
    assert plural(name) == several


def test_singular_undoes_most_plurals_of_emoji() -> None:
    words = {word for entry in emojis().values() for word in entry.label.split() if word.isalpha() and word[-1] != "s"}
    wrong = [word for word in words if singular(plural(word)) != word and not word.endswith("y")]
    assert len(wrong) < len(words) / 20


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("apples", "apple"),
        ("cherries", "cherry"),
        ("torches", "torch"),
        ("dancing", "danc"),
        ("glass", "glass"),
        ("is", "is"),
    ],
)
def test_a_stem_has_no_ending(word: str, expected: str) -> None:
    assert stem(word) == expected
