"""The optimizers that a recipe can name, and the learning rate at each step."""

import math

import mlx.optimizers as optim

from ..recipe import Loop


def make_optimizer(loop: Loop) -> optim.Optimizer:
    """MLX's own, with the recipe's numbers."""
    rate, decay, betas = loop.learning_rate, loop.weight_decay, list(loop.betas)
    if loop.optimizer == "adafactor":
        return optim.Adafactor(rate, weight_decay=decay, relative_step=False, scale_parameter=False)
    if loop.optimizer == "lion":
        return optim.Lion(rate, betas, weight_decay=decay)
    if loop.optimizer == "muon":
        return optim.Muon(rate, weight_decay=decay)
    return optim.AdamW(rate, betas, weight_decay=decay, bias_correction=True)


def learning_rate(loop: Loop, step: int) -> float:
    """The learning rate at a step: a linear warmup, then the recipe's `schedule`."""
    warmup = min(1.0, (step + 1) / max(1, loop.warmup_steps))
    decaying = loop.decay_steps or (0 if loop.schedule == "constant" else loop.steps - loop.warmup_steps)
    left = min(1.0, (loop.steps - step) / max(1, decaying))
    if loop.schedule == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return loop.learning_rate * min(warmup, left)
