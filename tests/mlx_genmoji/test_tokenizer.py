"""CLIPTokenizer: the ids of transformers' tokenizer, from every kind of folder that checkpoints come with."""

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from mlx_genmoji.errors import UserError
from mlx_genmoji.tokenizer import CLIPTokenizer
from train.model.vocabulary import train_clip_vocabulary

WORDS = (
    "a the flying pig PIG Astronaut riding horse on mars, oil painting don't we'll it's they've I'm you'd café naïve "
    "Straße ŒUVRE İstanbul ﬁne e\u0301clair Ångström smörgåsbord façade 空飛ぶ豚 猫 한국어 스티커 летающая свинья "
    "خنزير טוב หมูบิน सूअर 🐷 👩🏽\u200d🚀 🏳️\u200d🌈 ☃️ 1️⃣ 🇨🇭 !! hello! ... (((masterpiece))) [red|blue] 8k 4096x2160 "
    "3.14 ½ Ⅷ ① _under_score snake_case a-b 'quoted' <|endoftext|> <|startoftext|> <|EndOfText|> <token> <cat-toy> "
    "</w> \\ / # #version @user \u00ad \ufeff \ufffd \x00 \x1f \x7f \u2028 \u3000 \u00a0 \u200b ℝ 𝒳 "
    "supercalifragilistic"
).split(" ")
SEPARATORS = [" ", " ", " ", "", "  ", "\t", "\n", "\r\n", "\u3000"]


def prompts() -> list[str]:
    choose = random.Random(7)
    planes = range(0xD800), range(0xE000, 0x1FFFF)
    made = ["", " ", "\n", "!", "a" * 3000, "猫" * 3000, "🐷" * 500, " ".join(WORDS), *WORDS]
    for _ in range(2000):
        made.append("".join(choose.choice(WORDS) + choose.choice(SEPARATORS) for _ in range(choose.randrange(1, 30))))
    for _ in range(300):
        made.append("".join(chr(choose.choice(planes[choose.randrange(2)])) for _ in range(20)))
    return made


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def flags(content: str, normalized: bool = True, **more: Any) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False} | more


START, END = "<|startoftext|>", "<|endoftext|>"


def as_stable_diffusion_1(folder: Path, size: int) -> None:
    tokens = {"bos_token": flags(START), "eos_token": flags(END), "unk_token": flags(END)}
    write(folder, "special_tokens_map.json", tokens | {"pad_token": END})
    typed = {name: token | {"__type": "AddedToken"} for name, token in tokens.items()}
    write(folder, "tokenizer_config.json", typed | {"pad_token": END, "model_max_length": 77, "do_lower_case": True})


def as_stable_diffusion_2(folder: Path, size: int) -> None:
    as_stable_diffusion_1(folder, size)
    tokens = json.loads((folder / "special_tokens_map.json").read_text())
    write(folder, "special_tokens_map.json", tokens | {"pad_token": "!"})


def as_stable_diffusion_xl(folder: Path, size: int) -> None:
    tokens = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": "!"}
    added = {
        "0": flags("!", normalized=False, special=True),
        str(size - 2): flags(START, special=True),
        str(size - 1): flags(END, special=True),
    }
    write(folder, "special_tokens_map.json", tokens | {"pad_token": flags("!", normalized=False)})
    write(folder, "tokenizer_config.json", tokens | {"added_tokens_decoder": added, "model_max_length": 77})


def with_a_learned_concept(folder: Path, size: int) -> None:
    as_stable_diffusion_1(folder, size)
    write(folder, "added_tokens.json", {"<cat-toy>": size})


