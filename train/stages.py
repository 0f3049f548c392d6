"""A recipe of several stages; each reads the results of stages before it.

    output: runs/builtin
    shared:                      # keys of every stage that knows them; a stage's own value wins
      data: {folders: [data/fluent, data/noto]}
    stages:
      small: {objective: autoencoder, data: {size: 64}, ...}
      large: {objective: growth, grow_from: "${small}", ...}

`${small}` is the folder that the stage `small` wrote. A stage's own output is `runs/builtin/small`. A finished stage
leaves `finished.json` there, and `--resume` goes on with the first stage that has none.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlx_genmoji.errors import UserError
from mlx_genmoji.files import read_json, write_json

from .fit.checkpoints import CHECKPOINTS, Checkpoints
from .fit.distributed import World
from .objectives import carry_out, find_objective
from .options import Options
from .recipe import build

FINISHED = "finished.json"
REFERENCE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Stage:
    """One stage, the shared keys merged into its own."""

    name: str
    raw: dict[str, Any]
    output: Path

    def resolved(self, results: Mapping[str, Path]) -> dict[str, Any]:
        """The recipe with `${name}` replaced by that stage's result."""
        resolved: dict[str, Any] = _replaced(self.raw, lambda match: str(results[match[1]]))
        return resolved

    @property
    def sources(self) -> list[str]:
        """The stages whose results it reads."""
        return list(dict.fromkeys(REFERENCE.findall(json.dumps(self.raw))))


def read_stages(raw: Mapping[str, Any]) -> list[Stage]:
    """The stages in their order, all checked. Raises UserError, which names the stage, before anything is trained."""
    for key in raw:
        if key not in ("output", "shared", "stages"):
            raise UserError(f"Recipe: unknown key {key!r}; a recipe with 'stages' has output, shared and stages.")
    written, shared = raw["stages"], raw.get("shared") or {}
    if not isinstance(written, dict) or not written or not all(isinstance(value, dict) for value in written.values()):
        raise UserError("Recipe: 'stages' must be a mapping of names to recipes.")
    if not isinstance(shared, dict) or not isinstance(raw.get("output"), str):
        raise UserError("Recipe: 'shared' must be a mapping of keys to values, and 'output' a folder.")
    stages: list[Stage] = []
    unused = set(shared)
    for name, own in written.items():
        known = {item.name for item in fields(find_objective(own).recipe)}
        unused -= known
        output = Path(raw["output"]) / name
        merged = _merged({key: value for key, value in shared.items() if key in known}, own)
        stage = Stage(name, merged | {"output": str(output)}, output)
        before = {earlier.name: earlier.output for earlier in stages}
        if unknown := [source for source in stage.sources if source not in before]:
            raise UserError(f"Recipe: the stage {name} reads ${{{unknown[0]}}}, which is no stage before it.")
        try:
            build(find_objective(own).recipe, stage.resolved(before))
        except UserError as error:
            raise UserError(f"Stage {name}: {error}") from None
        stages.append(stage)
    if unused:
        raise UserError(f"Recipe: no stage knows the shared key {min(unused)!r}.")
    return stages


def run_stages(raw: Mapping[str, Any], options: Options) -> Path:
    """Carry out all stages and return the result of the last one; with `resume`, those that are not finished."""
    stages = read_stages(raw)
    if World().size > 1:
        raise UserError("Recipe: 'stages' are for one machine; several train adapters.")
    results: dict[str, Path] = {}
    key = ""
    for stage in stages:
        resolved = stage.resolved(results)
        # A stage depends on all before it: where one of them changes, it is not finished any more.
        key = hashlib.sha256(json.dumps([key, resolved], default=str).encode()).hexdigest()
        file = stage.output / FINISHED
        finished = read_json(file) if options.resume and file.exists() else {}
        result = stage.output / str(finished.get("result"))
        if finished.get("key") != key or not result.exists():
            result = carry_out(resolved, options)
            write_json(file, {"result": str(result.relative_to(stage.output)), "key": key})
        results[stage.name] = result
    return results[stages[-1].name]


def plan_stages(raw: Mapping[str, Any]) -> str:
    """A table of the stages: steps, pictures, what each reads, how far it is; and which datasets are missing."""
    stages = read_stages(raw)
    rows = [("stage", "objective", "steps", "pictures", "reads", "state")]
    folders: dict[str, None] = {}
    for stage in stages:
        data, loop = stage.raw["data"], stage.raw["loop"]
        folders |= dict.fromkeys(data["folders"])
        pictures = f"{loop['batch_size']} of {data['size']} px"
        reads = ", ".join(stage.sources) or "-"
        rows.append((stage.name, stage.raw["objective"], str(loop["steps"]), pictures, reads, _state(stage)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    missing = [folder for folder in folders if not Path(folder).is_dir()]
    if missing:
        lines.append(f"missing datasets: {', '.join(missing)}")
    return "\n".join(lines)


def _state(stage: Stage) -> str:
    if (stage.output / FINISHED).exists():
        return "finished"
    paths = Checkpoints(stage.output / CHECKPOINTS, 1).paths
    return f"at step {int(paths[-1].stem)}" if paths else "to do"


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `shared`, mappings merged key by key."""
    merged = dict(shared)
    for key, value in own.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _replaced(value: Any, replace: Callable[[re.Match[str]], str]) -> Any:
    """A tree with each `${name}` in its texts replaced."""
    if isinstance(value, str):
        return REFERENCE.sub(replace, value)
    if isinstance(value, dict):
        return {key: _replaced(item, replace) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_replaced(item, replace) for item in value]
    return value
