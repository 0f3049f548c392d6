"""The settings of a run, which `--resume` compares with those that the run began with."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..recipe import Recipe

MAY_CHANGE = ("loop.steps", "loop.learning_rate")
"""A change of these is a warning only; the second because a loss that is not finite any more asks for it."""

# Settings that are not compared: places of files, whose hashes are compared instead; how often something is looked at;
# how a step is computed; and keys that only concern the finished weights.
LOOP = ("checkpoint_every", "keep", "log_every", "sample_every", "compiled", "threads", "accumulation")
FREE = {
    "": (
        "output", "cache", "base", "start_from", "vae", "model", "grow_from", "words", "sample_prompts", "sample_seed",
        "checkpointing", "fuse_bits", "kept",
    ),
    "data.": ("folders",),
    "validation.": ("every",),
    "loop.": LOOP,
    "text_loop.": LOOP,
    "defaults.": ("template", "steps", "guidance", "plan_fields", "parts"),
}  # fmt: skip


def run_settings(recipe: Recipe, dataset_sha256: str, inputs: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings by name ("loop.batch_size"), as JSON values.

    inputs: hashes of the weights that the run starts from, by their names in messages ("the base's weights").
    """
    settings = flatten(json.loads(json.dumps(asdict(recipe), default=str)))
    for section, names in FREE.items():
        for name in names:
            settings.pop(section + name, None)
    return settings | {"the dataset": dataset_sha256} | {name: value for name, value in inputs.items() if value}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loop": {"steps": 5}} -> {"loop.steps": 5}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
