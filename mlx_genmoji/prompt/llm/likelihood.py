"""How likely a language model finds each of several continuations of a text.

The continuations are a closed list, so that nothing else can be chosen: a grammar of one rule. Their likelihoods are
compared with those after a neutral text, for a small model likes common words whatever it is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

MAX_SCORED = 24
"""Continuations of which all tokens are scored; the others fall behind by their first token."""

NEUTRAL_WEIGHT = 0.7
"""How much of a continuation's likelihood after the neutral texts is subtracted. At 1, rare words win too often."""

Scores = NDArray[np.float32]


def contrast(
    model: Any, tokenizer: Any, questions: Sequence[tuple[str, str]], continuations: Sequence[str]
) -> tuple[Scores, Scores]:
    """Two numbers for each continuation, in nats: how much likelier it is after a text than after a neutral one, and
    its score, which also counts how likely it is at all. Both are -inf for those that fell behind.

    questions: pairs of a text and a neutral text; the numbers are means over them.
    """
    tokens = [tokenizer.encode(f" {words}", add_special_tokens=False) for words in continuations]
    starts = np.array([ids[0] for ids in tokens])
    pairs = [[_Context(model, tokenizer.encode(text)) for text in pair] for pair in questions]
    lead = np.mean([text.first[starts] - NEUTRAL_WEIGHT * neutral.first[starts] for text, neutral in pairs], axis=0)
    kept = np.argsort(-lead, kind="stable")[:MAX_SCORED]
    chosen = [tokens[i] for i in kept]
    likelihoods = np.mean([[context.likelihoods(chosen) for context in pair] for pair in pairs], axis=0)
    gain, score = np.full((2, len(tokens)), -np.inf, np.float32)
    gain[kept] = likelihoods[0] - likelihoods[1]
    score[kept] = likelihoods[0] - NEUTRAL_WEIGHT * likelihoods[1]
    return gain, score


class _Context:
    """A text that a model has read once, for several continuations."""

    def __init__(self, model: Any, ids: Sequence[int]):
        from mlx_lm.models.cache import KVCache, make_prompt_cache

        self._model, self._ids = model, list(ids)
        cache = make_prompt_cache(model)
        self.first = _log_softmax(model(mx.array([self._ids]), cache=cache)[0, -1])
        """The log likelihood of each token after the text."""
        # Other caches than of keys and values cannot be repeated for a batch: the text is then read again.
        self._cache = cache if all(type(layer) is KVCache for layer in cache) else None

    def likelihoods(self, tokens: Sequence[list[int]]) -> Scores:
        """The log likelihood of each list of tokens after the text."""
        sums = np.array([self.first[ids[0]] for ids in tokens], np.float32)
        longer = [row for row, ids in enumerate(tokens) if len(ids) > 1]
        if longer:
            logs = self._logs([tokens[row] for row in longer])
            for place, row in enumerate(longer):
                sums[row] += logs[place, range(len(tokens[row]) - 1), tokens[row][1:]].sum()
        return sums

    def _logs(self, tokens: Sequence[list[int]]) -> Scores:
        """The log likelihoods of the next token after each of `tokens`, (rows, tokens, vocabulary)."""
        longest = max(map(len, tokens))
        # What stands after a continuation does not change its likelihood.
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in tokens]
        if self._cache is None:
            logits = self._model(mx.array([[*self._ids, *ids] for ids in padded]))[:, len(self._ids) :]
        else:
            logits = self._model(mx.array(padded), cache=[_repeated(layer, len(padded)) for layer in self._cache])
        return _log_softmax(logits)


def _repeated(layer: Any, count: int) -> Any:
    """A layer's cache of one text for a batch of `count`."""
    from mlx_lm.models.cache import KVCache

    repeated = KVCache()
    keys, values = layer.keys[..., : layer.offset, :], layer.values[..., : layer.offset, :]
    repeated.keys, repeated.values = (mx.repeat(part, count, axis=0) for part in (keys, values))
    repeated.offset = layer.offset
    return repeated


def _log_softmax(logits: mx.array) -> Scores:
    logits = logits.astype(mx.float32)
    return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
