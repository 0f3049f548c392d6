"""CLIP's tokenizer, read from the `tokenizer/` folder of a diffusers checkpoint.

In: captions. Out: int32 ids `(B, max_length)`: start-of-text, the caption, end-of-text, padding. The ids are those of
`transformers.CLIPTokenizer`: Unicode NFC, runs of whitespace as one space, lower case, CLIP's word pattern, then a
byte-level BPE in which the last piece of a word ends in `</w>` (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
OpenAI's original code ran `ftfy` first; neither `transformers.CLIPTokenizer` nor this file does.

The vocabulary, the special tokens, the padding token and the maximum length come from the folder's files:
`tokenizer.json`, or `vocab.json` and `merges.txt`; `tokenizer_config.json`; `special_tokens_map.json`.
"""

from __future__ import annotations

import copy
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import AddedToken, Encoding, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from .errors import UserError, quoted
from .files import read_json

if TYPE_CHECKING:
    from .models.clip import CLIPTextConfig

START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"
END_OF_WORD = "</w>"

WORD_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# In the order in which transformers registers them: if two roles define one token with other flags, the later wins.
_DEFAULT_ROLES: dict[str, str | AddedToken] = {
    "bos_token": START_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "unk_token": END_OF_TEXT,
    "pad_token": END_OF_TEXT,
}

# How the backend knows a learned token; no text has it.
_LEARNED = "<|learned {}|>"

# transformers writes about 1e30 for "no limit"; no text encoder has a million positions.
_MAX_LENGTH = 1_000_000

_NORMALIZER = normalizers.Sequence(
    [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
)
_WORDS = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)


def spaced(text: str) -> str:
    """Put a space between any two of CLIP's words in `text`, which leaves the ids as they are.

    A tokenizer that splits at spaces only, such as Apple's, then gives these ids too.
    """
    return " ".join(word for word, _ in _WORDS.pre_tokenize_str(_NORMALIZER.normalize_str(text)))


