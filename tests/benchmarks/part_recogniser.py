"""A recogniser of what compositions are put together of, taught by drawings of vendors whose emoji no model here saw.

    python tests/benchmarks/part_recogniser.py [DATA]     # DATA holds fluent/ and noto/; teaches it

In: pictures of any size. Out: a score for each label: the names that compositions have for what vendors draw, and for
what is done with it (wings, a hat, two, blue, sad).

It is taught by the same vendors and with the same frozen network as `recogniser.py`, but by compositions of their
drawings, put together by the rules of `scrape.compose`, and by their plain drawings: two labels a picture, or one. A
perceptron with one hidden layer learns them from the network's features, each picture's labels sharing its probability.

A composition is found where both its labels are among the `TOP` that score highest, of all that there are. `TOP` was
set before a picture of Noto, of Fluent or of a model was judged. What is learned is cached, for exactly this file,
`recogniser.py`, the rules and the icons, along with how many compositions of a vendor are found when the recogniser is
taught without this vendor.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import recogniser
import torch
import torch.nn.functional as F
from PIL import Image
from recogniser import CACHE, IMAGENET_MEAN, IMAGENET_STD, SVG, VENDORS, Backbone, centred, distorted, icons_of
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

import scrape
from scrape.compose import Composer
from scrape.compose.names import name_of

TOP = 5
SEED = 0
COMPOSITIONS = 24_000
BATCH = 64

HIDDEN, DROPOUT = 1024, 0.3
EPOCHS, MINIBATCH, LEARNING_RATE, WEIGHT_DECAY = 14, 256, 2e-3, 0.05

# Taught without it once, to see how much of another hand's drawings is found.
HELD_OUT_VENDOR = "twemoji"

RULES = sorted((Path(scrape.__file__).parent / "compose").glob("*.*"))


@dataclass(frozen=True)
class Lessons:
    """Features `(N, D)`, the numbers of each picture's two labels `(N, 2)` (twice the same where it has one), and its
    vendor.
    """

    features: Tensor
    labels: Tensor
    vendors: np.ndarray

    def only(self, chosen: np.ndarray) -> Lessons:
        index = torch.from_numpy(chosen)
        return Lessons(self.features[index], self.labels[index], self.vendors[chosen])


class Features(Backbone):
    """Pictures `(N, 3, 128, 128)` in [0, 1] -> features `(N, D)` that keep apart what is in different places."""

    def _features(self, pictures: Tensor) -> Tensor:
        network = self._network
        x = ((pictures - IMAGENET_MEAN) / IMAGENET_STD).contiguous(memory_format=torch.channels_last)
        x = network._swish(network._bn0(network._conv_stem(x)))
        features = [F.adaptive_avg_pool2d(pictures, 6)]
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in (4, 10):
                features.append(F.adaptive_avg_pool2d(x, 4))
        x = network._swish(network._bn1(network._conv_head(x)))
        features += [x.mean((2, 3)), x.amax((2, 3))]
        return torch.cat([feature.flatten(1) for feature in features], dim=1)


class PartRecogniser:
    """Names the parts of compositions. `held_out` is the share of `HELD_OUT_VENDOR`'s compositions that were found when
    it was taught by the others; `cpu_minutes` what teaching took.
    """

    def __init__(self, labels: Sequence[str], tensors: Mapping[str, Tensor], held_out: float, cpu_minutes: float):
        self.labels = list(labels)
        self.held_out = held_out
        self.cpu_minutes = cpu_minutes
        self._tensors = tensors
        self._features = Features()

    @classmethod
    def load(cls, data: Path) -> PartRecogniser:
        """The recogniser of the labels in `data`, taught now if the cache has none for these files and icons."""
        icons = icons_of(data)
        files = [Path(__file__), Path(recogniser.__file__), *RULES]
        known = b"".join(path.read_bytes() for path in files) + json.dumps(icons).encode()
        path = CACHE / f"parts-{hashlib.sha256(known).hexdigest()[:16]}.safetensors"
        if not path.exists():
            cls.teach(icons, data).save(path)
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return cls(json.loads(facts["labels"]), tensors, float(facts["held_out"]), float(facts["cpu_minutes"]))

    @classmethod
    def teach(cls, icons: dict[str, dict[str, str]], data: Path) -> PartRecogniser:
        begun = time.process_time()
        torch.manual_seed(SEED)
        names, lessons = lessons_of(icons, data)
        others = lessons.vendors != HELD_OUT_VENDOR
        first = fit(lessons.only(others), len(names))
        # Only what the others draw too can be known, and only compositions have two labels.
        seen = torch.isin(lessons.labels, lessons.labels[torch.from_numpy(others)]).all(1).numpy()
        two = (lessons.labels[:, 0] != lessons.labels[:, 1]).numpy()
        judged = lessons.only(~others & seen & two)
        held_out = found(scores(first, judged.features), judged.labels).float().mean().item()
        return cls(names, fit(lessons, len(names)), held_out, (time.process_time() - begun) / 60)

    def save(self, path: Path) -> None:
        facts = {
            "labels": json.dumps(self.labels),
            "held_out": str(self.held_out),
            "cpu_minutes": str(self.cpu_minutes),
        }
        part = path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in self._tensors.items()}, part, facts)
        os.replace(part, path)

    def top(self, count: int, pictures: Sequence[Image.Image]) -> list[list[str]]:
        """The `count` likeliest labels of each picture (RGB, on white), the likeliest first."""
        features = self._features.features(torch.stack([centred(picture) for picture in pictures]))
        best = scores(self._tensors, features).topk(count, dim=1).indices
        return [[self.labels[index] for index in row] for row in best.tolist()]


def lessons_of(icons: dict[str, dict[str, str]], data: Path) -> tuple[list[str], Lessons]:
    """What is learned from: the labels there are, `COMPOSITIONS` compositions, and every plain drawing."""
    backbone, random = Features(), torch.Generator().manual_seed(SEED)
    drawings = recogniser.draw(icons)
    with tempfile.TemporaryDirectory() as folder:
        composer = Composer(write_datasets(icons, data, Path(folder)), recogniser.SIZE, SEED)
        plans = [composer.plan(index) for index in range(COMPOSITIONS)]
        plain = [name_of(label) for label in icons]
        names = sorted({*plain, *(name for plan in plans for name in plan.parts)})
        numbers = {name: number for number, name in enumerate(names)}
        pairs = [[numbers[part] for part in plan.parts] for plan in plans]
        pairs += [[numbers[plain[index]]] * 2 for index in drawings.classes.tolist()]
        vendors = np.concatenate([[plan.source for plan in plans], drawings.vendors])

        def pictures() -> Iterator[Tensor]:
            for start in range(0, len(plans), BATCH):
                batch = plans[start : start + BATCH]
                yield torch.stack([centred(Image.fromarray(composer.picture(plan))) for plan in batch])
            yield from drawings.pictures.split(BATCH)

        total = -(-len(plans) // BATCH) + -(-len(drawings.pictures) // BATCH)
        batches = tqdm(pictures(), "lessons", total, unit="batch", disable=None)
        features = torch.cat([backbone.features(distorted(batch, random)).half() for batch in batches])
    return names, Lessons(features, torch.tensor(pairs), vendors)


def write_datasets(icons: dict[str, dict[str, str]], data: Path, folder: Path) -> list[Path]:
    """Every vendor's drawings as a dataset, for the composer: one folder each, with originals alone."""
    rows = (
        json.loads(line)
        for source in ("fluent", "noto")
        for line in (data / source / "metadata.jsonl").read_text("utf-8").splitlines()
    )
    subgroups = {row["label"]: row["subgroup"] for row in rows}
    for vendor, package in VENDORS.items():
        icon_set = json.loads(package.read()["icons.json"])
        frame = {"left": 0, "top": 0, "width": icon_set["width"], "height": icon_set["height"]}
        (folder / vendor / "originals").mkdir(parents=True)
        lines = []
        for number, (label, drawn) in enumerate(icons.items()):
            if vendor not in drawn:
                continue
            name = drawn[vendor]
            while name in icon_set.get("aliases", {}):
                name = icon_set["aliases"][name]["parent"]
            original = f"originals/{number}.svg"
            (folder / vendor / original).write_text(SVG.format(**{**frame, **icon_set["icons"][name]}), "utf-8")
            row = {"file_name": f"images/{number}.png", "original": original, "text": label, "label": label}
            lines.append(json.dumps({**row, "subgroup": subgroups[label], "source": vendor, "license": ""}))
        (folder / vendor / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    return [folder / vendor for vendor in VENDORS]


def fit(lessons: Lessons, count: int) -> dict[str, Tensor]:
    """The perceptron that gives each picture's labels equal shares of its probability."""
    mean = lessons.features.float().mean(0)
    scale = lessons.features.float().std(0) + 1e-2
    layers = nn.Sequential(
        nn.Dropout(DROPOUT), nn.Linear(len(mean), HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, count)
    )
    steps = EPOCHS * (len(lessons.labels) // MINIBATCH)
    optimizer = torch.optim.AdamW(layers.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in tqdm(range(steps), "perceptron", unit="step", disable=None):
        if len(order) < MINIBATCH:
            order = torch.randperm(len(lessons.labels))
        batch, order = order[:MINIBATCH], order[MINIBATCH:]
        features = (lessons.features[batch].float() - mean) / scale
        loss = -F.log_softmax(layers(features), 1).gather(1, lessons.labels[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    weights = {name: tensor.detach() for name, tensor in layers.state_dict().items()}
    return {"mean": mean, "scale": scale, **weights}


def scores(tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Features `(N, D)` -> scores `(N, labels)`."""
    x = (features.float() - tensors["mean"]) / tensors["scale"]
    x = F.relu(F.linear(x, tensors["1.weight"], tensors["1.bias"]))
    return F.linear(x, tensors["4.weight"], tensors["4.bias"])


def found(scored: Tensor, pairs: Tensor) -> Tensor:
    """Whether both labels of each picture `(N, 2)` are among the `TOP`, `(N,)`."""
    best = scored.topk(TOP, dim=1).indices
    return (best[:, None, :] == pairs[:, :, None]).any(2).all(1)


def main() -> None:
    parts = PartRecogniser.load(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
    print(f"{len(parts.labels)} labels, taught in {parts.cpu_minutes:.0f} CPU minutes;")
    print(f"{HELD_OUT_VENDOR}'s compositions found without having seen {HELD_OUT_VENDOR}: {parts.held_out:.1%}")


if __name__ == "__main__":
    main()
