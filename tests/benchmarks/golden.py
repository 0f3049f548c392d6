"""Compares two checkouts: do the same commands write the same pictures, adapters, models and exports, byte for byte?

    python tests/benchmarks/golden.py --against OTHER_CHECKOUT
    python tests/benchmarks/golden.py --against OTHER_CHECKOUT --only "draw one" --only export

A fixed list of `genmoji` commands runs in both checkouts, one process a command, with this interpreter and with
PYTHONPATH set to the checkout. Nothing but the command line is used, so any two versions that know these verbs and
options can be compared. The outputs' SHA-256 are compared: of a picture its file (written with --no-recipe), of a
safetensors file the names, dtypes, shapes and bytes of its tensors (its metadata holds hashes and versions, which may
change), of a Core ML package its program and its weights. Left out are READMEs, records of an export, and the manifest
of a Core ML package, which holds random identifiers.

Prints a table, `same` or `differs` a row. Exit code 0 if all outputs are the same, 1 if one differs or is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 300
TRAINING_PICTURES = 6
IGNORED_NAMES = ("README.md", "export.json", "metadata.json", "Makefile", "Manifest.json")


@dataclass(frozen=True)
class Case:
    """One command, and the patterns (of `Path.glob`) of the files that it writes and that are compared."""

    name: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]


def draw(name: str, prompt: str, *options: str, count: int = 1) -> Case:
    """`genmoji generate` of `prompt`, its pictures called after the case."""
    stem = name.replace(" ", "-")
    output = ("--no-recipe", "--output", f"{stem}.png")
    outputs = (f"{stem}.png",) if count == 1 else tuple(f"{stem}-{i + 1}.png" for i in range(count))
    return Case(name, ("generate", prompt, *options, *output), outputs)


TRAINED = "runs/golden/adapter.safetensors"

# A later case may read what an earlier one wrote.
CASES = (
    draw("draw one", "red apple", "--seed", "7"),
    draw("draw candidates", "octopus", "--seed", "7", "-n", "2", "--rewrite", "none", count=2),
    draw("draw a combination", "flying pig wearing a crown", "--seed", "7"),
    draw("draw a scene", "two blue cats in the rain", "--seed", "3"),
    draw("draw a rider", "sad fox on a skateboard", "--seed", "1"),
    draw("draw a combination whole", "flying pig", "--seed", "7", "--whole"),
    draw("draw other words", "bunny on a motorbike", "--seed", "5"),
    draw("draw a person", "astronaut", "--person-type", "woman", "--skin-tone", "medium-dark", "--seed", "7"),
    draw("draw with Euler", "guitar", "--steps", "20", "--guidance", "4", "--sampler", "euler", "--seed", "2"),
    draw("draw with negative prompt", "guitar", "--sampler", "ddim", "--negative-prompt", "violin", "--seed", "2"),
    draw("draw with Euler ancestral", "rocket", "--sampler", "euler-ancestral", "--seed", "9"),
    draw("draw with LCM", "rocket", "--sampler", "lcm", "--steps", "4", "--guidance", "1", "--seed", "9"),
    draw("draw with UniPC", "rocket", "--sampler", "unipc", "--steps", "8", "--seed", "9"),
    draw("draw with DPM++ 2M", "rocket", "--sampler", "dpm++2m", "--steps", "8", "--seed", "9"),
    draw("draw over a picture", "pig", "--image", "photo.png", "--strength", "0.7", "--seed", "4"),
    Case("draw with recipe", ("generate", "flying pig", "--seed", "8", "--output", "recipe.png"), ()),
    Case(
        "replay", ("generate", "--replay", "recipe.png", "--no-recipe", "--output", "replayed.png"), ("replayed.png",)
    ),
    Case(
        "draw transparent",
        ("generate", "panda", "--seed", "6", "--transparent", "--no-recipe", "--output", "transparent.webp"),
        ("transparent.webp",),
    ),
    Case(
        "stickers",
        ("stickers", "draw-one.png", "photo.png", "--for", "slack", "--for", "telegram", "--output", "stickers"),
        ("stickers/*",),
    ),
    Case("train an adapter", ("train", "adapter.yaml"), (TRAINED, "runs/golden/*.png")),
    Case(
        "train over 4 bits",
        ("train", "adapter.yaml", "--set", "output=runs/4bit", "--set", "bits=4", "--set", "lora.rank=2"),
        ("runs/4bit/adapter.safetensors",),
    ),
    draw("draw with adapter", "red apple", "--seed", "7", "--adapter", f"{TRAINED}:0.8"),
    Case("quantize", ("quantize", "builtin", "--bits", "4", "--output", "quantized"), ("quantized/**/*",)),
    draw("draw quantized", "red apple", "--seed", "7", "--model", "quantized"),
    Case("fuse", ("fuse", "builtin", "--adapter", TRAINED, "--output", "fused"), ("fused/**/*",)),
    Case("export", ("export", "builtin", "--bits", "6", "--verify", "off", "--output", "apple"), ("apple/**/*",)),
    Case(
        "export functions",
        (
            *("export", "builtin", "--bits", "4", "--functions", "--adapter", TRAINED),
            *("--verify", "off", "--output", "functions"),
        ),
        ("functions/**/*",),
    ),
    Case("export diffusers", ("export", "builtin", "--format", "diffusers", "--output", "swift"), ("swift/**/*",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the outputs of two checkouts, byte for byte.")
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT", help="the other checkout's folder")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only cases whose name has TEXT")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep all outputs in this folder, for a look")
    arguments = parser.parse_args()
    cases = [case for case in CASES if not arguments.only or any(text in case.name for text in arguments.only)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        start = time.perf_counter()
        ours = outputs_of(ROOT, folder / "this", cases)
        theirs = outputs_of(arguments.against.resolve(), folder / "other", cases)
    differences = print_table(cases, ours, theirs)
    print(f"\n{len(cases)} commands in {time.perf_counter() - start:.0f} s; {differences} outputs differ.")
    return 1 if differences else 0


def outputs_of(checkout: Path, folder: Path, cases: Sequence[Case]) -> dict[str, dict[str, str]]:
    """Case's name -> output -> SHA-256; of a case that failed, "failed" -> the last line of its stderr."""
    folder.mkdir(parents=True)
    write_inputs(folder)
    environment = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    outputs: dict[str, dict[str, str]] = {}
    for case in cases:
        print(f"{checkout.name}: {case.name}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "mlx_genmoji", *case.command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        if done.returncode:
            outputs[case.name] = {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
        else:
            outputs[case.name] = dict(fingerprints(folder, case.outputs))
    return outputs


def write_inputs(folder: Path) -> None:
    """A picture to start from, a dataset of coloured pictures with a recipe that trains an adapter on it."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).resize((150, 100), Image.Resampling.BICUBIC)
    photo.save(folder / "photo.png")
    pictures = folder / "dataset" / "images"
    pictures.mkdir(parents=True)
    rows = []
    for index in range(TRAINING_PICTURES):
        colours = Image.fromarray(rng.integers(0, 256, (2, 2, 3), np.uint8))
        colours.resize((128, 128), Image.Resampling.NEAREST).save(pictures / f"{index}.png")
        rows.append({"file_name": f"images/{index}.png", "text": f"thing {index}", "source": "mine"})
    (folder / "dataset" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "objective": "lora",
        "output": str(Path(TRAINED).parent),
        "data": {"folders": ["dataset"], "size": 128, "caption": "{text}, 3d"},
        "lora": {"rank": 4, "targets": ["conv", "unet.*.time_emb_proj"]},
        "caption_dropout": 0.2,
        "timestep_shift": 2.5,
        "validation": {"pictures": 0},
        "loop": {"steps": 2, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "compiled": False},
    }
    (folder / "adapter.yaml").write_text(yaml.safe_dump(recipe))


def fingerprints(folder: Path, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Path within `folder` -> SHA-256 of the compared content, for each output of a case."""
    for pattern in patterns:
        found = [path for path in sorted(folder.glob(pattern)) if path.is_file() and path.name not in IGNORED_NAMES]
        if not found:
            yield pattern, "missing"
        for path in found:
            digest = hashlib.sha256()
            for part in content(path):
                digest.update(part)
            yield path.relative_to(folder).as_posix(), digest.hexdigest()


def content(path: Path) -> Iterable[bytes]:
    """The content of a file that is compared, as bytes; see the module's docstring."""
    if path.suffix == ".safetensors":
        return tensors(path)
    if path.suffix == ".mlmodel":
        return [program(path)]
    return [path.read_bytes()]


def tensors(path: Path) -> Iterator[bytes]:
    """Name, dtype, shape and bytes of each tensor of a safetensors file, in the order of their names."""
    data = path.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_size])
    for name in sorted(header.keys() - {"__metadata__"}):
        tensor = header[name]
        start, end = (8 + header_size + offset for offset in tensor["data_offsets"])
        yield f"{name} {tensor['dtype']} {tensor['shape']}".encode()
        yield data[start:end]


def program(path: Path) -> bytes:
    """The specification in a Core ML package, with its maps sorted by their keys: in the file they are in any order."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    return bytes(model.SerializeToString(deterministic=True))


def print_table(cases: Sequence[Case], ours: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]]) -> int:
    """Print a row for each output, and return how many of them differ, are missing or were not written at all."""
    print("| command | output | this checkout | the other | |\n|---|---|---|---|---|")
    differences = 0
    for case in cases:
        for output in sorted(ours[case.name].keys() | theirs[case.name].keys()):
            mine, other = (side[case.name].get(output, "missing") for side in (ours, theirs))
            same = mine == other and mine != "missing" and output != "failed"
            differences += not same
            verdict = "same" if same else "**differs**"
            print(f"| {case.name} | {output} | {shortened(mine)} | {shortened(other)} | {verdict} |")
    return differences


def shortened(text: str) -> str:
    """A SHA-256 by its first digits; a message as it is."""
    return text[:10] if len(text) == 64 and " " not in text else text


if __name__ == "__main__":
    sys.exit(main())
