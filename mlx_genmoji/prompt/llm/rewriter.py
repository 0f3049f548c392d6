"""The rewriter: a language model of mlx-lm's that fills in what a short prompt leaves open.

The instructions are the same for every prompt, so they are read once, when the model is loaded, and kept as a prompt
cache; each request goes on from a copy of it. A batch of prompts is one batch of requests. Greedy: one prompt gives one
plan. A grammar (`request.grammar`, by llguidance) leaves only tokens that lead to a well-formed answer.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...errors import UserError, quoted
from ...models.ops import on_cpu
from ..lexicon import PERSON_TYPES, SKIN_TONES
from ..parser import parse
from ..plan import CaptionForm, PromptPlan
from ..safety import is_latin
from .protocol import INSTRUCTIONS, examples, fault, fields_to_ask, grammar, question, read_answer
from .smollm2 import NAME, smollm2_folder

ADAPTER = Path(__file__).parent / "adapter"
"""What tunes SmolLM2 to the task, where train/recipes/rewriter.yaml has been carried out and its adapter put here."""

MOST_TOKENS = 40

MARK = "\u2402"
"""Stands for the question where the chat template is cut in two."""


class Rewriter:
    """A language model with the instructions read. Use `Rewriter.load`. It belongs to the thread that loads it."""

    most_seconds = 60.0
    """For eight prompts; what is not said by then is left out."""

    copied: frozenset[str] = examples(INSTRUCTIONS)
    """What a small model repeats from its instructions, whatever the subject."""

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
        except Exception as error:  # templates are programs, and raise what they like
            raise UserError(f"The language model's chat template fails: {quoted(error)}") from error
        if chat.count(MARK) != 1:
            raise UserError("The language model's chat template does not say what it is asked exactly once.")
        self._head, self._tail = chat.split(MARK)
        self.prefix = tokenizer.encode(self._head, add_special_tokens=False)
        self._cache = make_prompt_cache(model)
        logits = model(mx.array([self.prefix]), cache=self._cache)
        mx.eval(logits, [layer.state for layer in self._cache])
        self._grammar_tokens = from_tokenizer(
            tokenizer._tokenizer, n_vocab=logits.shape[-1], eos_token=sorted(tokenizer.eos_token_ids)
        )

    @classmethod
    def load(cls, model: str | Path, *, adapter: str | Path | None = None) -> Rewriter:
        """Load `smollm2`, with what it was tuned with, or any model of mlx-lm's by its folder or id.

        adapter: the folder of an mlx-lm adapter; its own `instructions`, where adapter_config.json has some, take the
        place of ours. Raises UserError in one sentence where there is no such model.
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
                # Half precision and packed weights are many times slower in MLX's CPU backend.
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
        """The plan of a prompt, for a drawing model with captions of `form`. Raises UserError, UnsafePrompt."""
        return self.rewrite_all([prompt], skin_tone, person_type, form)[0]

    def rewrite_all(
        self,
        prompts: Sequence[str],
        skin_tone: str | None = None,
        person_type: str | None = None,
        form: CaptionForm | None = None,
    ) -> list[PromptPlan]:
        """The plans of several prompts, made in one batch."""
        for what, value, known in (("skin tone", skin_tone, SKIN_TONES), ("person type", person_type, PERSON_TYPES)):
            if value is not None and value not in known:
                raise UserError(f"There is no {what} {value!r}; there are {', '.join(known)}.")
        form = form or CaptionForm()
        read = [parse(prompt) for prompt in prompts]
        for parsed in read:
            if not is_latin(parsed.subject):
                warnings.warn(f"The models read English; they may not understand: {parsed.subject}", stacklevel=2)
        asked = [fields_to_ask(parsed) for parsed in read]
        answers = self._answers([question(*each) for each in zip(read, asked, strict=True)], asked)
        plans = []
        for parsed, names, answer in zip(read, asked, answers, strict=True):
            used: dict[str, str] = {}
            dropped: dict[str, str] = {}
            said = read_answer(answer, names)
            for name in names:
                why = (
                    fault(name, said[name], parsed, used, self.copied)
                    if name in said
                    else "not said within the token budget"
                )
                if why is None:
                    used[name] = said[name]
                else:
                    dropped[name] = f"{why}: {said[name]}" if name in said else why
            source = "template" if not used else "partial" if dropped else "llm"
            plan = PromptPlan.of(parsed, skin_tone, person_type)
            plan = replace(plan, source=source, dropped={**plan.dropped, **dropped}, **used)
            plans.append(plan.composed(form))
        return plans

    def _answers(self, questions: Sequence[str], asked: Sequence[Sequence[str]]) -> list[str]:
        """What the model says to each question, where something is asked for."""
        todo = [index for index, names in enumerate(asked) if names]
        said = self._generate(
            [self._ids(questions[index]) for index in todo],
            [grammar(asked[index]) for index in todo],
            [self._cache] * len(todo),
        )
        answers = dict(zip(todo, said, strict=True))
        return [self.tokenizer.decode(answers.get(index, [])) for index in range(len(questions))]

    def _generate(
        self, prompts: list[list[int]], grammars: Sequence[str], caches: list[list[Any]] | None
    ) -> list[list[int]]:
        """The tokens that follow each prompt, up to the budgets of tokens and time. Caches are copied, not changed."""
        from mlx_lm.generate import BatchGenerator

        if not prompts:
            return []
        generator = BatchGenerator(
            self.model, max_tokens=MOST_TOKENS, stop_tokens=[[token] for token in self.tokenizer.eos_token_ids]
        )
        until = time.monotonic() + self.most_seconds * (1 + len(prompts) // 8)
        try:
            uids = generator.insert(
                prompts,
                caches=caches,
                logits_processors=[[Constraint(self._grammar_tokens, text)] for text in grammars],
            )
            said: dict[int, list[int]] = {uid: [] for uid in uids}
            while (responses := generator.next_generated()) and time.monotonic() < until:
                for response in responses:
                    if response.finish_reason != "stop":
                        said[response.uid].append(response.token)
        finally:
            generator.close()
        return list(said.values())

    def _ids(self, asked: str) -> list[int]:
        """The tokens of a question and of what the chat template has after it."""
        words = self.tokenizer.encode(asked, add_special_tokens=False)
        return [*words, *self.tokenizer.encode(self._tail, add_special_tokens=False)]


class Constraint:
    """A logits processor that leaves only the tokens that a grammar allows next. One for each request.

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
            # Nothing can follow, which the model has yet to say.
            allowed = np.arange(logits.shape[-1]) == self._end
        else:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[: logits.shape[-1]].astype(bool)
        return mx.where(mx.array(allowed), logits, mx.array(-float("inf"), logits.dtype))


def _fused(model: Any) -> Any:
    """The model with its adapter added to the weights, where these are not packed."""
    from mlx.utils import tree_unflatten
    from mlx_lm.tuner.lora import LoRALinear

    if not on_cpu():
        return model
    fused = [(name, module.fuse()) for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    model.update_modules(tree_unflatten(fused))
    return model
