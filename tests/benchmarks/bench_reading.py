"""Measures how prompts are read for the built-in model: the captions and notes of 160 prompts, and the time it takes.

`prompts.tsv` holds 160 prompts such as people type for a genmoji. `draw_prompts.py` draws them into sheets, which were
judged by eye (`prompts-results.tsv`).
"""

from __future__ import annotations

import csv
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import fast_cpu  # noqa: F401
from row import Row

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.english import plural
from mlx_genmoji.reader import Options, Reading
from mlx_genmoji.reader.closed_form import ClosedReader
from mlx_genmoji.reader.lexicon import rows as table

FOLDER = Path(__file__).parent
PROMPTS, RESULTS = FOLDER / "prompts.tsv", FOLDER / "prompts-results.tsv"

MADE_UP = 10_000
WORDINGS = ("a {}", "the {}", "my {}", "cute {}", "draw a {}", "{} emoji", "{}.", "{plural}", "{upper}", "{} please")
LABELS = (
    " cat dog pig apple rocket sun octopus pizza crown cactus balloon guitar penguin rainbow strawberry robot"
    " ghost alien bicycle umbrella avocado mushroom unicorn turtle hamburger rose snowman whale fox banana lion"
    " taxi cookie bee violin camera broccoli owl candle frog"
).split()
UNKNOWN = "wug blicket dax zorp fendle".split()


def rows() -> Iterator[Row]:
    reader = Genmoji.load()._reader
    assert isinstance(reader, ClosedReader)
    prompts = read_prompts()
    made_up = list(made_up_prompts())
    untrained, unsaid = 0, 0
    for prompt in (*prompts, *made_up):
        reading = read(reader, prompt)
        if isinstance(reading, Reading):
            untrained += sum(not reader.vocabulary.knows(caption) for caption in captions(reading))
            said = " ".join(reading.notes)
            # What a prompt denies is left out as it asks.
            denied = set(prompt.split()) & {"no", "without", "not"}
            unsaid += not denied and any(word in prompt.split() and word not in said for word in UNKNOWN)
    yield Row(
        "drawn captions that the model was not trained on",
        "0",
        str(untrained),
        untrained == 0,
        f"{len(prompts)} + {MADE_UP:,} prompts",
    )
    yield Row("made-up prompts with an unknown word and no note", "0", str(unsaid), unsaid == 0, f"{MADE_UP:,} prompts")

    right = {wording: sum(is_plain(reader, wording, label) for label in LABELS) for wording in WORDINGS}
    worst = min(right, key=lambda wording: right[wording])
    yield Row(
        f"{len(LABELS)} labels in {len(WORDINGS)} wordings: drawn from the label's own caption",
        f"{len(LABELS)} of {len(LABELS)} each",
        f"{right[worst]} of {len(LABELS)} in the worst",
        right[worst] == len(LABELS),
        "" if right[worst] == len(LABELS) else worst,
    )
    seconds = []
    for prompt in prompts:
        started = time.perf_counter()
        read(reader, prompt)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds) * 1000
    yield Row(
        "reading a prompt, warm", "2 ms", f"{median:.2f} ms", median <= 2, f"the slowest {max(seconds) * 1000:.1f} ms"
    )
    if RESULTS.exists():
        yield judged()


def judged() -> Row:
    """The verdicts of the judgement by eye."""
    with RESULTS.open(encoding="utf-8") as file:
        verdicts = [row["verdict"] for row in csv.DictReader(file, delimiter="\t")]
    good = sum(verdict in ("good", "recognisable") for verdict in verdicts) / len(verdicts)
    garbage = verdicts.count("garbage")
    return Row(
        "prompts.tsv judged by eye: good or recognisable",
        "80 %, garbage 0",
        f"{good:.0%}, garbage {garbage}",
        good >= 0.8 and garbage == 0,
        f"{len(verdicts)} prompts",
    )


def read_prompts() -> list[str]:
    """The prompts of `prompts.tsv`."""
    lines = [line for line in PROMPTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [row["prompt"] for row in csv.DictReader(lines, delimiter="\t")]


def made_up_prompts() -> Iterator[str]:
    """Random prompts: words of the reader's tables, labels and unknown words, in random order."""
    rng = random.Random(7)
    nouns = [row[0] for row in table("nouns.tsv")] + LABELS
    adjectives = [row[0] for name in ("moods.tsv", "looks.tsv", "roles.tsv") for row in table(name)] or ["happy"]
    joints = [row[0] for name in ("verbs.tsv", "relations.tsv", "places.tsv") for row in table(name)]
    for _ in range(MADE_UP):
        words = []
        for _ in range(rng.randint(1, 3)):
            words += [*rng.sample(adjectives, rng.randint(0, 2)), rng.choice(nouns)]
            words += [rng.choice(UNKNOWN)] * (rng.random() < 0.1)
            words += [rng.choice(joints)] * (rng.random() < 0.6)
        yield " ".join(words)


def read(reader: ClosedReader, prompt: str) -> Reading | str:
    """The reading of a prompt, or the message of the error that refuses it."""
    try:
        return reader.read(prompt, Options())
    except UserError as error:
        return str(error)


def captions(reading: Reading) -> list[str]:
    """The captions that reach the text encoder."""
    combination = reading.combination
    return [reading.final_prompt] if combination is None else [part.text for part in combination.parts]


def is_plain(reader: ClosedReader, wording: str, label: str) -> bool:
    """Whether a wording of a label is read as exactly that label, without a note."""
    reading = read(reader, wording.format(label, plural=plural(label), upper=label.upper()))
    own = reader.read(label, Options())
    return isinstance(reading, Reading) and captions(reading) == captions(own) and not reading.notes


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
