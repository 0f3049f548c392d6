"""The prompt rules' tables: made of emojibase-data, and what ships is what the script makes."""

from pathlib import Path

import pytest

from mlx_genmoji.prompt.lexicon import FOLDER
from scrape.emojibase import PACKAGE
from scrape.packages import cache_folder
from scrape.prompt_vocabulary import tables


def test_each_emoji_has_its_label_kind_and_person(emojibase: Path) -> None:
    rows = tables(emojibase)["emoji.tsv"].splitlines()
    assert "👩‍🚀\twoman astronaut\tperson\twoman\tperson-role" in rows
    assert any(row.startswith("🐱\tcat face\tthing\t\t") for row in rows)
    assert not [row for row in rows if "🏿" in row.split("\t")[0]]


def test_a_couple_is_found_as_its_toned_emojis_are_spelled(emojibase: Path) -> None:
    rows = tables(emojibase)["emoji.tsv"].splitlines()
    for spelled in ("👭", "👩‍🤝‍👩"):
        assert any(row.startswith(f"{spelled}\twomen holding hands\tperson\t\t") for row in rows)


def test_words_are_of_the_kind_of_their_emojis(emojibase: Path) -> None:
    rows = tables(emojibase)["words.tsv"].splitlines()
    assert "astronaut\tperson" in rows and "grinning cat\tanimal" in rows


def test_the_tables_that_ship_are_those_of_emojibase() -> None:
    tarball = cache_folder() / PACKAGE.tarball
    if not tarball.exists():
        pytest.skip(f"{PACKAGE.spec} was never packed on this machine")
    for name, text in tables(tarball).items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text
