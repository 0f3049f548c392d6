"""Draw one emoji with the built-in model: on white, without its background, and for Slack.

    python examples/draw_one.py "red apple"

The first file holds the recipe that draws it again: genmoji generate --replay emoji.png
"""

import argparse
from pathlib import Path

from mlx_genmoji import Genmoji


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one emoji.")
    parser.add_argument("prompt", nargs="?", default="red apple")
    parser.add_argument("--seed", type=int, default=7, help="the same seed draws the same picture")
    arguments = parser.parse_args()

    genmoji = Genmoji.load()  # the built-in model; or a diffusers folder, or the id of one on the Hugging Face hub
    (sticker,) = genmoji.generate(arguments.prompt, seed=arguments.seed)
    sticker.save("emoji.png")
    sticker.save("emoji-transparent.png", transparent=True)
    for name, data in sticker.export("slack", "emoji-slack").items():
        Path(name).write_bytes(data)


if __name__ == "__main__":
    main()