def as_transformers_5_saves_it(folder: Path, size: int) -> None:
    as_stable_diffusion_2(folder, size)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    for file in folder.iterdir():
        file.unlink()
    tokenizer.save_pretrained(folder)
    assert {file.name for file in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


def as_transformers_4_saves_it(folder: Path, size: int) -> None:
    as_transformers_5_saves_it(folder, size)
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    saved["model"]["merges"] = [" ".join(merge) for merge in saved["model"]["merges"]]
    write(folder, "tokenizer.json", saved)
    as_stable_diffusion_1(folder, size)


KINDS: list[Callable[[Path, int], None]] = [
    as_stable_diffusion_1,
    as_stable_diffusion_2,
    as_stable_diffusion_xl,
    with_a_learned_concept,
    as_transformers_5_saves_it,
    as_transformers_4_saves_it,
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_clip_vocabulary(WORDS * 3, 900, folder, max_length=77)
    return folder


@pytest.fixture
def folder(vocabulary: Path, tmp_path: Path) -> Path:
    """A folder like Stable Diffusion 1's."""
    return make_folder(vocabulary, tmp_path, as_stable_diffusion_1)


def make_folder(vocabulary: Path, tmp_path: Path, kind: Callable[[Path, int], None]) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(vocabulary / name, folder)
    kind(folder, len(json.loads((folder / "vocab.json").read_text(encoding="utf-8"))))
    return folder


def ids(tokenizer: CLIPTokenizer, texts: list[str]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tokenizer(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_are_those_of_transformers(kind: Callable[[Path, int], None], vocabulary: Path, tmp_path: Path) -> None:
    folder = make_folder(vocabulary, tmp_path, kind)
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = CLIPTokenizer.load(folder)
    texts = prompts()
    assert len(texts) > 2000
    length = theirs.model_max_length
    expected = theirs(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np").input_ids
    actual = ids(ours, texts)
    different = [text for text, same in zip(texts, (actual == expected).all(axis=1), strict=True) if not same]
    assert not different
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id, ours.max_length) == (
        theirs.bos_token_id,
        theirs.eos_token_id,
        theirs.pad_token_id,
        theirs.model_max_length,
    )
    assert ours.vocab_size == len(theirs)


def test_the_comparison_sees_a_wrong_padding_token(vocabulary: Path, tmp_path: Path) -> None:
    """A planted bug: the other family's padding."""
    folder = make_folder(vocabulary, tmp_path, as_stable_diffusion_2)
    expected = ids(CLIPTokenizer.load(folder), prompts())
    as_stable_diffusion_1(folder, 900)
    actual = ids(CLIPTokenizer.load(folder), prompts())
    short = (expected[:, -1] == 0).nonzero()[0]
    assert len(short) > 100
    assert (actual[short] != expected[short]).any(axis=1).all()


def test_ids_are_padded_int32_rows(folder: Path) -> None:
    tokenizer = CLIPTokenizer.load(folder)
    rows = tokenizer(["", "pig"])
    assert rows.shape == (2, 77)
    assert rows.dtype == np.int32
    assert rows[0].tolist() == [tokenizer.bos_token_id, tokenizer.eos_token_id] + [tokenizer.pad_token_id] * 75
    assert tokenizer([]).shape == (0, 77)


def test_a_long_text_keeps_its_end_token_and_says_what_fell_off(folder: Path) -> None:
    tokenizer = CLIPTokenizer.load(folder)
    text = "pig " * 75 + "and an Astronaut, far away"
    with pytest.warns(UserWarning, match="too long.*'and an Astronaut, far away'"):
        row = tokenizer([text])[0]
    assert row[-1] == tokenizer.eos_token_id
    assert tokenizer.truncated(text) == "and an Astronaut, far away"


def test_a_word_cut_in_two_fell_off_as_a_whole(folder: Path) -> None:
    tokenizer = CLIPTokenizer.load(folder)
    assert len(tokenizer([""])[0]) == 77
    assert tokenizer.truncated("pig " * 74 + "zyzzyvaqq 🐷 end") == "zyzzyvaqq 🐷 end"
    assert tokenizer.truncated("a" * 3000) == "a" * 3000
    assert tokenizer.truncated("<|endoftext|>" * 80 + "x") == "<|endoftext|>" * 5 + "x"


def test_a_gap_in_the_ids_counts_in_the_size_of_the_vocabulary(folder: Path) -> None:
    """Or an id would lie outside the text encoder's embedding, which MLX does not notice."""
    path = folder / "vocab.json"
    ids = json.loads(path.read_text(encoding="utf-8"))
    write(folder, "vocab.json", ids | {END: 5000})
    assert CLIPTokenizer.load(folder).vocab_size == 5001


def test_a_text_that_is_not_unicode_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="not valid Unicode"):
        CLIPTokenizer.load(folder)(["flying pig", "caf\udce9"])


def test_a_text_that_fits_exactly_loses_nothing(folder: Path) -> None:
    tokenizer = CLIPTokenizer.load(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(["pig " * 75])
    assert tokenizer.truncated("pig " * 75) == ""
    assert tokenizer.truncated("pig " * 75 + "!") == "!"


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        CLIPTokenizer.load(folder)


@pytest.mark.parametrize("role", ["bos_token", "eos_token", "pad_token", "unk_token"])
def test_a_special_token_that_has_no_id_is_named(folder: Path, role: str) -> None:
    edit(folder, "special_tokens_map.json", **{role: "<nowhere>"})
    with pytest.raises(UserError, match=f"{role} '<nowhere>'"):
        CLIPTokenizer.load(folder)


def edit(folder: Path, name: str, **fields: Any) -> None:
    write(folder, name, json.loads((folder / name).read_text(encoding="utf-8")) | fields)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", b'{"a": 0, "b'),
        ("vocab.json", b""),
        ("vocab.json", b"[]"),
        ("vocab.json", b"\xff\xfe"),
        ("vocab.json", b'{"a": "0"}'),
        ("vocab.json", b'{"a": -1}'),
        ("vocab.json", b'{"a": 1e400}'),
        ("vocab.json", b'{"a": 99999999999999999999999}'),
        ("vocab.json", b"[" * 100_000),
        ("merges.txt", b"#version: 0.2\na b c\n"),
        ("merges.txt", b"#version: 0.2\nnot-in vocabulary\n"),
        ("merges.txt", b"\xff\xfe\n"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b'{"model": {"merges": [["a", 1]], "vocab": {"a": 0}}}'),
        ("tokenizer.json", b'{"model": {"merges": [7], "vocab": {"a": 0}}}'),
        ("tokenizer.json", b'{"model": {"merges": [], "vocab": ["a"]}}'),
        ("tokenizer.json", b'{"model": {"merges": [], "vocab": {"a": 0}}, "added_tokens": [3]}'),
        ("tokenizer_config.json", b"null"),
        ("tokenizer_config.json", b'{"model_max_length": 77, "bos_token": 5}'),
        ("tokenizer_config.json", b'{"model_max_length": 77, "added_tokens_decoder": {"x": {}}}'),
        ("special_tokens_map.json", b"{"),
        ("special_tokens_map.json", b'{"pad_token": ["a"]}'),
        ("special_tokens_map.json", b'{"pad_token": {}}'),
        ("added_tokens.json", b'{"<a>": "b", "<c>": 4}'),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line_that_names_it(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        CLIPTokenizer.load(folder)
    assert "\n" not in str(error.value)
    assert str(folder / name) in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_max_length", None),
        ("model_max_length", "77"),
        ("model_max_length", 2),
        ("model_max_length", 1000000000000000019884624838656),
        ("padding_side", "left"),
        ("truncation_side", "left"),
    ],
)
def test_an_unsupported_field_is_named_with_its_value(folder: Path, field: str, value: object) -> None:
    edit(folder, "tokenizer_config.json", **{field: value})
    with pytest.raises(UserError, match=field) as error:
        CLIPTokenizer.load(folder)
    assert repr(value) in str(error.value)
