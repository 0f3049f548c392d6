"""Ridge regression: the linear layer that fits outputs best from features that are computed already."""

from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


def ridge(inputs: NDArray[np.float64], outputs: NDArray[Any], penalty: float) -> tuple[mx.array, mx.array]:
    """Weight (outputs, inputs) and bias (outputs,) of the layer from inputs (N, I) to outputs (N, O), in float32.

    penalty: of the squared weights, for each of the N rows.
    """
    mean, target_mean = inputs.mean(0), outputs.mean(0)
    centred = inputs - mean
    gram = centred.T @ centred + penalty * len(inputs) * np.eye(inputs.shape[1])
    weight = np.linalg.solve(gram, centred.T @ (outputs - target_mean))
    bias = target_mean - mean @ weight
    return mx.array(weight.T.astype(np.float32)), mx.array(bias.astype(np.float32))
