"""Rows of questions and answers, in mlx-lm's chat format, for tuning the prompt rewriter's language model.

The subjects and what can be added to them are in rewriter-rows.yaml; most are emojibase's names of emojis and of roles.
The rules that read a user's prompt tell the kind of each subject and which of its fields are open. A prompt of the
evaluation is never among the rows, whatever the order of its words.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mlx_genmoji.dataset import read_rows
from mlx_genmoji.errors import UserError
from mlx_genmoji.pictures import decode
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
        names = [name for name in fields_to_ask(parsed) if name in values]
        if len(names) < len(fields_to_ask(parsed)):
            continue
        answers = {name: values[name] for name in names}
        check(answers, parsed)
        yield {
            "messages": [
                {"role": "user", "content": question(parsed, names)},
                {"role": "assistant", "content": answer(answers)},
            ]
        }


def examples(tables: Mapping[str, Any], colours: Mapping[str, str]) -> Iterator[tuple[Parsed, dict[str, str]]]:
    for group in tables["groups"]:
        for subject in group["subjects"].split(", "):
            chance = random.Random(zlib.crc32(subject.encode()))
            for prompt in prompts(subject, tables, chance):
                parsed = parse(prompt)
                values = {name: chance.choice(pair) for name, pair in _field_values(group, subject, colours).items()}
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
                values = {name: chance.choice(pair) for name, pair in _field_values(group, word, {}).items()}
                yield parsed, _without_faults(values, parsed)


def prompts(subject: str, tables: Mapping[str, Any], chance: random.Random) -> Iterator[str]:
    """The subject alone, and with a mood, a verb, a colour, an addition or a typing error."""
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


def _field_values(group: Mapping[str, Any], subject: str, colours: Mapping[str, str]) -> dict[str, list[str]]:
    """Two values for each of the group's fields, chosen by the subject; the colours are those of its picture."""
    fields = {}
    for name in ("expression", "pose", "wearing", "holding", "colours"):
        values = group.get(name, [])
        if values:
            first = zlib.crc32(f"{subject} {name}".encode()) % len(values)
            fields[name] = [values[first], values[(first + 1) % len(values)]]
    if subject in colours and "colours" in fields:
        fields["colours"] = [colours[subject]]
    return fields


def _without_faults(values: dict[str, str], parsed: Parsed) -> dict[str, str]:
    used: dict[str, str] = {}
    for name in fields_to_ask(parsed):
        if name in values and fault(name, values[name], parsed, used) is None:
            used[name] = values[name]
    return used


def check(answers: Mapping[str, str], parsed: Parsed) -> None:
    """Raise UserError for an answer that the grammar does not allow: a table has a word that the lexicon lacks."""
    if wrong := answers.keys() - read_answer(answer(answers), answers).keys():
        name = min(wrong)
        raise UserError(f"{parsed.subject}: {answers[name]!r} is no {name} that the grammar knows.")


def words_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower())) - SMALL


def picture_colours(dataset: Path) -> dict[str, str]:
    """The one or two colours that most of each emoji's picture has, by label."""
    table = np.array([values for _, *values in COLOURS], np.float32)
    colours = {}
    for row in read_rows(dataset):
        if row["skin_tone"]:
            continue
        picture = decode(dataset / row["file_name"]).convert("RGB")
        pixels = np.asarray(picture.resize((48, 48)), np.float32).reshape(-1, 3)
        drawn = pixels[pixels.min(1) < 246]
        nearest = np.argmin(((drawn[:, None] - table) ** 2).sum(-1), axis=1)
        counted = Counter(COLOURS[index][0] for index in nearest).most_common(2)
        common = [name for name, count in counted if count >= 0.22 * max(len(drawn), 1)]
        if common:
            colours[row["label"]] = " and ".join(common)
    return colours


def evaluation_prompts(path: Path) -> set[frozenset[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {words_of(text) for line in lines for text in (line.split("\t")[0], parse(line.split("\t")[0]).subject)}


def write_rows(tables: Path, pictures: Path, excluded: Path, seed: int, folder: Path) -> int:
    """Write `folder/train.jsonl` and `folder/valid.jsonl`, every 20th row for validation; returns their number.

    tables: see `rewriter-rows.yaml`. pictures: a dataset, whose pictures' colours answer the question for colours.
    excluded: the prompts of the evaluation, one in the first column of each line.
    """
    groups = yaml.safe_load(tables.read_text(encoding="utf-8"))
    made = rows(groups, picture_colours(pictures), evaluation_prompts(excluded))
    unique = list({json.dumps(row, ensure_ascii=False): None for row in made})
    random.Random(seed).shuffle(unique)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "valid.jsonl", unique[::20])
    _write(folder / "train.jsonl", [row for index, row in enumerate(unique) if index % 20])
    return len(unique)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
