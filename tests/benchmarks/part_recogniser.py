"""A recogniser of what compositions are put together of, taught by drawings of vendors whose emoji no model here saw.

    python tests/benchmarks/part_recogniser.py [DATA]     # DATA holds fluent/ and noto/; teaches it, about 20 CPU minutes

In: pictures of any size. Out: a score for each of the labels: the names that compositions have for what vendors draw,
and for what is done with it (wings, a hat, two, blue, sad).

It is taught as `recogniser.py` is, by the same vendors and with the same frozen network, but by compositions of their
drawings, made by the rules that the training data is made by (`scrape.compose`), and by their plain drawings. Each has
two labels, or one. Which directions of the features differ by vendor alone is learned from pairs of compositions of
the same parts by two vendors, and whitened away; a perceptron with one hidden layer does the rest.

A composition counts as found where both its labels are among the `TOP` that score highest. `TOP` was set before any
picture of Noto, Fluent or a model was judged. What is learned is cached, for exactly this file, the recogniser's and
the rules' (`scrape/compose/`), along with how many compositions of a vendor are found when that vendor is left out.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from recogniser import (
    BATCH,
    CACHE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SVG,
    VENDORS,
    Backbone,
    _read,
    centred,
    distorted,
    draw,
    icons_of,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from scrape import compose as compose_function
from scrape.compose import Composer
from scrape.compose.colours import TARGETS
from scrape.compose.kinds import ATTRIBUTES, COUNTS, EMOTIONS
from scrape.compose.names import name_of, role_of

TOP = 5
SIZE = 128
SEED = 0
COMPOSITIONS = 30_000
PAIRS = 2_000