def clip_backend(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], unknown_token: str = END_OF_TEXT
) -> Tokenizer:
    """A `tokenizers.Tokenizer` that normalizes and splits text as CLIP does, without special tokens and padding.

    A merge with a token that is not in the vocabulary raises the exception of `tokenizers`.
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
    """Turns captions into ids.

    `max_length` counts the start and the end token; `vocab_size` is the number of rows that an embedding needs.
    """

    def __init__(self, backend: Tokenizer, max_length: int, bos_token: str, eos_token: str, pad_token: str) -> None:
        """`backend` (see `clip_backend`) is changed in place; its vocabulary must hold the three tokens."""
        self.max_length = max_length
        ids = backend.get_vocab()
        # Not the number of tokens: some vocabularies leave out ids.
        self.vocab_size = max(ids.values()) + 1
        self.bos_token_id, self.eos_token_id, self.pad_token_id = ids[bos_token], ids[eos_token], ids[pad_token]
        backend.post_processor = processors.RobertaProcessing(
            (eos_token, self.eos_token_id), (bos_token, self.bos_token_id), trim_offsets=False, add_prefix_space=False
        )
        backend.enable_truncation(max_length)
        backend.enable_padding(length=max_length, pad_id=self.pad_token_id, pad_token=pad_token)
        self._backend = backend
        self._replaced: dict[str, str] = {}
        """What is replaced in texts before they are encoded, in lower case: learned tokens, and words for them."""

    @classmethod
    def load(cls, folder: str | Path) -> CLIPTokenizer:
        """Read a `tokenizer/` folder. Raises UserError, which names the file, if one is missing or invalid."""
        folder = Path(folder)
        config_file = folder / "tokenizer_config.json"
        config = read_json(config_file)
        for side in ("padding_side", "truncation_side"):
            if config.get(side, "right") != "right":
                raise UserError(f"{config_file}: {side} {config[side]!r} is not supported, only 'right'.")
        max_length = config.get("model_max_length")
        if not isinstance(max_length, int) or not 2 < max_length <= _MAX_LENGTH:
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
        tokenizer = cls(backend, max_length, bos_token, eos_token, pad_token)
        # A textual inversion of several vectors, as diffusers saves it: <cat>, <cat>_1, <cat>_2.
        for name in known:
            if f"{name}_1" in known:
                parts = itertools.takewhile(known.__contains__, (f"{name}_{i}" for i in itertools.count(1)))
                tokenizer._replaced[name.lower()] = " ".join((name, *parts))
        return tokenizer

    def with_tokens(self, lengths: Mapping[str, int], aliases: Mapping[str, str]) -> CLIPTokenizer:
        """A tokenizer that gives each of more tokens as many new ids as `lengths` says, from `vocab_size` on, in order.

        aliases: words that are replaced before, such as TOK by <s0><s1>. Upper and lower case are the same in both.
        """
        extended = copy.copy(self)
        extended._backend = Tokenizer.from_str(self._backend.to_str())
        extended._replaced = dict(self._replaced)
        # Ids go on after the number of tokens, and the vocabulary may have left out some before.
        while (free := extended._backend.get_vocab_size()) < self.vocab_size:
            extended._backend.add_tokens([AddedToken(_LEARNED.format(f"unused {free}"), normalized=False)])
        for name, length in lengths.items():
            parts = [_LEARNED.format(extended.vocab_size + i) for i in range(length)]
            extended._backend.add_tokens([AddedToken(part, normalized=False) for part in parts])
            extended._replaced[name.lower()] = " ".join(parts)
            extended.vocab_size += length
        for name, text in aliases.items():
            extended._replaced.setdefault(name.lower(), extended._replace(text))
        return extended

    def check_fit(self, encoder: CLIPTextConfig) -> None:
        """Raise UserError if a text encoder has too few embeddings or positions."""
        for field, needed, limit in (
            ("vocab_size", self.vocab_size, encoder.vocab_size),
            ("max_position_embeddings", self.max_length, encoder.max_position_embeddings),
        ):
            if needed > limit:
                raise UserError(
                    f"The model's parts do not fit: the tokenizer needs a {field} of {needed}, not {limit}."
                )

    def __call__(self, texts: Iterable[str], warn: bool = True) -> np.ndarray:
        """Ids of `texts`, int32 `(B, max_length)`, padded. warn: whether to warn of each text that is too long.

        Raises UserError for a text that is not Unicode, such as a command-line argument in another encoding.
        """
        texts = list(texts)
        encodings = [self._encode(text) for text in texts]
        for text, encoding in zip(texts, encodings, strict=True):
            if warn and (lost := _cut_off(self._replace(text), encoding)):
                warnings.warn(f"The text is too long; the model does not see the end of it: {lost!r}", stacklevel=2)
        return np.array([encoding.ids for encoding in encodings], dtype=np.int32).reshape(-1, self.max_length)

    def words(self, text: str) -> list[int]:
        """The ids of all of `text`, however long, without start, end and padding."""
        first = self._encode(text, special=False)
        parts = (first, *first.overflowing)
        return [i for part in parts for i, real in zip(part.ids, part.attention_mask, strict=True) if real]

    def truncated(self, text: str) -> str:
        """The end of `text` that does not fit into `max_length` ids, from the first incomplete word; "" if all fits."""
        return _cut_off(self._replace(text), self._encode(text))

    def _encode(self, text: str, special: bool = True) -> Encoding:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"The text {text!a} is not valid Unicode; write it in UTF-8.") from None
        return self._backend.encode(self._replace(text), add_special_tokens=special)

    def _replace(self, text: str) -> str:
        """`text` with the names of learned tokens, and words for them, replaced, but not within longer words."""
        if not self._replaced:
            return text
        names = sorted(map(re.escape, self._replaced), key=len, reverse=True)
        pattern = "|".join(
            (r"\b" if re.match(r"\w", name) else "") + name + (r"(?!\w)" if re.search(r"\w$", name) else r"(?!_\d)")
            for name in names
        )
        return re.sub(pattern, lambda match: self._replaced[match[0].lower()], text, flags=re.IGNORECASE)


def read_vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary (token to id) and the merges of a `tokenizer/` folder, in the order in which they apply.

    Raises UserError, which names the file, if one is missing or invalid.
    """
    if (file := folder / "tokenizer.json").is_file():
        model = read_json(file).get("model")
        if not isinstance(model, dict) or not isinstance(model.get("merges"), list):
            raise UserError(f"{file}: there is no BPE model with merges.")
        # Older files hold "a b", newer ones ["a", "b"].
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        return _checked(model.get("vocab"), file, pairs, file)

    vocabulary = read_json(folder / "vocab.json")
    file = folder / "merges.txt"
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{file} is missing; vocab.json needs it.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {quoted(error)}.") from error
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return _checked(vocabulary, folder / "vocab.json", pairs, file)


def _cut_off(text: str, encoding: Encoding) -> str:
    if not encoding.overflowing:
        return ""
    rest = encoding.overflowing[0]
    # Position 0 holds the start token, which is not part of the text.
    cut_word, cut = rest.word_ids[1], rest.offsets[1][0]
    starts = [start for word, (start, _) in zip(encoding.word_ids, encoding.offsets, strict=True) if word == cut_word]
    return text[min([cut, *starts]) :].strip()


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

    The tokenizer recognises these tokens anywhere in a text, also within a word, and gives them their id without
    `</w>`. Stable Diffusion 2 pads with "!", so each "!" in its prompts becomes a padding token.
    """
    config_file = folder / "tokenizer_config.json"
    roles = _DEFAULT_ROLES | _roles(config_file, config)
    if "added_tokens_decoder" in config:
        return roles, _added_tokens(config_file, config["added_tokens_decoder"])

    # transformers before 4.34 wrote these two files, transformers 5 writes the third.
    added: list[AddedToken] = []
    if (file := folder / "special_tokens_map.json").is_file():
        roles |= _roles(file, read_json(file))
    if (file := folder / "added_tokens.json").is_file():
        special = set(map(str, roles.values()))
        ids = {i: {"content": content, "normalized": content not in special} for content, i in read_json(file).items()}
        added += _added_tokens(file, ids)
    if (file := folder / "tokenizer.json").is_file():
        added += [_added_token(file, fields) for fields in read_json(file).get("added_tokens") or []]
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
        raise UserError(f"{file}: a special token must be a string, or an object with its content, not {fields!r:.80}.")
    flags = {flag: bool(fields[flag]) for flag in ("lstrip", "rstrip", "single_word", "normalized") if flag in fields}
    return AddedToken(fields["content"], special=True, **flags)
