"""A recogniser of the parts of compositions, trained on drawings of vendors that no model here was trained on.

    python tests/benchmarks/part_recogniser.py [DATA]     # trains it; DATA holds fluent/ and noto/
    python tests/benchmarks/part_recogniser.py DATA twemoji     # trains it without Twemoji and tests it there

Input: pictures of any size. Output: a score for each label. Labels are the names in compositions of animals, of things
that they wear, hold, ride or sit in, and of attributes (wings, two, blue, sad).

The training data are drawings of the vendors of `recogniser.py` and of EmojiOne 3: plain, and assembled into
compositions by the rules of `mlx_genmoji.combinations`. A label's score is the sum of two:

- Crops, through the frozen network of `recogniser.py`. A crop shows both parts of a composition, one part, or none
  completely. A perceptron with one hidden layer predicts the labels from the network's features. `COSINES` times the
  cosines of a linear discriminant are added to its log-probabilities. The discriminant is trained on crops that show
  a single part; it is weaker, but errs less on drawings of other vendors. A picture is cropped in three sizes, and a
  label gets its best score of all crops.
- The whole picture, through a network that is trained in all its layers (`whole_network.py`): `WHOLE` times its
  log-probabilities.

A composition is found if both its labels are among the `TOP` labels with the highest scores. `TOP` was set before any
picture of Noto, of Fluent or of a model was judged. The trained recogniser is cached under a hash of these files, the
rules and the icons.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import recogniser
import torch
import torch.nn.functional as F
import whole_network
from PIL import Image
from recogniser import (
    CACHE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SVG,
    VENDORS,
    Backbone,
    Discriminant,
    centred,
    distorted,
    icons_of,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from whole_network import PlainDrawings, WholeNetwork

import mlx_genmoji
import scrape
from mlx_genmoji.combinations import relations
from mlx_genmoji.combinations.emoji_lists import listed
from mlx_genmoji.combinations.names import name_of, role_of
from scrape.compose import Composer, Plan, held_out
from scrape.emojibase import key
from scrape.packages import Package
from scrape.pictures import render

TOP = 5
SEED = 0
COMPOSITIONS = 18_000
PLAIN_COPIES = 2
BATCH = 64

# A piece's side, as a share of the picture's: the whole, a part of usual size, a small one; and how many lie in a row.
PIECES = ((1.0, 1), (0.62, 3), (0.42, 4))

# A piece shows what lies in it by so much, and is so much of its side.
INSIDE, LEAST = 0.75, 0.22

COMPONENTS, HIDDEN, DROPOUT = 1024, 768, 0.3
EPOCHS, MINIBATCH, LEARNING_RATE, WEIGHT_DECAY = 16, 256, 2e-3, 0.05

# Of 0, 3, 5, 8, 10, 15, 20 and 30, that which found most compositions of the vendor below, others than those reported.
COSINES = 10.0

# Of 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7 and 10, chosen on the same compositions, with a network of 1,750 steps.
WHOLE = 3.0

# Shaded drawings of 128 px; to be used where EmojiOne is named.
EMOJIONE_3 = Package("emojione-assets", "3.1.1", ("png/128/*.png",))

# How many compositions of a vendor are judged that the recogniser was taught without, and from which on.
TRIED, TRIED_FROM = 300, 1_000_000

NOTHING = "nothing whole"
RULES = [
    path
    for package, folder in ((mlx_genmoji, "combinations"), (scrape, "compose"))
    for path in sorted((Path(package.__file__).parent / folder).glob("*.*"))
]

# Left, top and side of a square, in pixels.
Square = tuple[float, float, float]


@dataclass(frozen=True)
class Lessons:
    """Features of crops, `(N, D)`, and the indices of their two labels, `(N, 2)`; a single label stands twice."""

    features: Tensor
    labels: Tensor


class Features(Backbone):
    """Pictures `(N, 3, 128, 128)` in [0, 1] -> features `(N, D)` that keep the positions of what they show."""

    def _features(self, pictures: Tensor) -> Tensor:
        network = self._network
        x = ((pictures - IMAGENET_MEAN) / IMAGENET_STD).contiguous(memory_format=torch.channels_last)
        x = network._swish(network._bn0(network._conv_stem(x)))
        features = [F.adaptive_avg_pool2d(pictures, 6)]
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index == 10:
                features.append(F.adaptive_avg_pool2d(x, 4))
        x = network._swish(network._bn1(network._conv_head(x)))
        features += [x.mean((2, 3)), x.amax((2, 3))]
        return torch.cat([feature.flatten(1) for feature in features], dim=1).half()


class PartRecogniser:
    """Names the parts of compositions. `cpu_minutes`: the CPU time of its training."""

    def __init__(self, labels: Sequence[str], tensors: Mapping[str, Tensor], cpu_minutes: float):
        self.labels = list(labels)
        self.cpu_minutes = cpu_minutes
        self._tensors = dict(tensors)
        self._features = Features()
        self._whole = WholeNetwork(len(self.labels)).eval()
        self._whole.load_state_dict(
            {name.removeprefix("whole."): tensor for name, tensor in tensors.items() if name.startswith("whole.")}
        )

    @classmethod
    def load(cls, data: Path, without: str | None = None) -> PartRecogniser:
        """Load the recogniser from the cache, or train it if files or icons have changed.

        without: a vendor whose drawings are left out.
        """
        icons = icons_of(data)
        files = [*(Path(module.__file__ or "") for module in (recogniser, whole_network)), Path(__file__), *RULES]
        known = b"".join(path.read_bytes() for path in files) + json.dumps([icons, without]).encode()
        path = CACHE / f"parts-{hashlib.sha256(known).hexdigest()[:16]}.safetensors"
        if not path.exists():
            cls.teach(icons, data, without).save(path)
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return cls(json.loads(facts["labels"]), tensors, float(facts["cpu_minutes"]))

    @classmethod
    def teach(cls, icons: dict[str, dict[str, str]], data: Path, without: str | None = None) -> PartRecogniser:
        begun = time.process_time()
        torch.manual_seed(SEED)
        with tempfile.TemporaryDirectory() as folder:
            datasets = [path for path in write_datasets(icons, data, Path(folder)) if path.name != without]
            composer = Composer(datasets, recogniser.SIZE, SEED)
            plain = plain_drawings(datasets)
            plans = [composer.plan(index) for index in range(COMPOSITIONS)]
            names = sorted({NOTHING, *plain.names, *(name for plan in plans for name in plan.parts)})
            tensors = fit(lessons_of(composer, plans, plain, names), names)
            whole = whole_network.teach(composer, COMPOSITIONS, plain, names, SEED)
        tensors |= {f"whole.{name}": tensor for name, tensor in whole.state_dict().items()}
        return cls(names, tensors, (time.process_time() - begun) / 60)

    def share_found(self, vendor: str, icons: dict[str, dict[str, str]], data: Path) -> float:
        """How many of `TRIED` compositions of a vendor are found; their parts are labels of the recogniser."""
        with tempfile.TemporaryDirectory() as folder:
            datasets = [path for path in write_datasets(icons, data, Path(folder)) if path.name == vendor]
            composer = Composer(datasets, recogniser.SIZE, SEED)
            plans, index = [], TRIED_FROM
            while len(plans) < TRIED:
                plan, index = composer.plan(index), index + 1
                if set(self.labels).issuperset(plan.parts):
                    plans.append(plan)
            said = self.top(TOP, [Image.fromarray(composer.picture(plan)) for plan in plans])
        return sum(set(plan.parts) <= set(labels) for plan, labels in zip(plans, said, strict=True)) / len(plans)

    def save(self, path: Path) -> None:
        facts = {"labels": json.dumps(self.labels), "cpu_minutes": str(self.cpu_minutes)}
        part = path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in self._tensors.items()}, part, facts)
        os.replace(part, path)

    def top(self, count: int, pictures: Sequence[Image.Image]) -> list[list[str]]:
        """The `count` most likely labels of each picture (RGB, on white), the most likely first."""
        said = []
        for picture in pictures:
            content = centred(picture)
            pieces = torch.stack([cut(content, square) for square in grid()])
            best = scores(self._tensors, self._features.features(pieces)).amax(0)
            best = best + WHOLE * self._whole.judge(content[None])[0]
            best[self.labels.index(NOTHING)] = -torch.inf
            said.append([self.labels[number] for number in best.topk(count).indices.tolist()])
        return said


def grid() -> Iterator[Square]:
    """The squares of a picture that are cropped."""
    for share, across in PIECES:
        side = share * recogniser.SIZE
        step = (recogniser.SIZE - side) / max(across - 1, 1)
        for row in range(across):
            for column in range(across):
                yield column * step, row * step, side


def cut(picture: Tensor, square: Square) -> Tensor:
    """A crop `(3, SIZE, SIZE)` of a picture `(3, SIZE, SIZE)`, padded with white beyond its edges."""
    left, top, side = square
    scale, size = side / recogniser.SIZE, recogniser.SIZE
    middle = [2 * (corner + side / 2) / size - 1 for corner in (left, top)]
    theta = torch.tensor([[[scale, 0.0, middle[0]], [0.0, scale, middle[1]]]], dtype=torch.float32)
    where = F.affine_grid(theta, [1, 3, size, size], align_corners=False)
    return (1 - F.grid_sample(1 - picture[None], where, align_corners=False))[0]


def lessons_of(composer: Composer, plans: Sequence[Plan], plain: PlainDrawings, names: Sequence[str]) -> Lessons:
    """The training data: two crops of each composition, and the plain drawings."""
    backbone, random = Features(), torch.Generator().manual_seed(SEED)
    chances = np.random.default_rng(SEED)
    numbers = {name: number for number, name in enumerate(names)}
    shown: list[tuple[str, ...]] = []

    def pieces() -> Iterator[Tensor]:
        for plan in plans:
            picture = centred_composition(composer, plan)
            for square in (aimed(picture.boxes, chances), anywhere(chances)):
                shown.append(within(plan, picture.boxes, square) or (NOTHING,))
                yield cut(picture.pixels, square)
        for _ in range(PLAIN_COPIES):
            for pixels, name in zip(plain.pictures, plain.names, strict=True):
                shown.append((name,))
                yield pixels

    total = 2 * len(plans) + PLAIN_COPIES * len(plain.names)
    features, batch = [], []
    for piece in tqdm(pieces(), "lessons", total, unit="piece", disable=None):
        batch.append(piece)
        if len(batch) == BATCH or len(shown) == total:
            features.append(backbone.features(distorted(torch.stack(batch), random)))
            batch = []
    labels = torch.tensor([[numbers[name] for name in (parts[0], parts[-1])] for parts in shown])
    return Lessons(torch.cat(features), labels)


@dataclass(frozen=True)
class Centred:
    """A composition cropped to its content, as pictures are before they are judged, and its parts' boxes in px."""

    pixels: Tensor
    boxes: list[tuple[int, tuple[float, float, float, float]]]


