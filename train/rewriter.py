"""Rows to tune the prompt rewriter's language model on, and the tuning itself by mlx-lm's own trainer:

    python -m train.rewriter train/recipes/rewriter.yaml [--resume]

writes `data/train.jsonl` and `data/valid.jsonl` into the recipe's folder, rows of a question and the answer to it in
mlx-lm's chat format, trains (`mlx_lm.lora` with the recipe), and leaves the adapter in half precision in `adapter/`.

The subjects and what to add to them are in rewriter-rows.yaml, most of them emojibase's names of emojis and of roles;
what kind of thing a prompt names, and what is left open in it, is read by the rules that read a user's prompt. A
prompt of the evaluation is never among the rows, in whatever order its words are.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from mlx_genmoji.backend import use_fast_cpu
from mlx_genmoji.errors import UserError
from mlx_genmoji.prompt.llm.protocol import answer, fault, fields_to_ask, question, read_answer
from mlx_genmoji.prompt.parser import Parsed, parse

# As a person would name the colours of a picture, in 8 bits of red, green and blue.
COLOURS = (
    ("red", 215, 45, 50), ("orange", 245, 140, 45), ("yellow", 250, 210, 70), ("green", 75, 165, 75),
    ("green", 140, 200, 90), ("green", 45, 115, 70), ("blue", 60, 130, 215), ("blue", 130, 190, 245),
    ("turquoise", 60, 195, 205), ("purple", 140, 85, 195), ("pink", 240, 140, 175), ("brown", 130, 80, 60),
    ("tan", 205, 165, 120), ("black", 45, 42, 50), ("grey", 145, 145, 155), ("white", 238, 236, 240),
)  # fmt: skip
SMALL = set("a an the of in on at to with and".split())


def rows(
    groups: Mapping[str, Any], colours: Mapping[str, str], excluded: set[frozenset[str]]
) -> Iterator[dict[str, Any]]:
    """Questions and answers in mlx-lm's chat format, in an order that stays the same."""
    for parsed, values in examples(groups, colours):
        if words_of(parsed.subject) in excluded:
            continue
        asked = [name for name in fields_to_ask(parsed) if name in values]
        if len(asked) < len(fields_to_ask(parsed)):
            continue
        said = {name: values[name] for name in asked}
        check(said, parsed)
        yield {
            "messages": [
                {"role": "user", "content": question(parsed, asked)},
                {"role": "assistant", "content": answer(said)},
            ]
        }


def examples(tables: Mapping[str, Any], colours: Mapping[str, str]) -> Iterator[tuple[Parsed, dict[str, str]]]:
    for group in tables["groups"]:
        for subject in group["subjects"].split(", "):
            chance = random.Random(zlib.crc32(subject.encode()))
            for prompt in prompts(subject, tables, chance):
                parsed = parse(prompt)
                # What the rules cannot tell by itself, they will not be told when it counts either.
                values = {name: chance.choice(pair) for name, pair in _own(group, subject, colours).items()}
                mood = next((word for word in prompt.split() if word in tables["moods"]), "")
                if mood in tables["poses_of_moods"]:
                    values["pose"] = chance.choice(tables["poses_of_moods"][mood])
                yield parsed, _without_faults(values, parsed)
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for group in tables["groups"]:
        by_kind.setdefault(group["kind"], []).append(group)
    for kind, words in tables["foreign"].items():
        for word in words:
            chance = random.Random(zlib.crc32(word.encode()))
            for prompt in (word, f"{word} mit Hut", f"{word} rojo"):
                parsed = parse(prompt)
                group = chance.choice(by_kind[kind])
                values = {name: chance.choice(pair) for name, pair in _own(group, word, {}).items()}
                yield parsed, _without_faults(values, parsed)


def prompts(subject: str, tables: Mapping[str, Any], chance: random.Random) -> Iterator[str]:
    """The subject alone and with something said about it."""
    yield subject
    yield f"{chance.choice(tables['moods'])} {subject}"
    yield f"{subject} {chance.choice(tables['extras'])}"
    if chance.random() < 0.6:
        yield f"{chance.choice(tables['verbs'])} {subject}"
    if chance.random() < 0.3:
        yield f"{chance.choice(tables['colours'])} {subject}"
    if chance.random() < 0.2 and len(subject) > 5:
        place = chance.randrange(1, len(subject) - 2)
        yield subject[:place] + subject[place + 1] + subject[place] + subject[place + 2 :]


def _own(group: Mapping[str, Any], subject: str, colours: Mapping[str, str]) -> dict[str, list[str]]:
    """The two values of each of the group's fields that are the subject's, and the colours of its picture."""
    own = {}
    for name in ("expression", "pose", "wearing", "holding", "colours"):
        values = group.get(name, [])
        if values:
            first = zlib.crc32(f"{subject} {name}".encode()) % len(values)
            own[name] = [values[first], values[(first + 1) % len(values)]]
    if subject in colours and "colours" in own:
        own["colours"] = [colours[subject]]
    return own


