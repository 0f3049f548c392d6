"""The values that options of an export can have. Imports nothing heavy, so that `genmoji --help` can list them."""

from collections.abc import Mapping
from typing import Literal

Format = Literal["coreml", "diffusers"]
Method = Literal["palettize", "linear", "mlx"]
Attention = Literal["split-einsum", "original"]
Target = Literal["ios17", "ios18"]
Verification = Literal["full", "quick", "off"]

# For each method, the bits of a weight that it offers, and the first iOS that reads them.
METHODS: Mapping[Method, Mapping[int, int]] = {
    "palettize": {4: 17, 6: 17, 8: 17},
    "linear": {4: 18, 8: 17},
    "mlx": {4: 18, 8: 18},
}

# The bits of a weight that is not compressed, in whichever method.
DENSE_BITS = 16
