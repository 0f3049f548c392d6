"""A vocabulary learned from captions, read back by us and by transformers."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import transformers

from mlx_genmoji.errors import UserError
from mlx_genmoji.tokenizer import CLIPTokenizer
from train.model.vocabulary import SMALLEST_VOCABULARY, train_clip_vocabulary

COLOURS = ["red", "blue", "green", "Medium-Dark", "café-coloured"]
THINGS = ["pig", "flying pig", "cat with tears of joy", "axolotl", "猫", "woman's hat", "face", "🌟", "keycap 10"]
CAPTIONS = [f"emoji of a {colour} {thing}" for colour in COLOURS for thing in THINGS]

FOREIGN = [
    "",
    "Ünïcödé façade",
    "空飛ぶ豚",
    "👩🏽\u200d🚀 über",
    "летающая свинья",
    "\x00\x7f\u2028 tab\tnew\nline",
    "a" * 500,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_clip_vocabulary(CAPTIONS, 600, folder, max_length=24)
    return folder


def words(folder: Path, text: str) -> list[str]:
    token = {i: token for token, i in json.loads((folder / "vocab.json").read_text(encoding="utf-8")).items()}
    return [token[i] for i in CLIPTokenizer.load(folder)([text])[0].tolist()]


def test_the_size_is_the_number_of_ids_and_never_exceeded(tmp_path: Path) -> None:
    for size in (SMALLEST_VOCABULARY, 540, 100_000):
        count = train_clip_vocabulary(CAPTIONS, size, tmp_path, max_length=16)
        vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
        assert sorted(vocabulary.values()) == list(range(count))
        assert CLIPTokenizer.load(tmp_path).vocab_size == count
        assert count == size or (size == 100_000 and count < 1000)


def test_the_layout_is_openais(folder: Path) -> None:
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    assert [vocabulary[token] for token in ("!", "!</w>", "a", "a</w>")] == [0, 256, 64, 320]
    assert list(vocabulary)[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    assert len((folder / "merges.txt").read_text(encoding="utf-8").splitlines()) == len(vocabulary) - 514 + 1


def test_frequent_words_become_one_token(folder: Path) -> None:
    assert words(folder, "Emoji of a RED pig")[:7] == [
        "<|startoftext|>", "emoji</w>", "of</w>", "a</w>", "red</w>", "pig</w>", "<|endoftext|>",
    ]  # fmt: skip


def test_any_text_encodes_and_nothing_becomes_the_unknown_token(folder: Path) -> None:
    """Unknown is end-of-text: one in the middle of a caption would end it."""
    tokenizer = CLIPTokenizer.load(folder)
    noise = random.Random(0)
    texts = FOREIGN + ["".join(chr(noise.randrange(1, 0xD800)) for _ in range(8)) for _ in range(200)]
    with pytest.warns(UserWarning, match="too long"):
        ids = tokenizer(texts)
    # One run of end-of-text, which reaches to the end: what follows the first is padding, the same token.
    ended = ids == tokenizer.eos_token_id
    assert ended[:, -1].all()
    assert (np.diff(ended.astype(int), axis=1) >= 0).all()


def test_transformers_reads_the_same_ids(folder: Path) -> None:
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    assert theirs.model_max_length == 24
    texts = [text for text in CAPTIONS + FOREIGN if len(text) < 100]
    expected = theirs(texts, padding="max_length", truncation=True, max_length=24, return_tensors="np").input_ids
    with pytest.warns(UserWarning, match="too long"):
        assert (CLIPTokenizer.load(folder)(texts) == expected).all()


def test_the_same_captions_in_any_order_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    train_clip_vocabulary(iter(reversed(CAPTIONS)), 600, tmp_path, max_length=24)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {
        "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
    }  # fmt: skip


@pytest.mark.parametrize(("size", "max_length", "said"), [(513, 16, "514"), (600, 2, "3 positions")])
def test_impossible_sizes_are_refused(tmp_path: Path, size: int, max_length: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train_clip_vocabulary(CAPTIONS, size, tmp_path, max_length)
    assert not list(tmp_path.iterdir())