def centred_composition(composer: Composer, plan: Plan) -> Centred:
    picture = composer.picture(plan)
    boxes = composer.boxes(plan)
    # As `centred` does: the content's longer side fills the picture but for the margin.
    rows, columns = np.nonzero((picture < 255 * (1 - recogniser.FAINT)).any(-1))
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    side = max(right - left, bottom - top)
    scale = (recogniser.SIZE - 2 * recogniser.MARGIN) / side
    x = recogniser.MARGIN + ((side - (right - left)) / 2 - left) * scale
    y = recogniser.MARGIN + ((side - (bottom - top)) / 2 - top) * scale
    moved = [(part, (x + a * scale, y + b * scale, x + c * scale, y + d * scale)) for part, (a, b, c, d) in boxes]
    return Centred(centred(Image.fromarray(picture)), moved)


def aimed(boxes: Sequence[tuple[int, tuple[float, float, float, float]]], chances: np.random.Generator) -> Square:
    """A square around a random part, slightly off its centre."""
    wanted = chances.choice(sorted({part for part, _ in boxes}))
    mine = [box for part, box in boxes if part == wanted]
    left, top, right, bottom = mine[chances.integers(len(mine))]
    side = max(right - left, bottom - top) * chances.uniform(1.0, 1.5)
    across, down = chances.uniform(-0.1, 0.1, 2) * side
    return (left + right - side) / 2 + across, (top + bottom - side) / 2 + down, side