def _without_faults(values: dict[str, str], parsed: Parsed) -> dict[str, str]:
    used: dict[str, str] = {}
    for name in fields_to_ask(parsed):
        if name in values and fault(name, values[name], parsed, used) is None:
            used[name] = values[name]
    return used


def check(said: Mapping[str, str], parsed: Parsed) -> None:
    """Raise UserError where an answer is none that the grammar allows: a table has a word that the lexicon lacks."""
    if wrong := said.keys() - read_answer(answer(said), said).keys():
        name = min(wrong)
        raise UserError(f"{parsed.subject}: {said[name]!r} is no {name} that the grammar knows.")


def words_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower())) - SMALL


def picture_colours(dataset: Path) -> dict[str, str]:
    """The one or two colours that most of each emoji's picture has, by label."""
    from PIL import Image

    table = np.array([values for _, *values in COLOURS], np.float32)
    found = {}
    for line in (dataset / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["skin_tone"]:
            continue
        with Image.open(dataset / row["file_name"]) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((48, 48)), np.float32).reshape(-1, 3)
        drawn = pixels[pixels.min(1) < 246]
        nearest = np.argmin(((drawn[:, None] - table) ** 2).sum(-1), axis=1)
        counted = Counter(COLOURS[index][0] for index in nearest).most_common(2)
        common = [name for name, count in counted if count >= 0.22 * max(len(drawn), 1)]
        if common:
            found[row["label"]] = " and ".join(common)
    return found


def evaluation_prompts(path: Path) -> set[frozenset[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {words_of(text) for line in lines for text in (line.split("\t")[0], parse(line.split("\t")[0]).subject)}


def write_rows(recipe: Mapping[str, Any]) -> int:
    """Write the rows where the recipe wants them, every 20th to validate with; the number of them."""
    tables = yaml.safe_load(Path(recipe["rows"]).read_text(encoding="utf-8"))
    colours = picture_colours(Path(recipe["pictures"]))
    made = list(rows(tables, colours, evaluation_prompts(Path(recipe["excluded"]))))
    unique = list({json.dumps(row, ensure_ascii=False): None for row in made})
    random.Random(recipe["seed"]).shuffle(unique)
    folder = Path(recipe["data"])
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "valid.jsonl", unique[::20])
    _write(folder / "train.jsonl", [row for index, row in enumerate(unique) if index % 20])
    return len(unique)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def resumed(options: Mapping[str, Any]) -> dict[str, Any]:
    """mlx_lm.lora's options to go on from the newest checkpoint with, as they are where there is none.

    A run that goes on writes to a folder of its own, named after the steps before it. The learning rate goes on where
    it was; mlx-lm keeps no state of the optimizer, and the rows are in another order.
    """
    folder, total = Path(options["adapter_path"]), options["iters"]
    found = {
        start + int(file.name.partition("_")[0]): file
        for start, part in ((0, folder), *((int(part.suffix[1:]), part) for part in folder.parent.glob("trained.*")))
        for file in part.glob("*_adapters.safetensors")
    }
    if not found:
        return dict(options)
    done = max(found)
    first, _, last = options["lr_schedule"]["arguments"]
    now = last + (first - last) * (1 + math.cos(math.pi * min(done / total, 1))) / 2
    return {
        **options,
        "resume_adapter_file": str(found[done]),
        "adapter_path": f"{folder}.{done}",
        "iters": total - done,
        "seed": options["seed"] + done,
        "lr_schedule": {"name": "cosine_decay", "arguments": [now, max(total - done, 1), last]},
    }


def train(path: Path, resume: bool = False) -> None:
    """Make the rows, train, and write the adapter in half precision, with what is needed to load it and no more."""
    import mlx.core as mx
    from mlx_lm.convert import convert
    from mlx_lm.lora import CONFIG_DEFAULTS, run

    from mlx_genmoji.prompt.llm.smollm2 import smollm2_folder

    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    print(f"{write_rows(recipe)} rows", flush=True)
    options = CONFIG_DEFAULTS | recipe["mlx_lm"]
    if not Path(options["model"]).exists():
        # Packed weights and half precision are many times slower in MLX's CPU backend.
        convert(str(smollm2_folder()), options["model"], dequantize=True, dtype="float32")
    if resume:
        options = resumed(options)
    newest = options["resume_adapter_file"]
    if options["iters"] > 0:
        run(SimpleNamespace(**options))
        newest = Path(options["adapter_path"]) / "adapters.safetensors"
    adapter = Path(recipe["adapter"])
    adapter.mkdir(parents=True, exist_ok=True)
    weights: Any = mx.load(str(newest))
    half = {name: value.astype(mx.float16) for name, value in weights.items()}
    mx.save_safetensors(str(adapter / "adapters.safetensors"), half)
    kept = {name: options[name] for name in ("fine_tune_type", "num_layers", "lora_parameters")}
    text = json.dumps(kept | {"instructions": recipe["instructions"]}, indent=2)
    (adapter / "adapter_config.json").write_text(f"{text}\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    train(Path(arguments[0]), resume="--resume" in arguments[1:])


if __name__ == "__main__":
    use_fast_cpu()
    main(sys.argv[1:])
