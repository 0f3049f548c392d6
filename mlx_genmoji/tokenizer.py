"""CLIP's tokenizer, read from the `tokenizer/` folder of a diffusers checkpoint.

In: captions. Out: int32 ids `(B, max_length)`: start-of-text, the caption, end-of-text, padding. The ids are those of
`transformers.CLIPTokenizer`: Unicode NFC, runs of whitespace as one space, lower case, CLIP's word pattern, then a
byte-level BPE whose last piece of a word ends in `</w>` (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
`ftfy`, which OpenAI's original code ran first, is used neither there nor here.

Everything else (vocabulary, special tokens, which token pads, how long a caption may be) comes from the folder's files:
`tokenizer.json`, or `vocab.json` and `merges.txt`; `tokenizer_config.json`; `special_tokens_map.json`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Encoding, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from .errors import UserError

START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"
END_OF_WORD = "</w>"

WORD_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# In the order in which transformers registers them: where two roles spell one token differently, the later one counts.
_DEFAULT_ROLES: dict[str, str | AddedToken] = {
    "bos_token": START_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "unk_token": END_OF_TEXT,
    "pad_token": END_OF_TEXT,
}

# transformers writes about 1e30 for "no limit"; no text encoder has this many positions.
_LONGEST_CAPTION = 1_000_000


_NORMALIZER = normalizers.Sequence(
    [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
)
_WORDS = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)


def spaced(text: str) -> str:
    """`text` as CLIP's words with a space between any two: the ids are the same, also by what splits at spaces only."""
    return " ".join(word for word, _ in _WORDS.pre_tokenize_str(_NORMALIZER.normalize_str(text)))