def anywhere(chances: np.random.Generator) -> Square:
    """A square at a random place, of a random size of `PIECES`."""
    side = PIECES[chances.integers(len(PIECES))][0] * recogniser.SIZE
    left, top = chances.uniform(0, recogniser.SIZE - side, 2) if side < recogniser.SIZE else (0.0, 0.0)
    return left, top, side


def within(
    plan: Plan, boxes: Sequence[tuple[int, tuple[float, float, float, float]]], square: Square
) -> tuple[str, ...]:
    """The names of the parts that a crop shows (nearly) completely.

    A colour is shown if the subject is, a number if all copies of the subject are.
    """
    left, top, side = square
    seen = []
    for part, (a, b, c, d) in boxes:
        width = max(min(c, left + side) - max(a, left), 0)
        height = max(min(d, top + side) - max(b, top), 0)
        seen.append((part, width * height >= INSIDE * (c - a) * (d - b) and max(c - a, d - b) >= LEAST * side))
    first = any(whole for part, whole in seen if part == 0)
    second = any(whole for part, whole in seen if part == 1)
    if plan.kind == "count":
        second = all(whole for _, whole in seen)
    elif plan.kind == "colour":
        second = first
    return tuple(name for name, whole in zip(plan.parts, (first, second), strict=True) if whole)


