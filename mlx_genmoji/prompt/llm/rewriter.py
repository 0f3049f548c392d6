"""The rewriter: a language model, run by mlx-lm, that adds details to a short prompt.

The instructions are the same for every prompt, so they are evaluated once, when the model is loaded, and kept as a
prompt cache; each request continues from a copy of it. A batch of prompts is one batch of requests. Decoding is greedy:
one prompt gives one plan. A grammar (`protocol.grammar`, by llguidance) allows only tokens of a well-formed answer.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...errors import UserError, quoted
from ...models.ops import on_cpu
from ..lexicon import PERSON_TYPES, SKIN_TONES
from ..parser import Parsed, parse
from ..plan import CaptionForm, PromptPlan
from ..safety import is_latin
from .likelihood import Scores, contrast
from .protocol import INSTRUCTIONS, examples, fault, fields_to_ask, grammar, question, read_answer
from .smollm2 import NAME, smollm2_folder

ADAPTER = Path(__file__).parent / "adapter"
"""The adapter that train/recipes/rewriter.yaml trains for SmolLM2; used if it has been put here."""

MAX_TOKENS = 40

MARK = "\u2402"
"""The place of the question in the chat template, where it is cut in two."""


class Rewriter:
    """A language model with its prompt cache. Use `Rewriter.load`. It belongs to the thread that loads it."""

    max_seconds = 60.0
    """The time for eight prompts; fields that the model has not written by then are dropped."""

    copied: frozenset[str] = examples(INSTRUCTIONS)
    """The values in the instructions' examples, which a small model repeats for any subject."""

    def __init__(self, model: Any, tokenizer: Any, instructions: str = INSTRUCTIONS):
        from llguidance.hf import from_tokenizer
        from mlx_lm.models.cache import make_prompt_cache

        self.model = model
        self.tokenizer = tokenizer
        self.copied = examples(instructions)
        content = f"{instructions}\n\n{MARK}".strip()
        if not tokenizer.has_chat_template:
            raise UserError("The language model has no chat template: take one that is tuned to follow instructions.")
        try:
            chat = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        except Exception as error:  # templates are programs and raise any error
            raise UserError(f"The language model's chat template fails: {quoted(error)}") from error
        if chat.count(MARK) != 1:
            raise UserError("The language model's chat template must contain the user's message exactly once.")
        self._head, self._tail = chat.split(MARK)
        self.prefix = tokenizer.encode(self._head, add_special_tokens=False)
        self._cache = make_prompt_cache(model)
        logits = model(mx.array([self.prefix]), cache=self._cache)
        mx.eval(logits, [layer.state for layer in self._cache])
        try:
            self._grammar_tokens = from_tokenizer(
                tokenizer._tokenizer, n_vocab=logits.shape[-1], eos_token=sorted(tokenizer.eos_token_ids)
            )
        except Exception as error:  # llguidance, tokenizers and Python's own each have errors of their own
            raise UserError(
                "The language model's tokenizer is of a kind that llguidance, which keeps answers well formed, cannot"
                f" read ({quoted(error, 80)}): take a model with a byte-level or SentencePiece tokenizer.json."
            ) from error

    @classmethod
    def load(cls, model: str | Path, *, adapter: str | Path | None = None) -> Rewriter:
        """Load `smollm2`, with its adapter if there is one, or any model that mlx-lm loads, by its folder or id.

        adapter: the folder of an mlx-lm adapter; if its adapter_config.json has `instructions`, these replace ours.
        Raises UserError in one sentence if the model cannot be loaded.
        """
        import mlx_lm
        from mlx_lm.tuner.utils import load_adapters
        from mlx_lm.utils import dequantize_model

        instructions = INSTRUCTIONS
        if str(model) == NAME:
            folder = str(smollm2_folder())
            adapter = adapter or (ADAPTER if ADAPTER.exists() else None)
        else:
            folder = str(model)
        try:
            language_model, tokenizer = mlx_lm.load(folder)[:2]
            if on_cpu():
                # Half precision and quantized weights are many times slower in MLX's CPU backend.
                language_model.set_dtype(mx.float32)
                language_model = dequantize_model(language_model)
            if adapter is not None:
                instructions = json.loads((Path(adapter) / "adapter_config.json").read_text()).get(
                    "instructions", instructions
                )
                language_model = _fused(load_adapters(language_model, str(adapter)))
        except Exception as error:  # mlx-lm, transformers and the hub each have errors of their own
            raise UserError(f"The language model {model} cannot be loaded: {quoted(error)}") from error
        language_model.eval()
        mx.eval(language_model.parameters())
        return cls(language_model, tokenizer, instructions)

    def rewrite(
        self,
        prompt: str,
        skin_tone: str | None = None,
        person_type: str | None = None,
        form: CaptionForm | None = None,
    ) -> PromptPlan:
        """The plan of a prompt for a drawing model whose captions have `form`. Raises UserError, UnsafePrompt."""
        return self.rewrite_all([prompt], skin_tone, person_type, form)[0]

    def rewrite_all(
        self,
        prompts: Sequence[str],
        skin_tone: str | None = None,
        person_type: str | None = None,
        form: CaptionForm | None = None,
    ) -> list[PromptPlan]:
        """The plans of several prompts, made in one batch."""
        for name, value, known in (("skin tone", skin_tone, SKIN_TONES), ("person type", person_type, PERSON_TYPES)):
            if value is not None and value not in known:
                raise UserError(f"There is no {name} {value!r}; there are {', '.join(known)}.")
        form = form or CaptionForm()
        read = [parse(prompt) for prompt in prompts]
        for parsed in read:
            if not is_latin(parsed.subject):
                warnings.warn(f"The models read English; they may not understand: {parsed.subject}", stacklevel=2)
        fields = [fields_to_ask(parsed) for parsed in read]
        answers = self._answers([question(*each) for each in zip(read, fields, strict=True)], fields)
        plans = []
        for parsed, names, answer in zip(read, fields, answers, strict=True):
            used, dropped = self._checked(parsed, names, read_answer(answer, names))
            source = "template" if not used else "partial" if dropped else "llm"
            plan = PromptPlan.of(parsed, skin_tone, person_type)
            plan = replace(plan, source=source, dropped={**plan.dropped, **dropped}, **used)
            plans.append(plan.composed(form))
        return plans

    def contrast(self, questions: Sequence[tuple[str, str]], continuations: Sequence[str]) -> tuple[Scores, Scores]:
        """How well each of several continuations suits texts; see `likelihood.contrast`."""
        return contrast(self.model, self.tokenizer, questions, continuations)

    def _checked(
        self, parsed: Parsed, names: Sequence[str], values: Mapping[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The values of an answer to use, by field; and of the other fields the reason why not."""
        used: dict[str, str] = {}
        dropped: dict[str, str] = {}
        for name in names:
            if name not in values:
                dropped[name] = "not written within the token budget"
            elif reason := fault(name, values[name], parsed, used, self.copied):
                dropped[name] = f"{reason}: {values[name]}"
            else:
                used[name] = values[name]
        return used, dropped

    def _answers(self, questions: Sequence[str], fields: Sequence[Sequence[str]]) -> list[str]:
        """The model's answer to each question; "" where no field is asked for."""
        indices = [index for index, names in enumerate(fields) if names]
        outputs = self._generate(
            [self._ids(questions[index]) for index in indices],
            [grammar(fields[index]) for index in indices],
            [self._cache] * len(indices),
        )
        answers = dict(zip(indices, outputs, strict=True))
        return [self.tokenizer.decode(answers.get(index, [])) for index in range(len(questions))]

    def _generate(
        self, prompts: list[list[int]], grammars: Sequence[str], caches: list[list[Any]] | None
    ) -> list[list[int]]:
        """The tokens after each prompt, within the budgets of tokens and time. Copies the caches.

        Some models of mlx-lm (Gemma 2) take no batch: then each prompt is answered alone. Raises UserError where the
        model fails on one prompt.
        """
        if not prompts:
            return []
        try:
            return self._batch(prompts, grammars, caches)
        except (RuntimeError, TypeError, ValueError) as error:
            if len(prompts) == 1:
                raise UserError(f"The language model fails on this prompt: {quoted(error)}") from error
        each = ([cache] for cache in caches) if caches else [None] * len(prompts)
        return [self._generate([ids], [text], c)[0] for ids, text, c in zip(prompts, grammars, each, strict=True)]

    def _batch(
        self, prompts: list[list[int]], grammars: Sequence[str], caches: list[list[Any]] | None
    ) -> list[list[int]]:
        """`_generate` in one batch. Raises what mlx-lm raises."""
        from mlx_lm.generate import BatchGenerator

        generator = BatchGenerator(
            self.model, max_tokens=MAX_TOKENS, stop_tokens=[[token] for token in self.tokenizer.eos_token_ids]
        )
        until = time.monotonic() + self.max_seconds * (1 + len(prompts) // 8)
        try:
            uids = generator.insert(
                prompts,
                caches=caches,
                logits_processors=[[Constraint(self._grammar_tokens, text)] for text in grammars],
            )
            outputs: dict[int, list[int]] = {uid: [] for uid in uids}
            while (responses := generator.next_generated()) and time.monotonic() < until:
                for response in responses:
                    if response.finish_reason != "stop":
                        outputs[response.uid].append(response.token)
        finally:
            generator.close()
        return list(outputs.values())

    def _ids(self, question: str) -> list[int]:
        """The tokens of a question and of the chat template after it."""
        ids = self.tokenizer.encode(question, add_special_tokens=False)
        return [*ids, *self.tokenizer.encode(self._tail, add_special_tokens=False)]


class Constraint:
    """A logits processor that masks all tokens but those that a grammar allows next. One for each request.

    Called with the tokens so far and logits (1, V) before each token, and once more after the last.
    """

    def __init__(self, tokens: Any, text: str):
        from llguidance import LLMatcher

        self._matcher = LLMatcher(tokens, LLMatcher.grammar_from_lark(text), log_level=0)
        self._end = tokens.eos_token
        self._begun = False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._begun and not self._matcher.is_stopped():
            self._matcher.consume_token(int(np.asarray(tokens)[-1]))
        self._begun = True
        if self._matcher.is_stopped():
            # The answer is complete; only the end token is left.
            allowed = np.arange(logits.shape[-1]) == self._end
        else:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[: logits.shape[-1]].astype(bool)
        return mx.where(mx.array(allowed), logits, mx.array(-float("inf"), logits.dtype))


def _fused(model: Any) -> Any:
    """The model with its adapter fused into the weights, if these are not quantized."""
    from mlx.utils import tree_unflatten
    from mlx_lm.tuner.lora import LoRALinear

    if not on_cpu():
        return model
    fused = [(name, module.fuse()) for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    model.update_modules(tree_unflatten(fused))
    return model