def clip_backend(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], unknown_token: str = END_OF_TEXT
) -> Tokenizer:
    """A bare `tokenizers.Tokenizer` that splits and normalizes text as CLIP does: no special tokens, no padding.

    Raises what `tokenizers` raises when a merge names a token that the vocabulary lacks.
    """
    backend = Tokenizer(
        BPE(
            vocab=dict(vocabulary),
            merges=list(merges),
            end_of_word_suffix=END_OF_WORD,
            continuing_subword_prefix="",
            unk_token=unknown_token,
        )
    )
    backend.normalizer = _NORMALIZER
    backend.pre_tokenizer = pre_tokenizers.Sequence([_WORDS, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return backend


class CLIPTokenizer:
    """Captions to ids. Its `max_length`, `vocab_size` and `*_token_id`s are for reading."""

    def __init__(self, backend: Tokenizer, max_length: int, bos_token: str, eos_token: str, pad_token: str) -> None:
        """Take over `backend` (see `clip_backend`), whose vocabulary holds the three tokens. `load` reads a folder."""
        self.max_length = max_length
        ids = backend.get_vocab()
        # What an embedding needs, even where ids are left out.
        self.vocab_size = max(ids.values()) + 1
        self.bos_token_id, self.eos_token_id, self.pad_token_id = ids[bos_token], ids[eos_token], ids[pad_token]
        backend.post_processor = processors.RobertaProcessing(
            (eos_token, self.eos_token_id), (bos_token, self.bos_token_id), trim_offsets=False, add_prefix_space=False
        )
        backend.enable_truncation(max_length)
        backend.enable_padding(length=max_length, pad_id=self.pad_token_id, pad_token=pad_token)
        self._backend = backend

    @classmethod
    def load(cls, folder: str | Path) -> CLIPTokenizer:
        """Read a `tokenizer/` folder. Raises UserError, naming the file, where one is missing or makes no sense."""
        folder = Path(folder)
        config_file = folder / "tokenizer_config.json"
        config = _read_json(config_file)
        for side in ("padding_side", "truncation_side"):
            if config.get(side, "right") != "right":
                raise UserError(f"{config_file}: {side} {config[side]!r} is not supported, only 'right'.")
        max_length = config.get("model_max_length")
        if not isinstance(max_length, int) or not 2 < max_length <= _LONGEST_CAPTION:
            raise UserError(
                f"{config_file}: model_max_length must be the number of positions of the text encoder"
                f" (77 for Stable Diffusion), not {max_length!r}."
            )

        vocabulary, merges = read_vocabulary(folder)
        roles, added = _special_tokens(folder, config)
        bos_token, eos_token, unk_token, pad_token = map(str, roles.values())
        backend = clip_backend(vocabulary, merges, unk_token)
        backend.add_tokens(added)
        for role, token in roles.items():
            if backend.token_to_id(str(token)) is None:
                raise UserError(f"{folder}: the {role} {str(token)!r} is neither in the vocabulary nor added to it.")
        known = {token.content for token in added}
        special = [token for token in roles.values() if str(token) not in known]
        backend.add_tokens([AddedToken(t, special=True) if isinstance(t, str) else t for t in special])
        return cls(backend, max_length, bos_token, eos_token, pad_token)

    def __call__(self, texts: Iterable[str]) -> np.ndarray:
        """Ids of `texts`, int32 `(B, max_length)`, padded. Warns of each text that is too long, with what fell off.

        Raises UserError for a text that is no Unicode, such as a command-line argument in another encoding.
        """
        texts = list(texts)
        encodings = [self._encode(text) for text in texts]
        for text, encoding in zip(texts, encodings, strict=True):
            if lost := _fell_off(text, encoding):
                warnings.warn(f"The text is too long; the model does not see the end of it: {lost!r}", stacklevel=2)
        return np.array([encoding.ids for encoding in encodings], dtype=np.int32).reshape(-1, self.max_length)

    def truncated(self, text: str) -> str:
        """The end of `text` that does not fit into `max_length` ids, from its first word not whole; "" if all fits."""
        return _fell_off(text, self._encode(text))

    def _encode(self, text: str) -> Encoding:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"The text {text!a} is not valid Unicode; write it in UTF-8.") from None
        return self._backend.encode(text)


def read_vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The ids by token of a `tokenizer/` folder, and the merges, the first to apply first. Raises UserError."""
    if (file := folder / "tokenizer.json").is_file():
        model = _read_json(file).get("model")
        if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
            raise UserError(f"{file}: has no BPE model with merges.")
        # Older files hold "a b", newer ones ["a", "b"].
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        return _checked(model.get("vocab"), file, pairs, file)

    vocabulary = _read_json(folder / "vocab.json")
    file = folder / "merges.txt"
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; it belongs beside vocab.json.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {_one_line(error)}.") from error
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return _checked(vocabulary, folder / "vocab.json", pairs, file)


def _fell_off(text: str, encoding: Encoding) -> str:
    if not encoding.overflowing:
        return ""
    rest = encoding.overflowing[0]
    # Position 0 holds the start token, which is no part of the text.
    cut_word, cut = rest.word_ids[1], rest.offsets[1][0]
    starts = [start for word, (start, _) in zip(encoding.word_ids, encoding.offsets, strict=True) if word == cut_word]
    return text[min([cut, *starts]) :].strip()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; is this the tokenizer folder of a diffusers model?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as JSON: {_one_line(error)}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(content).__name__}.")
    return content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _checked(
    vocabulary: Any, vocabulary_file: Path, pairs: list[Any], merges_file: Path
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    if not isinstance(vocabulary, dict) or not all(type(i) is int and 0 <= i < 2**31 for i in vocabulary.values()):
        raise UserError(f"{vocabulary_file}: the vocabulary must give each token its id.")
    merges = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(token, str) for token in pair):
            raise UserError(f"{merges_file}: a merge must be two tokens, not {str(pair)[:80]!r}.")
        left, right = pair
        if not (left in vocabulary and right in vocabulary and left + right in vocabulary):
            raise UserError(
                f"{merges_file}: the merge {' '.join(pair)[:80]!r} needs a token that the vocabulary lacks."
            )
        merges.append((left, right))
    return vocabulary, merges


def _special_tokens(folder: Path, config: dict[str, Any]) -> tuple[dict[str, str | AddedToken], list[AddedToken]]:
    """The token of each role, and the tokens that the files add to the vocabulary, in the order of their ids.

    All of them are found wherever they stand in a text and get their own id, without `</w>`. So does every "!" in a
    prompt for Stable Diffusion 2, which pads with it.
    """
    config_file = folder / "tokenizer_config.json"
    roles = _DEFAULT_ROLES | _roles(config_file, config)
    if "added_tokens_decoder" in config:
        return roles, _added_tokens(config_file, config["added_tokens_decoder"])

    # transformers before 4.34 wrote these two files, transformers 5 writes the third.
    added: list[AddedToken] = []
    if (file := folder / "special_tokens_map.json").is_file():
        roles |= _roles(file, _read_json(file))
    if (file := folder / "added_tokens.json").is_file():
        special = set(map(str, roles.values()))
        ids = {i: {"content": content, "normalized": content not in special} for content, i in _read_json(file).items()}
        added += _added_tokens(file, ids)
    if (file := folder / "tokenizer.json").is_file():
        added += [_added_token(file, fields) for fields in _read_json(file).get("added_tokens") or []]
    return roles, added


def _roles(file: Path, fields: dict[str, Any]) -> dict[str, str | AddedToken]:
    named = {role: fields[role] for role in _DEFAULT_ROLES if fields.get(role) not in (None, "")}
    return {role: token if isinstance(token, str) else _added_token(file, token) for role, token in named.items()}


def _added_tokens(file: Path, fields_by_id: Any) -> list[AddedToken]:
    try:
        in_order = sorted(fields_by_id.items(), key=lambda item: int(item[0]))
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{file}: the ids of the added tokens must be numbers.") from None
    return [_added_token(file, fields) for _, fields in in_order]


def _added_token(file: Path, fields: Any) -> AddedToken:
    if not isinstance(fields, dict) or not isinstance(fields.get("content"), str) or not fields["content"]:
        raise UserError(f"{file}: a special token must be a text, or an object with its content, not {fields!r:.80}.")
    flags = {flag: bool(fields[flag]) for flag in ("lstrip", "rstrip", "single_word", "normalized") if flag in fields}
    return AddedToken(fields["content"], special=True, **flags)