def labels_of(icons: dict[str, dict[str, str]], data: Path) -> list[str]:
    """The labels to recognise: animals, and everything that the rules let them wear, hold, ride, sit in or be like."""
    subgroups = subgroups_of(data)
    lists = ("vehicles", "mounts", "held", "instruments", "winged")
    things = (*relations.WORN, *relations.CONTAINERS, *relations.GROUNDS)
    named = {name_of(label) for label in (*things, *(entry for name in lists for entry in listed(name)))}
    named |= {name for pair in held_out() for name in pair}
    return [
        label
        for label in icons
        if name_of(label) in named
        or label in relations.ATTRIBUTES.values()
        or (role_of(label, subgroups[label]) == "animal" and subgroups[label] != "cat-face")
    ]


def rows_of(data: Path) -> Iterator[dict[str, Any]]:
    for source in ("fluent", "noto"):
        for line in (data / source / "metadata.jsonl").read_text("utf-8").splitlines():
            yield json.loads(line)


def subgroups_of(data: Path) -> dict[str, str]:
    return {row["label"]: row["subgroup"] for row in rows_of(data)}


def write_datasets(icons: dict[str, dict[str, str]], data: Path, folder: Path) -> list[Path]:
    """Write each vendor's drawings of the labels to recognise as a dataset for the composer, with originals only.

    Smileys are included for their eyes and mouths, but without a subgroup, because they are not parts.
    """
    subgroups, parts = subgroups_of(data), set(labels_of(icons, data))
    wanted = parts | {label for labels in relations.EMOTIONS.values() for label in labels}
    for vendor, originals in (*vector_originals(icons), ("emojione-3", emojione_3(data))):
        (folder / vendor / "originals").mkdir(parents=True)
        lines = []
        for number, (label, (suffix, drawn)) in enumerate(originals.items()):
            if label not in wanted:
                continue
            original = f"originals/{number}.{suffix}"
            (folder / vendor / original).write_bytes(drawn)
            row = {"file_name": f"images/{number}.png", "original": original, "text": label, "label": label}
            subgroup = subgroups[label] if label in parts else None
            lines.append(json.dumps({**row, "subgroup": subgroup, "source": vendor, "license": ""}))
        (folder / vendor / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    return sorted(folder.iterdir())


def vector_originals(icons: dict[str, dict[str, str]]) -> Iterator[tuple[str, dict[str, tuple[str, bytes]]]]:
    """The drawings of `recogniser.py`'s vendors, by label."""
    for vendor, package in VENDORS.items():
        icon_set = json.loads(package.read()["icons.json"])
        frame = {"left": 0, "top": 0, "width": icon_set["width"], "height": icon_set["height"]}
        originals = {}
        for label, drawn in icons.items():
            if vendor in drawn:
                name = drawn[vendor]
                while name in icon_set.get("aliases", {}):
                    name = icon_set["aliases"][name]["parent"]
                originals[label] = ("svg", SVG.format(**{**frame, **icon_set["icons"][name]}).encode())
        yield vendor, originals


def emojione_3(data: Path) -> dict[str, tuple[str, bytes]]:
    """EmojiOne 3's drawings, by label."""
    drawn = {key(Path(name).stem): picture for name, picture in EMOJIONE_3.read().items()}
    found = {row["label"]: drawn.get(key(row["hexcode"])) for row in rows_of(data) if not row["skin_tone"]}
    return {label: ("png", picture) for label, picture in sorted(found.items()) if picture}


def plain_drawings(datasets: Sequence[Path]) -> PlainDrawings:
    """The datasets' drawings of parts, on white."""
    pictures, names = [], []
    for folder in datasets:
        for row in map(json.loads, (folder / "metadata.jsonl").read_text("utf-8").splitlines()):
            picture = render((folder / row["original"]).read_bytes(), recogniser.DRAWN) if row["subgroup"] else None
            if picture is not None:
                pictures.append(centred(picture))
                names.append(name_of(row["label"]))
    return PlainDrawings(torch.stack(pictures), names)


def fit(lessons: Lessons, names: Sequence[str]) -> dict[str, Tensor]:
    """Train the perceptron and the discriminant on the first `COMPONENTS` principal components of the features.

    The perceptron's target gives a crop's labels equal probability; the discriminant uses crops with a single label.
    """
    features = lessons.features.float()
    mean = features.mean(0)
    scale = features.std(0) + 1e-2
    features = (features - mean) / scale
    _, _, directions = torch.svd_lowrank(features[torch.randperm(len(features))[:6000]], COMPONENTS + 20, niter=2)
    features = features @ directions[:, :COMPONENTS]
    spread = features.std()
    features /= spread
    layers = nn.Sequential(
        nn.Dropout(DROPOUT),
        nn.Linear(COMPONENTS, HIDDEN),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, len(names)),
    )
    steps = EPOCHS * (len(features) // MINIBATCH)
    optimizer = torch.optim.AdamW(layers.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    order = torch.empty(0, dtype=torch.long)
    for _ in tqdm(range(steps), "perceptron", unit="step", disable=None):
        if len(order) < MINIBATCH:
            order = torch.randperm(len(features))
        batch, order = order[:MINIBATCH], order[MINIBATCH:]
        loss = -F.log_softmax(layers(features[batch]), 1).gather(1, lessons.labels[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    weights = {name: tensor.detach() for name, tensor in layers.state_dict().items()}
    alone = (lessons.labels[:, 0] == lessons.labels[:, 1]) & (lessons.labels[:, 0] != names.index(NOTHING))
    discriminant = Discriminant.fit(features[alone], lessons.labels[alone, 0], len(names))
    return {
        "mean": mean,
        "projection": directions[:, :COMPONENTS] / (scale[:, None] * spread),
        **weights,
        **{f"discriminant.{name}": tensor for name, tensor in vars(discriminant).items()},
    }


def scores(tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Features `(N, D)` -> scores of the labels, `(N, labels)`.

    A score is the perceptron's log-probability plus `COSINES` times the discriminant's cosine.
    """
    features = (features.float() - tensors["mean"]) @ tensors["projection"]
    x = F.relu(F.linear(features, tensors["1.weight"], tensors["1.bias"]))
    probabilities = F.log_softmax(F.linear(x, tensors["4.weight"], tensors["4.bias"]), dim=1)
    discriminant = Discriminant(
        **{field.name: tensors[f"discriminant.{field.name}"] for field in dataclasses.fields(Discriminant)}
    )
    return probabilities + COSINES * discriminant.scores(features)


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    vendor = sys.argv[2] if len(sys.argv) > 2 else None
    parts = PartRecogniser.load(data, vendor)
    print(f"{len(parts.labels)} labels, taught in {parts.cpu_minutes:.0f} CPU minutes")
    if vendor:
        share = parts.share_found(vendor, icons_of(data), data)
        print(f"{vendor}'s compositions found without having seen {vendor}: {share:.1%}")


if __name__ == "__main__":
    main()
