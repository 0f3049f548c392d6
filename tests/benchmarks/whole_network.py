"""A network that names the parts of a composition from the whole picture; part_recogniser.py trains it.

EfficientNet-Lite0, pretrained on ImageNet and fine-tuned in all layers on compositions, which are drawn as needed, and
on plain drawings, all of them distorted and half of them mirrored. A linear layer scores each label in each cell of the
last feature map; the picture's score is the log of the mean of the exponentials over the cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from recogniser import IMAGENET_MEAN, IMAGENET_STD, Backbone, centred, distorted
from torch import Tensor, nn
from tqdm import tqdm

from scrape.compose import Composer

# Sizes, in px, that a picture is judged in, and the one that is learned in.
SIZES, LEARNED = (128, 160), 128

STEPS, BATCH, PLAIN = 3000, 32, 6
LEARNING_RATE, HEAD_LEARNING_RATE, WEIGHT_DECAY, WARMUP, CLIP_NORM = 6e-4, 2.4e-3, 0.05, 0.15, 2.0
DROPOUT = 0.3


@dataclass(frozen=True)
class PlainDrawings:
    """Vendors' emoji: pictures `(N, 3, SIZE, SIZE)` in [0, 1], and the name of each."""

    pictures: Tensor
    names: list[str]


class Trunk(Backbone):
    """The network of `recogniser.py`, to be fine-tuned."""

    def __init__(self) -> None:
        super().__init__()
        self.network = self._network


class WholeNetwork(nn.Module):
    """Pictures `(N, 3, SIZE, SIZE)` in [0, 1] -> log-probabilities `(N, labels)`."""

    def __init__(self, labels: int):
        super().__init__()
        self.network = Trunk().network
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(self.network._conv_head.out_channels, labels)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor, size: int = LEARNED) -> Tensor:
        if pictures.shape[-1] != size:
            pictures = F.interpolate(pictures, size=(size, size), mode="bilinear")
        network = self.network
        x = ((pictures - IMAGENET_MEAN) / IMAGENET_STD).contiguous(memory_format=torch.channels_last)
        x = network._swish(network._bn0(network._conv_stem(x)))
        for block in network._blocks:
            x = block(x)
        cells = network._swish(network._bn1(network._conv_head(x))).flatten(2).transpose(1, 2)
        scores = self.head(self.dropout(cells))
        return F.log_softmax(torch.logsumexp(scores, 1) - math.log(scores.shape[1]), dim=1)

    @torch.inference_mode()
    def judge(self, pictures: Tensor) -> Tensor:
        """The mean over `SIZES` of the log-probabilities of pictures, `(N, labels)`."""
        return sum(self(pictures, size) for size in SIZES) / len(SIZES)


def teach(composer: Composer, first: int, plain: PlainDrawings, names: Sequence[str], seed: int) -> WholeNetwork:
    """Train a network on the compositions of `composer` from index `first` on, and on plain drawings."""
    torch.manual_seed(seed)
    network = WholeNetwork(len(names))
    # The network's statistics stay ImageNet's: batches are small, and most of each picture is white.
    network.network.eval()
    groups = [
        {"params": list(network.network.parameters()), "lr": LEARNING_RATE},
        {"params": list(network.head.parameters()), "lr": HEAD_LEARNING_RATE},
    ]
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=STEPS, pct_start=WARMUP)
    for pictures, labels in tqdm(_batches(composer, first, plain, names, seed), "network", STEPS, unit="step"):
        loss = -network(pictures).gather(1, labels).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
    return network.eval()


def _batches(
    composer: Composer, first: int, plain: PlainDrawings, names: Sequence[str], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures, and the indices of their two labels, `(N, 2)`; a plain drawing's label stands twice."""
    numbers = {name: number for number, name in enumerate(names)}
    chances, random = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    index = first
    for _ in range(STEPS):
        plans = [composer.plan(index + offset) for offset in range(BATCH - PLAIN)]
        index += len(plans)
        pictures = [centred(Image.fromarray(composer.picture(plan))) for plan in plans]
        labels = [[numbers[name] for name in (plan.parts[0], plan.parts[-1])] for plan in plans]
        for number in chances.integers(len(plain.names), size=PLAIN):
            pictures.append(plain.pictures[number])
            labels.append([numbers[plain.names[number]]] * 2)
        batch = distorted(torch.stack(pictures), random)
        yield batch.flip(3) if chances.random() < 0.5 else batch, torch.tensor(labels)
