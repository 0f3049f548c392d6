"""Fine-tune an adapter on a folder of your own pictures, then draw with it.

    python examples/fine_tune.py pictures/ --steps 300

A picture's caption is its file's name ("red apple.png") or the text file beside it ("red apple.txt"). Two steps, the
default, show that everything is in place; a style takes some hundred. Needs: pip install 'mlx-genmoji[scrape]'
"""

import argparse
import json
from pathlib import Path

from mlx_genmoji import Genmoji
from scrape import collect_folder
from train import run

RECIPE = {
    "objective": "lora",
    "output": "runs/mine",
    "data": {"folders": ["data/mine"], "size": 128, "caption": "{text}, mine"},
    "lora": {"rank": 8, "targets": ["conv"]},
    "validation": {"pictures": 0},
    "loop": {"steps": 2, "batch_size": 2, "learning_rate": 0.005, "warmup_steps": 1, "compiled": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune on your own pictures.")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()

    collect_folder(arguments.pictures, Path("data/mine"))
    Path("mine.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML too
    adapter = run(Path("mine.yaml"), overrides=[f"loop.steps={arguments.steps}"])
    Genmoji.load(adapters=adapter).generate("octopus", template="{prompt}, mine", seed=7)[0].save("mine.png")


if __name__ == "__main__":
    main()
