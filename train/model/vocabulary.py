"""A text encoder's own vocabulary: a byte-level BPE with CLIP's conventions, learned from captions.

The files are those of a diffusers `tokenizer/` folder, in the layout of OpenAI's vocabulary: the 256 bytes, the same
256 as the end of a word (`</w>`), one token per merge, start- and end-of-text. So any text encodes, without an unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from mlx_genmoji.errors import UserError
from mlx_genmoji.files import write_text
from mlx_genmoji.tokenizer import END_OF_TEXT, END_OF_WORD, START_OF_TEXT, clip_backend

SMALLEST_VOCABULARY = 2 * 256 + 2


def train_clip_vocabulary(texts: Iterable[str], size: int, folder: str | Path, max_length: int) -> int:
    """Learn at most `size` tokens from `texts`, write the tokenizer's files to `folder`, return how many there are.

    There are fewer than `size` when the captions have no more pairs to merge: take the result for the text encoder's
    `vocab_size`. `max_length` is its number of positions, start- and end-of-text included. The same captions give the
    same files. Raises UserError where `size` cannot hold the bytes, or `max_length` no word.
    """
    if size < SMALLEST_VOCABULARY:
        raise UserError(f"A vocabulary needs room for {SMALLEST_VOCABULARY} tokens at least, not {size}.")
    if max_length < 3:
        raise UserError(f"A caption needs 3 positions at least, not {max_length}.")

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(char + END_OF_WORD for char in alphabet)]
    merges = _learn_merges(texts, size, tokens)
    # Two merges can lead to one token: "a" + "bc" and "ab" + "c".
    tokens = [*dict.fromkeys([*tokens, *(left + right for left, right in merges)]), START_OF_TEXT, END_OF_TEXT]
    vocabulary = {token: i for i, token in enumerate(tokens)}

    roles = {
        "bos_token": START_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    write_text(folder / "special_tokens_map.json", json.dumps(roles, indent=2) + "\n")
    config = roles | {"model_max_length": max_length, "tokenizer_class": "CLIPTokenizer"}
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    return len(vocabulary)


def _learn_merges(texts: Iterable[str], size: int, tokens: list[str]) -> list[tuple[str, str]]:
    """The merges in the order they were learned, the most frequent pair first."""
    backend = clip_backend({END_OF_TEXT: 0}, [])
    # Equally frequent pairs are merged in the order of their ids. Declaring every token fixes the ids: the trainer
    # would give them in the order of its hash table of words, another one in each run.
    trainer = BpeTrainer(
        vocab_size=size,
        end_of_word_suffix=END_OF_WORD,
        special_tokens=[START_OF_TEXT, END_OF_TEXT, *tokens],
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    merges = json.loads(backend.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]
